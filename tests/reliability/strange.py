"""A data set with one of each strange image; which of them cannot be used, and why."""

from __future__ import annotations

import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tests.engine import lab

BAD = {  # name -> part of the reason
    "cut.jpg": "truncated",
    "empty.jpg": "cannot identify image file",
    "text.png": "cannot identify image file",
    "head_only.png": "",
    "bomb.png": "exceeds limit of",
    "nowhere.jpg": "No such file",
}
GOOD = (
    "cmyk.jpg", "sixteen.png", "palette.png", "palette_alpha.png", "animated.gif", "exif.jpg",
    "grey.png", "one_bit.png", "one_pixel.png", "long.png", "float.tiff", "no_ending_lies.jpg",
)  # fmt: skip


def write_good(folder: Path) -> None:
    image = lab.picture(77)
    image.convert("CMYK").save(folder / "cmyk.jpg")
    wide = (np.asarray(image.convert("L")).astype(np.uint16) * 257).astype(np.uint16)
    Image.fromarray(wide).save(folder / "sixteen.png")
    image.convert("P").save(folder / "palette.png")
    image.convert("P").save(folder / "palette_alpha.png", transparency=3)
    image.save(folder / "animated.gif", save_all=True, append_images=[lab.picture(78)])
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(folder / "exif.jpg", exif=exif)
    image.convert("L").save(folder / "grey.png")
    image.convert("1").save(folder / "one_bit.png")
    image.resize((1, 1)).save(folder / "one_pixel.png")
    image.resize((3000, 1)).save(folder / "long.png")
    image.convert("F").save(folder / "float.tiff")
    image.save(folder / "no_ending_lies.jpg", format="PNG")


def write_bad(folder: Path) -> None:
    jpeg = folder / "cut.jpg"
    lab.picture(79).save(jpeg)
    jpeg.write_bytes(jpeg.read_bytes()[: jpeg.stat().st_size * 3 // 4])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("not an image")
    (folder / "head_only.png").write_bytes(png(48, 40)[:60])
    (folder / "bomb.png").write_bytes(png(50_000, 50_000))
    (folder / "nowhere.jpg").symlink_to("nowhere_else")


def png(width: int, height: int) -> bytes:
    """A PNG that claims this size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rest = chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rest


def strange_folder(root: Path) -> Path:
    """Three classes of eight plain images, the strange ones among them."""
    lab.class_folders(root, 8)
    write_good(root / "bee")
    write_bad(root / "ant")
    return root


def planted(root: Path) -> list[str]:
    """The files that cannot be used."""
    return sorted(str(root / "ant" / name) for name in BAD)


def without_bad(root: Path, target: Path) -> Path:
    """The same data set, had the bad files never been there."""
    shutil.copytree(root, target, symlinks=True)
    for path in planted(root):
        (target / "ant" / Path(path).name).unlink()
    return target
