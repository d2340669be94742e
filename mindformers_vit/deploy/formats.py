"""The files of ais_bench and of the documents' scripts: names, tensors, summaries.

Inputs are raw C-order bins without a header. A result is called `<input up to its first
dot>_<output number>.<bin|npy|txt>`; the summary is `<folder>_summary.json` beside the folder, or
`sumary.json` in it where the old ais_infer wrote it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mindformers_vit.errors import DataError

Array = np.ndarray[Any, Any]
OutFormat = Literal["BIN", "NPY", "TXT"]
OUT_FORMATS: tuple[OutFormat, ...] = ("BIN", "NPY", "TXT")
_RESULT = re.compile(r"(?P<base>.+)_(?P<output>\d+)\.(?P<kind>bin|npy|txt)")
_OLDEST = re.compile(r"sample_id_(?P<number>\d+)_output_(?P<output>\d+)\.(?P<kind>bin|npy|txt)")
_NUMBERED = re.compile(r"(?:input_|batch-)(\d{5,})")


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sorts as ais_bench does: runs of digits by their value."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


def numbered_name(number: int) -> str:
    """The input file of that number, as the documents' scripts call it."""
    return f"input_{number:05d}.bin"


def number_of(base: str) -> int | None:
    """The number in `input_00012` or `batch-00012`; None for another name."""
    match = _NUMBERED.fullmatch(base)
    return int(match[1]) if match else None


def base_of(name: str) -> str:
    """The part of an input's name that its result carries: up to the first dot."""
    return name.partition(".")[0]


def input_files(folder: Path) -> list[Path]:
    """The .bin and .npy files of a folder in natural order; DataError if there is none."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of input files")
    found = [path for path in folder.iterdir() if path.suffix in (".bin", ".npy")]
    if not found:
        raise DataError(f"{folder}: holds no .bin or .npy file")
    found.sort(key=lambda path: natural_key(path.name))
    seen: dict[str, Path] = {}
    for path in found:
        first = seen.setdefault(base_of(path.name), path)
        if first is not path:
            raise DataError(f"{path}: its result would have the name of {first.name}'s")
    return found


def read_input(path: Path, shape: Sequence[int], dtype: str) -> Array:
    """The images of an input file, (N, *shape); DataError unless it holds whole ones."""
    one = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if path.suffix == ".npy":
        array = _load_npy(path)
        if array.dtype != dtype or array.shape[-len(shape) :] != tuple(shape):
            raise DataError(
                f"{path}: {array.dtype} {array.shape} given, expected {dtype} {tuple(shape)}"
            )
        return array.reshape(-1, *shape)
    size = path.stat().st_size
    if size == 0 or size % one:
        raise DataError(
            f"{path}: {size} bytes given, expected a multiple of {one} ({dtype} {tuple(shape)})"
        )
    return np.fromfile(path, dtype).reshape(-1, *shape)


def _load_npy(path: Path) -> Array:
    try:
        array: Array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path}: not a .npy file: {error}") from None
    return array


def write_result(folder: Path, base: str, rows: Array, outfmt: OutFormat) -> Path:
    """The logits (N, K) of one input file, as ais_bench writes its first output."""
    path = folder / f"{base}_0.{outfmt.lower()}"
    if outfmt == "BIN":
        rows.astype("<f4").tofile(path)
    elif outfmt == "NPY":
        np.save(path, rows)
    else:
        path.write_text("".join("".join(f"{x:f} " for x in row) + "\n" for row in rows))
    return path


@dataclass(frozen=True)
class ResultFile:
    """A result by its name: whose it is."""

    path: Path
    base: str  # of the input file; "" where the name has only its number
    sample: int | None = None  # the number in the oldest tool's names, by plain order


def result_files(folder: Path) -> list[ResultFile]:
    """The results in a folder; summaries are passed over.

    Raises:
        DataError: a file is none of these, there are two of one input, or there is none.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of results")
    found: dict[tuple[str, int | None], ResultFile] = {}
    for path in sorted(folder.iterdir(), key=lambda path: natural_key(path.name)):
        if path.suffix == ".json" and "sum" in path.name:
            continue
        result = _result_file(path)
        first = found.setdefault((result.base, result.sample), result)
        if first is not result:
            raise DataError(f"{path}: a second result of one input; the other is {first.path.name}")
    if not found:
        hint = ", ".join(sorted(p.name for p in folder.iterdir() if p.is_dir())[:3])
        below = f"; it has the folders {hint}" if hint else ""
        raise DataError(f"{folder}: holds no result (<input>_0.bin, .npy or .txt){below}")
    return list(found.values())


