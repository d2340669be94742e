"""The two steps that take most of the time beside decoding, in compiled code: same bits, sooner.

`kernels.library` compiles it once for the machine. Where it cannot, or where the Pillow that is
installed resizes in another way, Pillow and numpy do the work.
"""

from __future__ import annotations

import ctypes
import functools
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Resampling

from mindformers_vit.kernels.library import compiled

logger = logging.getLogger(__name__)
Box = tuple[int, int, int, int]
"""(left, top, right, bottom) in pixels, as `Image.crop` takes it."""
Float = NDArray[np.float32]


class _ArrowArray(ctypes.Structure):
    """As the Arrow C data interface lays it out, up to what is read here."""


_ArrowArray._fields_ = [
    *((name, ctypes.c_int64) for name in ("length", "nulls", "offset", "buffers_", "children_")),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_ArrowArray))),
]
_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype, _pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


def resize(image: Image.Image, box: Box, size: tuple[int, int], how: Resampling) -> Image.Image:
    """`image.crop(box).resize(size, how)`, `size` being (width, height)."""
    library = _library()
    result = _resize(library, image, box, size, how) if library else None
    return image.crop(box).resize(size, how) if result is None else result


def normalize(image: Image.Image, table: Float, out: Float) -> None:
    """Write the number of each pixel in the table (3, 256) of its channel to `out` (3, H, W)."""
    library, pixels = _library(), _address(image)
    if library is not None and pixels is not None and out.flags.c_contiguous:
        count = image.width * image.height
        library.normalize_pixels(pixels[0], count, table.ctypes.data, out.ctypes.data)
        return
    for plane, values, row in zip(out, np.asarray(image).transpose(2, 0, 1), table, strict=True):
        np.take(row, values, out=plane, mode="clip")


@functools.cache
def _library() -> Any:
    """The compiled code; None: there is none."""
    path = compiled()
    if path is None:
        return None
    library = ctypes.CDLL(str(path))
    address, number = ctypes.c_void_p, ctypes.c_int64
    library.resize_pixels.argtypes = [
        address, number, ctypes.POINTER(number), number, number, ctypes.c_int, address,
    ]  # fmt: skip
    library.normalize_pixels.argtypes = [address, number, address, address]
    library.normalize_pixels.restype = None
    if not _agrees(functools.partial(_resize, library)):
        logger.info("Pillow's own resizing, which is slower: another Pillow than is known")
        return None
    return library


def _agrees(function: Callable[..., Image.Image | None]) -> bool:
    """Whether it does what this Pillow does, also where Pillow 13 changes the order of passes."""
    noise = np.random.default_rng(0).integers(0, 256, (301, 90, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    for how in (Resampling.BILINEAR, Resampling.BICUBIC):
        for size in ((80, 20), (33, 301), (200, 310)):
            found = function(image, (3, 1, 88, 301), size, how)
            wanted = image.crop((3, 1, 88, 301)).resize(size, how)
            if found is None or found.tobytes() != wanted.tobytes():
                return False
    return True


def _resize(
    library: Any, image: Image.Image, box: Box, size: tuple[int, int], how: Resampling
) -> Image.Image | None:
    left, top, right, bottom = box
    inside = 0 <= left < right <= image.width and 0 <= top < bottom <= image.height
    too_tall = bottom - top > 100 * (right - left)  # Pillow takes the columns first there
    if not inside or too_tall or how not in (Resampling.BILINEAR, Resampling.BICUBIC):
        return None
    pixels = _address(image)
    if pixels is None:
        return None
    width, height = size
    rows = np.empty((height, -(-width // 4) * 16), np.uint8)
    part = (ctypes.c_int64 * 4)(left, top, right - left, bottom - top)
    cubic = how == Resampling.BICUBIC
    if library.resize_pixels(pixels[0], image.width, part, width, height, cubic, rows.ctypes.data):
        return None
    return Image.frombytes("RGB", size, rows, "raw", "RGBX", rows.shape[1])


def _address(image: Image.Image) -> tuple[int, object] | None:
    """Where the pixels are, 4 bytes each, and what keeps them there; None: not in one piece."""
    try:
        capsule = image.__arrow_c_array__()[1]
    except (AttributeError, ValueError):  # an older Pillow; more than 4 million pixels
        return None
    if image.mode != "RGB":
        return None
    array = _ArrowArray.from_address(_pointer_of(capsule, b"arrow_array"))
    return array.children[0].contents.buffers[1], capsule
