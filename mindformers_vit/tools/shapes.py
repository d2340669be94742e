"""The shapes data set: JPEG files in ImageFolder layout, made in seconds, the same from every seed.

    <output_dir>/train/<class>/           many, for pretraining without labels
    <output_dir>/train_labelled/<class>/  few per class, for fine-tuning
    <output_dir>/val/<class>/             for evaluation
    <output_dir>/shapes.json              the settings, and whether the data set is complete

Every picture is a function of (seed, split, class, index), so no file is in two splits, a larger
data set contains the smaller one, and an interrupted run is completed by running it again.
"""

from __future__ import annotations

import functools
import json
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from mindformers_vit.errors import ConfigError, DataError
from mindformers_vit.tools.shapes_picture import CLASSES, SPLITS, Difficulty, render

logger = logging.getLogger(__name__)

MANIFEST = "shapes.json"
WORTH_PROCESSES = 1000  # pictures: a process takes half a second to start, a picture a millisecond
VERSION = 1  # to be raised when the same settings would give other pictures


Item = tuple[Path, str, str, int]
"""(file, split, class, index)"""


@dataclass(frozen=True)
class ShapesSettings:
    """Everything the files depend on."""

    seed: int = 0
    image_size: int = 64
    train: int = 8000  # pictures in all, spread evenly over the classes
    labelled_per_class: int = 25
    val_per_class: int = 50
    difficulty: Difficulty = field(default_factory=Difficulty)

    def __post_init__(self) -> None:
        hard = self.difficulty
        wrong = [
            f"{name}: must be at least {least}, not {value}"
            for name, value, least in (
                ("seed", self.seed, 0),
                ("image_size", self.image_size, 16),
                ("train", self.train, len(CLASSES)),
                ("labelled_per_class", self.labelled_per_class, 1),
                ("val_per_class", self.val_per_class, 1),
            )
            if value < least
        ]
        for name in ("clutter", "noise", "contrast"):
            if not 0 <= getattr(hard, name) <= 1:
                wrong.append(f"{name}: must be between 0 and 1, not {getattr(hard, name)}")
        if not 0 < hard.min_scale <= hard.max_scale <= 1:
            wrong.append(
                "min_scale, max_scale: must be 0 < min_scale <= max_scale <= 1, "
                f"not {hard.min_scale}, {hard.max_scale}"
            )
        if not 0 <= hard.rotation <= 180:
            wrong.append(f"rotation: must be between 0 and 180 degrees, not {hard.rotation}")
        if wrong:
            raise ConfigError(wrong)

    def counts(self, split: str) -> dict[str, int]:
        """Pictures per class of that split; the first classes take what does not divide."""
        if split == "train":
            each, rest = divmod(self.train, len(CLASSES))
            return {name: each + (k < rest) for k, name in enumerate(CLASSES)}
        each = self.labelled_per_class if split == "train_labelled" else self.val_per_class
        return dict.fromkeys(CLASSES, each)

    def manifest(self) -> dict[str, Any]:
        settings = asdict(self)
        hard = settings.pop("difficulty")
        return {"data_set": "shapes", "version": VERSION, **settings, **hard}


def make_shapes_dataset(output_dir: str | Path, settings: ShapesSettings | None = None) -> int:
    """Make, complete or reuse the data set in that folder.

    Returns:
        How many pictures were written; 0 when the folder already had them all.

    Raises:
        DataError: The folder holds something else, or shapes of other settings.
    """
    settings = settings or ShapesSettings()
    root = Path(output_dir)
    _check_folder(root, settings)
    missing = [item for item in items(root, settings) if not item[0].is_file()]
    if missing:
        _write_manifest(root, settings, complete=False)
    start = time.perf_counter()
    make = functools.partial(_make, root, settings)
    if len(missing) < WORTH_PROCESSES:
        for item in missing:
            make(item)
    else:
        with multiprocessing.get_context("spawn").Pool(initializer=_leave_interrupts) as pool:
            for _ in pool.imap_unordered(make, missing, chunksize=64):
                pass  # the first error ends it
    _write_manifest(root, settings, complete=True)
    _report(root, len(missing), time.perf_counter() - start)
    return len(missing)


def _make(root: Path, settings: ShapesSettings, item: Item) -> None:
    path, split, name, index = item
    array = render(settings.seed, split, name, index, settings.image_size, settings.difficulty)
    _save(Image.fromarray(array), path, root)


def _leave_interrupts() -> None:
    """Ctrl-C reaches the whole group: the process that was called ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def items(root: Path, settings: ShapesSettings) -> Iterator[Item]:
    """Every picture there should be."""
    for split in SPLITS:
        for name, count in settings.counts(split).items():
            folder = root / split / name
            for index in range(count):
                yield folder / f"{name}_{index:06d}.jpg", split, name, index


def _check_folder(root: Path, settings: ShapesSettings) -> None:
    """Raise DataError unless the folder is new, empty, or a data set of the same settings."""
    if root.exists() and not root.is_dir():
        raise DataError(f"output_dir: '{root}' is a file, not a folder")
    if not root.exists() or all(path.name.startswith(".") for path in root.iterdir()):
        return
    file = root / MANIFEST
    if not file.is_file():
        raise DataError(
            f"output_dir: '{root}' is not empty and has no {MANIFEST}; give a new or empty folder"
        )
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        found.pop("complete", None)
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(f"'{file}' is not a manifest of a shapes data set: {error}") from error
    wanted = settings.manifest()
    different = [
        f"{key}: {found.get(key)} there, {wanted.get(key)} asked for"
        for key in sorted({*wanted, *found})
        if found.get(key) != wanted.get(key)
    ]
    if different:
        raise DataError(
            f"'{root}' holds shapes made with other settings ({'; '.join(different)}); "
            "give the same settings, or another folder"
        )
    _check_strangers(root, settings)


def _check_strangers(root: Path, settings: ShapesSettings) -> None:
    """Raise DataError for a file the data set does not have: a reader would take it for data."""
    known = {item[0] for item in items(root, settings)}
    for split in SPLITS:
        for path in sorted((root / split).rglob("*")):
            if path.is_file() and path not in known:
                raise DataError(f"'{path}' is no part of this data set; remove it first")


def _save(image: Image.Image, path: Path, root: Path) -> None:
    """Write under another name, then rename, so that a file that exists is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = root / f".{MANIFEST}.{os.getpid()}.tmp"
    image.save(temporary, "JPEG", quality=92, subsampling=0)
    temporary.replace(path)


def _write_manifest(root: Path, settings: ShapesSettings, *, complete: bool) -> None:
    root.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**settings.manifest(), "complete": complete}, indent=2) + "\n"
    file = root / MANIFEST
    if file.is_file() and file.read_text(encoding="utf-8") == text:
        return
    temporary = root / f".{MANIFEST}.{os.getpid()}.tmp"
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)


def _report(root: Path, written: int, seconds: float) -> None:
    if written:
        speed = written / max(seconds, 1e-9)
        logger.info("%s: %d pictures written, %.0f a second", root, written, speed)
    else:
        logger.info("%s: complete, nothing to do", root)
