"""Accuracy of a folder of results, each image counted once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindformers_vit.checkpoint import files
from mindformers_vit.data.class_folders import check_class_folders
from mindformers_vit.deploy.formats import read_result, result_files
from mindformers_vit.deploy.matching import (
    Labels,
    Rows,
    is_numbered,
    labels_from_file,
    labels_from_folders,
    match,
    match_numbered,
)
from mindformers_vit.deploy.preprocess import read_input_manifest
from mindformers_vit.errors import ConfigError, DataError
from mindformers_vit.metrics import Accuracy

TOP = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Score:
    """Exact counts over a folder of results."""

    images: int
    classes: int
    hits: tuple[int, ...]  # for each of TOP

    def document(self) -> dict[str, Any]:
        """What the documents' scripts write: texts, percentages of two decimals."""
        pairs = [("Number of images", str(self.images)), ("Number of classes", str(self.classes))]
        for k, hits in zip(TOP, self.hits, strict=True):
            pairs.append((f"Top{k} accuracy", f"{100 * hits / self.images:.2f}%"))
        value = [{"key": key, "value": text} for key, text in pairs]
        return {"title": "Overall statistical evaluation", "value": value}

    def metrics(self) -> dict[str, Any]:
        """The same as numbers, with the keys of an evaluation."""
        found: dict[str, Any] = {"images": self.images, "classes": self.classes}
        found["hits"] = {f"Top{k}": hits for k, hits in zip(TOP, self.hits, strict=True)}
        shares = {f"Top{k} Accuracy": h / self.images for k, h in zip(TOP, self.hits, strict=True)}
        return found | {"metrics": shares}


def score(
    result_dir: str | Path,
    *,
    label_file: str | Path | None = None,
    image_dir: str | Path | None = None,
    input_dir: str | Path | None = None,
    num_classes: int | None = None,
) -> Score:
    """Count how often the label is among the k highest logits, k from 1 to 5.

    Args:
        result_dir: results of `infer`, of ais_bench or of ais_infer.
        label_file: `<file name> <class index>` a line; or
        image_dir: class folders.
        input_dir: the input files' folder, whose manifest names the images.
        num_classes: that every row must have.

    Raises:
        ConfigError: not exactly one source of labels.
        DataError: anything missing, left over, twice, damaged or of the wrong size; it is named.
    """
    if (label_file is None) == (image_dir is None):
        raise ConfigError("give either --label_file or --image_dir (class folders)")
    labels = (
        labels_from_file(Path(label_file))
        if label_file
        else labels_from_folders(Path(image_dir or ""))
    )
    results = result_files(Path(result_dir))
    manifest = read_input_manifest(input_dir) if input_dir is not None else None
    if input_dir is not None and manifest is None:
        raise DataError(f"{input_dir}: holds no manifest.json; `deploy preprocess` writes it")
    if manifest is not None:
        check_class_folders(manifest.id2label, labels.classes, "--image_dir")
    if manifest is None and is_numbered(results):
        lengths = [len(read_result(result.path, num_classes)) for result in results]
        return _count(match_numbered(results, lengths, labels), labels, num_classes)
    return _count(match(results, labels, manifest), labels, num_classes)


def _count(matched: Sequence[Rows], labels: Labels, num_classes: int | None) -> Score:
    accuracy, seen = Accuracy(TOP), dict[str, Path]()
    for rows in matched:
        path = rows.result.path
        logits = read_result(path, num_classes)
        num_classes = logits.shape[1]
        if labels.classes is not None and len(labels.classes) != num_classes:
            raise DataError(
                f"{labels.where}: {len(labels.classes)} class folders, but {path} has "
                f"{num_classes} classes"
            )
        if rows.rows is not None and len(logits) != rows.rows:
            raise DataError(f"{path}: {len(logits)} rows given, expected {rows.rows}")
        for key in rows.keys:
            if key in seen:
                raise DataError(f"{path}: '{key}' is in {seen[key].name}, too")
            seen[key] = path
        wanted = np.array([labels.by_key[key] for key in rows.keys])
        if wanted.size and wanted.max() >= num_classes:
            raise DataError(f"{path}: {num_classes} classes, but a label is {wanted.max()}")
        accuracy.add(logits[: len(wanted)], wanted)
    assert num_classes is not None
    images, *hits = accuracy.counts.tolist()
    return Score(images, num_classes, tuple(hits))


def write_score(found: Score, path: str | Path) -> Path:
    """The documents' JSON at `path`, and `<name>_metrics.json` beside it; returns that one."""
    path = Path(path)
    beside = path.with_name(f"{path.stem}_metrics.json")
    for target, content in ((path, found.document()), (beside, found.metrics())):
        with files.replacing(target) as temporary:
            files.write_file(temporary, (json.dumps(content, indent=1) + "\n").encode())
    return beside