def _result_file(path: Path) -> ResultFile:
    match = _OLDEST.fullmatch(path.name) or _RESULT.fullmatch(path.name)
    if match is None or not path.is_file():
        raise DataError(f"{path}: not a result; expected <input>_0.bin, .npy or .txt")
    if int(match["output"]) != 0:
        raise DataError(f"{path}: output {match['output']} given, a classifier has output 0 only")
    groups = match.groupdict()
    if "number" in groups:
        return ResultFile(path, "", int(groups["number"]))
    return ResultFile(path, groups["base"])


def read_result(path: Path, num_classes: int | None) -> Array:
    """The logits (N, K) of a result file.

    Args:
        path: .bin, .npy or .txt.
        num_classes: K; None: as the file says, which a .bin does not.

    Raises:
        DataError: the file is damaged, not finite, or of another number of classes.
    """
    if path.suffix == ".txt":
        rows = _read_text(path)
    elif path.suffix == ".npy":
        rows = _load_npy(path)
        rows = rows.reshape(-1, rows.shape[-1]) if rows.ndim else rows.reshape(1, 1)
    else:
        rows = _read_bin(path, num_classes)
    if rows.size == 0 or rows.dtype.kind not in "fiu":
        raise DataError(f"{path}: holds no numbers")
    if num_classes is not None and rows.shape[1] != num_classes:
        raise DataError(f"{path}: rows of {rows.shape[1]} numbers, expected {num_classes} classes")
    if not np.isfinite(rows).all():
        raise DataError(f"{path}: holds a number that is not finite")
    return rows


def _read_text(path: Path) -> Array:
    try:
        rows = [[float(x) for x in line.split()] for line in path.read_text().splitlines()]
    except ValueError as error:
        raise DataError(f"{path}: not a table of numbers: {error}") from None
    if len({len(row) for row in rows}) != 1:
        raise DataError(f"{path}: empty, or its lines have different lengths")
    return np.array(rows, np.float64)


def _read_bin(path: Path, num_classes: int | None) -> Array:
    if num_classes is None:
        raise DataError(f"{path}: a .bin does not say how many classes it has; give --num_classes")
    size = path.stat().st_size
    if size == 0 or size % (4 * num_classes):
        raise DataError(
            f"{path}: {size} bytes given, expected a multiple of {4 * num_classes} "
            f"({num_classes} classes, float32)"
        )
    return np.fromfile(path, "<f4").reshape(-1, num_classes)


def write_summary(
    folder: Path,
    results: Mapping[str, Sequence[str]],
    times: Sequence[float],
    batch_size: int,
    runtime: str,
) -> Path:
    """`<folder>_summary.json` with ais_bench's keys.

    Args:
        folder: of the results.
        results: result file -> input files.
        times: milliseconds of each run, without reading and writing.
        batch_size: images of a run.
        runtime: what computed, under the key "runtime".
    """
    pairs = enumerate(results.items())
    summary = {
        "filesinfo": {str(i): {"infiles": list(v), "outfiles": [k]} for i, (k, v) in pairs},
        "NPU_compute_time": timing(times),
        "H2D_latency": timing([0.0]),
        "D2H_latency": timing([0.0]),
        "throughput": 1000 * batch_size / float(np.mean(times)),
        "runtime": runtime,
    }
    path = folder.with_name(f"{folder.name}_summary.json")
    path.write_text(json.dumps(summary, indent=1) + "\n")
    return path


def timing(times: Sequence[float]) -> dict[str, float]:
    """ais_bench's figures of some milliseconds."""
    return {
        "min": float(np.min(times)),
        "max": float(np.max(times)),
        "mean": float(np.mean(times)),
        "median": float(np.median(times)),
        "percentile(99%)": float(np.percentile(times, 99)),
    }
