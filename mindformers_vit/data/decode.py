"""An image file becomes an 8-bit RGB image, as torchvision's loader makes it, or a DataError.

Like torchvision (`Image.open(path).convert("RGB")`): alpha is dropped, the EXIF orientation is
NOT applied, an animation gives its first frame. Unlike it: 16-bit grey is scaled to 8 bits
instead of being clipped to white.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from mindformers_vit.errors import DataError

# between Pillow's limit of 89 million pixels and twice that it only warns
warnings.simplefilter("error", Image.DecompressionBombWarning)
_SIXTEEN_BIT = {"I;16", "I;16B", "I;16L", "I;16N", "I"}


def load_rgb(path: str | Path) -> Image.Image:
    """The image in `path`, mode RGB; DataError naming the file if it cannot be read."""
    try:
        with Image.open(path) as image:
            return to_rgb(image)
    except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
        reason = str(error) or type(error).__name__
        raise DataError(f"{path}: cannot be read as an image: {reason}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow image as mode RGB; an RGB image is loaded and returned itself, not copied."""
    image.load()
    if image.mode == "RGB":
        return image
    if image.mode in _SIXTEEN_BIT:
        grey = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in {"P", "PA"} and "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB, Pillow warns about the lost alpha
    return image.convert("RGB")
