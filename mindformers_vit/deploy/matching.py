"""Which image each row of a result belongs to, and its label: by name, never by position alone.

Where a manifest of the inputs is at hand it says. Without one a name must: the image's own
(`ILSVRC2012_val_00000001_0.txt`), or a number (`input_00000_0.txt`), which counts the images as
the documents' preprocessing does: in the order of the eight digits in ImageNet's file names
(`input_`), or of the class folders (`batch-`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mindformers_vit.data.label_file import image_key, read_label_file
from mindformers_vit.data.sources import open_source
from mindformers_vit.deploy.formats import ResultFile, base_of, number_of
from mindformers_vit.deploy.preprocess import InputManifest
from mindformers_vit.errors import ConfigError, DataError

_DIGITS = re.compile(r"_(\d{8})$")


@dataclass(frozen=True)
class Labels:
    """Of the images, by key, in the order in which preprocessing numbers them.

    Attributes:
        by_key: key of an image -> class; without its folder unless there are class folders.
        where: what they are from, for messages.
        by_path: keys are paths below the image folder.
        numbered: the beginnings of the numbered names that count in this order.
        classes: names of the class folders; None for a label file.
    """

    by_key: Mapping[str, int]
    where: str
    by_path: bool
    numbered: tuple[str, ...]
    classes: tuple[str, ...] | None

    def key(self, name: str) -> str:
        """The key of an image's path below the image folder."""
        return name if self.by_path else image_key(name)


def labels_from_file(path: Path) -> Labels:
    """`<file name> <class index>` a line, as val_label.txt."""
    lines = read_label_file(path)
    digits = {key: _DIGITS.search(key) for key in lines}
    numbers = {key: int(match[1]) for key, match in digits.items() if match}
    ordered = sorted(lines, key=lambda key: numbers.get(key, 0))
    whole = sorted(numbers.values()) == list(range(1, len(lines) + 1))
    by_key = {key: lines[key].label for key in ordered}
    return Labels(by_key, str(path), False, ("input_",) if whole else (), None)


def labels_from_folders(path: Path) -> Labels:
    """Class folders; the classes are the sorted folder names.

    MAE's and BEiT's scripts count the eight digits in class folders, too, where ours and SPACH's
    count the folders: where that differs, `input_00000` tells no image.
    """
    source = open_source(path)
    assert source.labels is not None and source.classes is not None
    names = [Path(image).relative_to(path).as_posix() for image in source.paths]
    pairs = dict(zip(names, source.labels.tolist(), strict=True))
    digits = [_DIGITS.search(image_key(name)) for name in names]
    numbers = [match[1] for match in digits if match]
    ambiguous = len(numbers) == len(names) and numbers != sorted(numbers)
    numbered = ("batch-",) if ambiguous else ("batch-", "input_")
    return Labels(pairs, str(path), True, numbered, source.classes)


@dataclass(frozen=True)
class Rows:
    """One result and the keys of the images in its first rows; the rest are padding."""

    result: ResultFile
    keys: tuple[str, ...]
    rows: int | None  # that it must have; None: as many as keys


def match(
    results: Sequence[ResultFile], labels: Labels, manifest: InputManifest | None
) -> list[Rows]:
    """Every result with its images.

    Args:
        results: of one folder.
        labels: of the images.
        manifest: of the inputs; None for a folder that another program preprocessed.

    Raises:
        DataError: a result is missing, left over, or its name tells no image.
    """
    found = (
        _by_manifest(results, labels, manifest)
        if manifest is not None
        else _by_stem(results, labels)
    )
    unknown = [(rows.result.path, k) for rows in found for k in rows.keys if k not in labels.by_key]
    if unknown:
        path, key = unknown[0]
        raise DataError(f"{path}: {labels.where} has no label for '{key}' ({len(unknown)} such)")
    return found


def _by_manifest(
    results: Sequence[ResultFile], labels: Labels, manifest: InputManifest
) -> list[Rows]:
    plain = sorted(record.name for record in manifest.files)  # the oldest tool's order
    inputs = {base_of(record.name): record for record in manifest.files}
    found: dict[str, ResultFile] = {}
    for result in results:
        base = result.base
        if result.sample is not None and result.sample < len(plain):
            base = base_of(plain[result.sample])
        if base not in inputs:
            raise DataError(f"{result.path}: no input of the manifest has this result")
        if base in found:
            raise DataError(f"{result.path}: a second result of {base}; see {found[base].path}")
        found[base] = result
    missing = sorted(inputs.keys() - found.keys())
    if missing:
        raise DataError(_missing(results[0].path.parent, [f"{base}_0" for base in missing]))
    return [
        Rows(found[base], tuple(map(labels.key, record.images)), manifest.batch_size)
        for base, record in inputs.items()
    ]


def _by_stem(results: Sequence[ResultFile], labels: Labels) -> list[Rows]:
    """One image a file, by the image's own name."""
    keys = {image_key(name): name for name in labels.by_key}
    if len(keys) < len(labels.by_key):
        raise DataError(f"{labels.where}: images of one name in two folders; give --input")
    found = []
    for result in results:
        if result.sample is not None:
            raise DataError(f"{result.path}: its name has only a number; give --input")
        key = keys.get(image_key(result.base), result.base)
        found.append(Rows(result, (key,), 1))
    scored = {rows.keys[0] for rows in found}
    missing = [name for name in labels.by_key if name not in scored]
    if missing:
        raise DataError(_missing(results[0].path.parent, missing))
    return found


def is_numbered(results: Iterable[ResultFile]) -> bool:
    """Whether the names count the inputs instead of naming the images."""
    return all(number_of(result.base) is not None for result in results)


def match_numbered(
    results: Sequence[ResultFile], lengths: Sequence[int], labels: Labels
) -> list[Rows]:
    """`input_00012` of N rows each: images 12·N to 12·N + N - 1, the last file may end in padding.

    Args:
        results: of one folder.
        lengths: number of rows of each.
        labels: whose order the numbers count.

    Raises:
        ConfigError: the labels have no such order.
        DataError: a file is missing, left over, or of another length.
    """
    folder = results[0].path.parent
    unclear = [r.path for r in results if not r.base.startswith(labels.numbered)]
    if unclear:
        raise ConfigError(
            f"{unclear[0]}: its name has only a number, and the names in {labels.where} do not "
            f"tell what it counts (input_: 00000001, 00000002, ...; batch-: class folders); give "
            f"--input, whose manifest names the images"
        )
    keys, size = list(labels.by_key), lengths[0]
    wanted = {
        number: keys[number * size : (number + 1) * size] for number in range(-(-len(keys) // size))
    }
    by_number: dict[int | None, int] = {}
    for i, result in enumerate(results):
        first = results[by_number.setdefault(number_of(result.base), i)]
        if first is not result:
            raise DataError(f"{result.path}: a second result of one input; see {first.path.name}")
    missing = sorted(wanted.keys() - by_number.keys())
    if missing:
        raise DataError(_missing(folder, [f"number {number:05d}" for number in missing]))
    found = []
    for number, index in by_number.items():
        path = results[index].path
        if number not in wanted:
            raise DataError(f"{path}: {labels.where} has only {len(keys)} images")
        own = wanted[number]
        if lengths[index] not in (size, len(own)):
            raise DataError(f"{path}: {lengths[index]} rows given, expected {size}")
        found.append(Rows(results[index], tuple(own), None))
    return found


def _missing(folder: Path, names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{folder}: no result for {', '.join(names[:3])}{more}"
