"""Where samples come from: class folders, a flat folder with a label file, or a bare folder.

`open_source` reads directory listings and label files only, never an image.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindformers_vit.data.label_file import image_key, read_label_file
from mindformers_vit.errors import DataError

logger = logging.getLogger(__name__)

IMAGE_ENDINGS = (
    ".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class ImageSource:
    """The files of a data set in a fixed order; `labels` is (N,) int32 or None."""

    paths: tuple[str, ...]
    labels: NDArray[np.int32] | None = None
    classes: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, positions: list[int]) -> ImageSource:
        """The same source with these positions only, in this order."""
        labels = None if self.labels is None else self.labels[positions]
        return ImageSource(tuple(self.paths[i] for i in positions), labels, self.classes)


def open_source(
    dataset_dir: str | Path,
    label_file: str | Path | None = None,
    labelled: bool = True,
    num_samples: int | None = None,
) -> ImageSource:
    """Open a data set.

    Args:
        dataset_dir: `dataset_dir/<class>/**/<image>` (classes are the sorted folder names), or
            a flat folder with `label_file`, or, without labels, any folder (searched whole).
        label_file: lines of `<file name> <class index>`, matched by name without its ending.
        labelled: False ignores labels: every image below `dataset_dir`.
        num_samples: at most so many images, the same ones in every run: classes take turns, and
            within a class files are taken in the order of a hash of their path below
            `dataset_dir`, so a smaller number is always a subset of a larger one.

    Raises:
        DataError: a folder is missing or empty, or the label file does not fit the folder.
    """
    root = Path(dataset_dir).expanduser()
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise DataError(f"dataset_dir {root} {what}")
    if not labelled:
        source = _open_bare(root)
    elif label_file is not None:
        source = _open_flat(root, Path(label_file))
    else:
        source = _open_class_folders(root)
    if num_samples is None or num_samples >= len(source):
        return source
    if num_samples < 1:
        raise DataError(f"num_samples must be at least 1, given {num_samples}")
    return source.take(_balanced(source, root, num_samples))


def _open_bare(root: Path) -> ImageSource:
    paths = _images_below(root)
    if not paths:
        raise DataError(f"{root} holds no image; {_known_endings()}")
    return ImageSource(tuple(paths))


def _open_class_folders(root: Path) -> ImageSource:
    with os.scandir(root) as entries:
        shown = [entry for entry in entries if not entry.name.startswith(".")]
        classes = sorted(entry.name for entry in shown if entry.is_dir())
        stray = [e.name for e in shown if not e.is_dir() and _is_image(e.name)]
    if not classes:
        hint = "; for a flat folder give a label_file" if stray else ""
        raise DataError(f"{root} has no class folder (<dataset_dir>/<class>/<image>){hint}")
    if stray:
        logger.warning("%s: %d images outside the class folders are not used", root, len(stray))
    files = [_images_below(root / name) for name in classes]
    empty = [name for name, found in zip(classes, files, strict=True) if not found]
    if empty:
        raise DataError(
            f"{root}: {len(empty)} of {len(classes)} class folders hold no image: "
            f"{_some(empty)}; {_known_endings()}"
        )
    counts = [len(found) for found in files]
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), counts)
    return ImageSource(tuple(p for found in files for p in found), labels, tuple(classes))


def _open_flat(root: Path, label_file: Path) -> ImageSource:
    labels = read_label_file(label_file)
    names = sorted(entry.name for entry in os.scandir(root) if _is_image(entry.name))
    if not names:
        raise DataError(f"{root} holds no image; {_known_endings()}")
    by_key: dict[str, str] = {}
    problems = []
    for name in names:
        first = by_key.setdefault(image_key(name), name)
        if first != name:
            problems.append(f"{root}: '{first}' and '{name}' differ only in ending or case")
    unlabelled = [name for key, name in by_key.items() if key not in labels]
    if unlabelled:
        problems.append(f"{label_file}: no label for {len(unlabelled)} images: {_some(unlabelled)}")
    extra = [entry.name for key, entry in labels.items() if key not in by_key]
    if extra:
        problems.append(f"{label_file}: no image in {root} for {len(extra)} lines: {_some(extra)}")
    if problems:
        raise DataError("\n".join(problems))
    numbers = np.array([labels[image_key(name)].label for name in names], dtype=np.int32)
    return ImageSource(tuple(str(root / name) for name in names), numbers)


def _images_below(folder: Path) -> list[str]:
    """Every image under `folder`, hidden files and folders left out, in sorted order.

    Links to folders are followed, each folder once, so that a loop of links ends.
    """
    found: list[str] = []
    seen = {_identity(folder)}
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=_refuse_folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = {name: _identity(os.path.join(parent, name)) for name in folders}  # noqa: PTH118
        folders[:] = [name for name in folders if inside[name] not in seen]
        seen.update(inside.values())
        found += [os.path.join(parent, name) for name in sorted(names) if _is_image(name)]  # noqa: PTH118 - a Path for each of a million files takes seconds
    return found


def _identity(folder: str | Path) -> tuple[int, int]:
    """Device and inode of a folder, whatever path leads to it."""
    status = os.stat(folder)  # noqa: PTH116
    return status.st_dev, status.st_ino


def _refuse_folder(error: OSError) -> None:
    raise DataError(f"{error.filename}: the folder cannot be read: {error.strerror}")


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_ENDINGS) and not name.startswith(".")


def _balanced(source: ImageSource, root: Path, count: int) -> list[int]:
    """`count` positions: classes in turn, each in the order of a hash of the path; sorted."""
    by_class: dict[int, list[tuple[bytes, int]]] = {}
    for position, path in enumerate(source.paths):
        label = 0 if source.labels is None else int(source.labels[position])
        below = os.path.relpath(path, root).encode(errors="surrogateescape")
        rank = hashlib.blake2b(below, digest_size=8).digest()
        by_class.setdefault(label, []).append((rank, position))
    queues = [sorted(by_class[label]) for label in sorted(by_class)]
    turns = (item for turn in zip_longest(*queues) for item in turn if item is not None)
    return sorted(position for (_, position), _ in zip(turns, range(count), strict=False))


def _some(names: Iterable[str]) -> str:
    """The first three names, and how many more."""
    listed = list(names)
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(f"'{name}'" for name in listed[:3]) + more


def _known_endings() -> str:
    return f"image endings known: {' '.join(IMAGE_ENDINGS)} (in any case)"
