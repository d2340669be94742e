"""A folder of input files through a model into a folder of results, as ais_bench does it."""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mindformers_vit.deploy import formats
from mindformers_vit.deploy.backends import Session, ais_bench_program, open_session
from mindformers_vit.deploy.formats import Array, OutFormat
from mindformers_vit.deploy.model_manifest import ModelManifest, read_model_manifest
from mindformers_vit.deploy.preprocess import InputManifest, finished_folder, read_input_manifest
from mindformers_vit.errors import ConfigError, DataError, ExportError

logger = logging.getLogger(__name__)


def infer(
    model: str | Path,
    input_dir: str | Path,
    output: str | Path,
    *,
    output_dirname: str | None = None,
    outfmt: OutFormat = "NPY",
    backend: str = "onnxruntime",
    batch_size: int | None = None,
) -> Path:
    """Run every input file; returns the folder of the results.

    Args:
        model: exported .onnx with its manifest; for ais_bench an .om.
        input_dir: .bin or .npy files of one image, or of a batch each.
        output: parent of the results' folder.
        output_dirname: its name; without one it is the time.
        outfmt: BIN (float32), NPY, or TXT with 6 decimals.
        backend: of `backends.BACKENDS`.
        batch_size: images of a run where the model leaves it open; ais_bench's `--batchsize`,
            by default that of the input files.

    Raises:
        ConfigError: the settings do not fit, or the results' folder is not empty.
        DataError: an input file is missing, left over, or of the wrong size.
        ExportError: the program failed.
    """
    name = output_dirname or datetime.now().strftime("%Y_%m_%d-%H_%M_%S")
    folder = Path(output) / name
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"{folder}: not empty; give another --output_dirname")
    inputs, prepared = checked_inputs(Path(input_dir)), read_input_manifest(input_dir)
    if backend == "ais_bench":
        size = batch_size or (prepared.batch_size if prepared else 1)
        run_ais_bench(ais_bench_command(model, input_dir, output, name, outfmt, size))
        return folder
    manifest = read_model_manifest(model)
    if prepared is not None:
        _check_made_for(manifest, prepared, Path(input_dir))
    reader = _Reader(manifest, inputs[0])
    size = reader.run_size(batch_size)
    session = open_session(Path(model), manifest, backend)
    with finished_folder(folder) as temporary:
        made, times = _run_all(session, reader, inputs, size, temporary, outfmt)
    results = {str(folder / name): files for name, files in made.items()}
    formats.write_summary(folder, results, times, size, session.name)
    throughput = 1000 * size / float(np.mean(times))
    logger.info("%d files, throughput %.2f images/s (%s)", len(results), throughput, session.name)
    return folder


def checked_inputs(folder: Path) -> list[Path]:
    """The input files in natural order; with a manifest exactly those that it names."""
    found = formats.input_files(folder)
    manifest = read_input_manifest(folder)
    if manifest is None:
        return found
    named, there = {record.name for record in manifest.files}, {path.name for path in found}
    problems = [
        f"{folder / name}: missing; the manifest names it" for name in sorted(named - there)
    ]
    problems += [f"{folder / name}: not in the manifest" for name in sorted(there - named)]
    wanted = int(np.prod(manifest.shape)) * np.dtype(manifest.dtype).itemsize * manifest.batch_size
    for path in found:
        if path.name in named and path.stat().st_size != wanted:
            problems.append(f"{path}: {path.stat().st_size} bytes given, expected {wanted}")
    if problems:
        raise DataError("\n".join(problems))
    return found


def _check_made_for(model: ModelManifest, prepared: InputManifest, folder: Path) -> None:
    """DataError unless the inputs are what the model's own processor makes."""
    wanted = {"dtype": model.input.dtype, **model.processor.get("image_processor", {})}
    given = {"dtype": prepared.dtype, **prepared.processor.get("image_processor", {})}
    keys = sorted((wanted.keys() | given.keys()) - {"type"})
    other = [key for key in keys if wanted.get(key) != given.get(key)]
    if other:
        differences = "; ".join(f"{k} {given.get(k)}, not {wanted.get(k)}" for k in other)
        raise DataError(f"{folder}: not made for {model.model}: {differences}")


@dataclass(frozen=True)
class _Reader:
    """Reads input files that must all hold the same number of images."""

    manifest: ModelManifest
    first: Path

    def read(self, path: Path) -> Array:
        port = self.manifest.input
        return formats.read_input(path, [int(n) for n in port.shape[1:]], port.dtype)

    @cached_property
    def images(self) -> int:
        """In each file."""
        return len(self.read(self.first))

    def run_size(self, given: int | None) -> int:
        """Images of a run: the model's, else those of a file, else what was asked for."""
        own = self.manifest.batch_size or (self.images if self.images > 1 else None)
        if own is not None and given not in (None, own):
            raise ConfigError(
                f"batch size {given} given, but {self.manifest.model} and its input take {own}"
            )
        return own or given or 1

    def together(self, paths: Sequence[Path], size: int) -> Array:
        """The images of some files, (N, C, H, W), filled up with the first to full runs."""
        arrays = []
        for path in paths:
            arrays.append(self.read(path))
            if len(arrays[-1]) != self.images or self.images not in (1, size):
                raise DataError(
                    f"{path}: {len(arrays[-1])} images given, expected "
                    f"{self.images if self.images in (1, size) else f'1 or {size}'}"
                )
        array = np.concatenate(arrays)
        return np.concatenate([array, *[array[:1]] * (size - len(array))])


def _run_all(
    session: Session,
    reader: _Reader,
    inputs: Sequence[Path],
    size: int,
    folder: Path,
    outfmt: OutFormat,
) -> tuple[dict[str, list[str]], list[float]]:
    """Name of a result -> input files, and the milliseconds of each run."""
    results: dict[str, list[str]] = {}
    times: list[float] = []
    files_a_run = size // reader.images or 1
    for start in tqdm(range(0, len(inputs), files_a_run), unit="run", disable=None):
        paths = inputs[start : start + files_a_run]
        images = reader.together(paths, size)
        begun = time.perf_counter()
        logits = session(images)
        times.append(1000 * (time.perf_counter() - begun))
        for number, path in enumerate(paths):
            rows = logits[number * reader.images : (number + 1) * reader.images]
            made = formats.write_result(folder, formats.base_of(path.name), rows, outfmt)
            results[made.name] = [str(path)]
    return results, times


def ais_bench_command(
    model: str | Path,
    input_dir: str | Path,
    output: str | Path,
    output_dirname: str,
    outfmt: str,
    batch_size: int,
) -> list[str]:
    """The documents' command."""
    return [
        *ais_bench_program(),
        "--model", str(model), "--input", str(input_dir), "--output", str(output),
        "--output_dirname", output_dirname, "--outfmt", outfmt, "--batchsize", str(batch_size),
    ]  # fmt: skip


def run_ais_bench(command: Sequence[str]) -> None:
    """Run it; ExportError with its exit code if it fails."""
    logger.info("%s", " ".join(command))
    done = subprocess.run(command, check=False)
    if done.returncode:
        raise ExportError(f"ais_bench ended with exit code {done.returncode}")
