"""Pictures from anywhere: a path, a URL, a PIL image or an array becomes a PIL RGB image.

Pixels are taken as they are stored: an EXIF rotation is not applied and transparency is dropped,
as in training.
"""

from __future__ import annotations

import io
import time
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mindformers_vit.data.decode import to_rgb
from mindformers_vit.data.sources import IMAGE_ENDINGS
from mindformers_vit.errors import DataError

MAX_BYTES = 32 * 2**20  # of a download
MAX_PIXELS = 89_478_485  # of a picture (Pillow's own limit: 256 MiB as RGB)
TIMEOUT = 20.0  # seconds without an answer


def is_url(source: Any) -> bool:
    return isinstance(source, str) and "://" in source


def load_image(source: Any, *, name: str | None = None, timeout: float = TIMEOUT) -> Image.Image:
    """The picture behind a path, an http(s) URL, a PIL image, a uint8 array or a tensor.

    Args:
        name: What an error calls the picture; its path or URL unless given.

    Raises:
        DataError: It is missing, damaged, too large, or no picture; the message names it.
    """
    name = name or image_name(source)
    if isinstance(source, Image.Image):
        return _to_rgb(source, name)
    if hasattr(source, "asnumpy"):
        source = source.asnumpy()
    if isinstance(source, np.ndarray):
        return _from_array(source, name)
    if is_url(source):
        return _decode(io.BytesIO(download(source, timeout=timeout)), name)
    if not isinstance(source, str | Path):
        raise DataError(
            f"{name}: an image is a path, a URL, a PIL image or an array, "
            f"not {type(source).__name__}"
        )
    path = Path(source).expanduser()
    if not path.is_file():
        raise DataError(f"image '{path}': {'is a folder' if path.is_dir() else 'no such file'}")
    try:
        with path.open("rb") as file:
            return _decode(file, name)
    except OSError as error:
        raise DataError(f"image '{path}' cannot be read: {error}") from error


def list_images(sources: Any) -> list[Any]:
    """One list of what is given: files and URLs as they are, a folder as its pictures, sorted.

    `sources` is one path, URL, PIL image or array, or a list of them; a folder is searched with its
    sub-folders, and hidden files are left out. A file that is named is taken whatever its ending.

    Raises:
        DataError: Nothing is given, a path does not exist, or a folder holds no picture.
    """
    found: list[Any] = []
    for source in sources if isinstance(sources, list | tuple) else [sources]:
        if not isinstance(source, str | Path) or is_url(source):
            found.append(source)
            continue
        path = Path(source).expanduser()
        if path.is_dir():
            found += _walk(path)
        elif path.is_file():
            found.append(path)
        else:
            raise DataError(f"image '{path}': no such file or folder")
    if not found:
        raise DataError("no image given: name a file, several, a folder or a URL")
    return found


def image_name(source: Any, default: str = "image") -> str:
    """What to call a picture: its path or URL, the file a PIL image came from, else `default`."""
    if isinstance(source, str | Path):
        return str(source)
    return str(getattr(source, "filename", "") or default)


def image_stem(name: str) -> str:
    """A file name without folder, ending, query and characters that trouble a file system."""
    base = unquote(urlsplit(name).path) if is_url(name) else name
    stem = Path(base.rstrip("/")).stem
    kept = "".join(c if c.isalnum() or c in "-_." else "_" for c in stem).lstrip(".")
    return kept[:100] or "image"


def _walk(folder: Path) -> list[Path]:
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in IMAGE_ENDINGS
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not found:
        raise DataError(f"folder '{folder}' holds no image ({', '.join(IMAGE_ENDINGS)})")
    return found


# ---- decoding ----


def _decode(file: Any, name: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(file)
        _check_pixels(image.width, image.height, name)
        return to_rgb(image)
    except Image.DecompressionBombError as error:
        raise DataError(f"image '{name}' is too large: {error}") from error
    except UnidentifiedImageError as error:
        raise DataError(
            f"'{name}' is not an image, or of a kind that Pillow cannot read"
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
        raise DataError(f"image '{name}' is damaged or truncated: {error}") from error


def _check_pixels(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise DataError(
            f"image '{name}' is too large: {width}x{height} pixels, at most {MAX_PIXELS} in all"
        )


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    try:
        return to_rgb(image)
    except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
        raise DataError(f"image '{name}' is damaged or truncated: {error}") from error


def _from_array(array: NDArray[Any], name: str) -> Image.Image:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    shape_fits = array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in (3, 4))
    if array.dtype != np.uint8 or not shape_fits or array.size == 0:
        raise DataError(
            f"{name}: an array must be uint8 of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), "
            f"not {array.dtype} of shape {array.shape}"
        )
    _check_pixels(array.shape[1], array.shape[0], name)
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


# ---- downloading ----


def download(url: str, *, timeout: float = TIMEOUT, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes behind an http or https URL; DataError says what failed."""
    from mindformers_vit import web  # only here: it takes a tenth of `validate`

    deadline = time.monotonic() + 3 * timeout
    too_large = DataError(f"'{url}': larger than the {max_bytes} bytes allowed")
    parts: list[bytes] = []
    size = 0
    with web.open_url(url, timeout=timeout) as response:
        if (web.content_length(response) or 0) > max_bytes:
            raise too_large
        for part in web.read_chunks(response, url):
            parts.append(part)
            size += len(part)
            if size > max_bytes:
                raise too_large
            if time.monotonic() > deadline:
                raise DataError(
                    f"'{url}': the download takes too long, given up after {size} bytes"
                )
    return b"".join(parts)
