"""Any file with weights that users bring: its tensors, and the settings beside them. No MindSpore,
unless the file is MindSpore's.

A PyTorch file, a `.safetensors`, a Hugging Face folder, a MindSpore `.ckpt` (MindFormers' own).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mindformers_vit.checkpoint.weights import read_weights
from mindformers_vit.errors import CheckpointError
from mindformers_vit.models.torch_files import Array, read_torch

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
TENSORS = ("model.safetensors", "pytorch_model.bin")
_TORCH_STARTS = (b"PK\x03\x04", b"\x80")  # a zip archive, a bare pickle
_MAX_BYTES = 1 << 24


@dataclass(frozen=True)
class WeightSource:
    """Tensors by their names in the file, and what else came with them."""

    path: Path
    arrays: dict[str, Array]
    seen: tuple[str, ...]
    args: Mapping[str, Any] = field(default_factory=dict)  # of the training run
    config: Mapping[str, Any] = field(default_factory=dict)  # Hugging Face's config.json
    preprocessor: Mapping[str, Any] = field(default_factory=dict)  # and preprocessor_config.json


def read_source(
    path: str | Path, containers: Sequence[str], *, container: str | None = None
) -> WeightSource:
    """Read whatever `path` is; see `torch_files.read_torch` for the containers.

    Raises:
        CheckpointError: the file or folder is missing, damaged, something else, or holds a value
            that is not finite.
    """
    given = Path(path).expanduser()
    path = _tensors_of(given) if given.is_dir() else given
    if not path.is_file():
        raise CheckpointError(f"'{path}': no such file")
    config: Mapping[str, Any] = {}
    preprocessor: Mapping[str, Any] = {}
    if path.name in TENSORS:
        config = _read_json(path.with_name(CONFIG), required=given.is_dir())
        preprocessor = _read_json(path.with_name(PREPROCESSOR), required=False)
    args: Mapping[str, Any] = {}
    if path.suffix == ".safetensors" or (path.suffix == ".ckpt" and not _is_torch(path)):
        if container is not None:
            raise CheckpointError(f"--container: '{path}' is no PyTorch file and has no such keys")
        raw = read_weights(path)
        arrays = {name: array.astype(np.float32, copy=False) for name, array in raw.items()}
        kinds = {str(a.dtype) for a in raw.values() if a.dtype.kind == "f"} - {"float32"}
        title = "safetensors" if path.suffix == ".safetensors" else "MindSpore checkpoint"
        seen = (title, *(f"{kind} converted to float32" for kind in sorted(kinds)))
    else:
        found = read_torch(path, containers, container=container)
        arrays, args, seen = found.arrays, found.args, ("PyTorch file", *found.seen)
    _check_finite(path, arrays)
    return WeightSource(given, arrays, seen, args, config, preprocessor)


def _tensors_of(folder: Path) -> Path:
    """The file with the tensors of a Hugging Face folder."""
    for name in TENSORS:
        if (folder / name).is_file():
            return folder / name
    what = f"a Hugging Face folder holds {CONFIG} and {' or '.join(TENSORS)}; that is not there"
    shards = next(iter(sorted(folder.glob("*.index.json"))), None)
    if shards is not None:
        what = f"its tensors are in several files ({shards.name}), which is not read"
    raise CheckpointError(f"'{folder}': {what}")


def _read_json(path: Path, *, required: bool) -> Mapping[str, Any]:
    if not path.is_file():
        if required:
            raise CheckpointError(f"'{path}': no such file; it says what the tensors are of")
        return {}
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise CheckpointError(f"'{path}' is larger than {_MAX_BYTES} bytes; not read")
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"'{path}' cannot be read as JSON: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"'{path}': an object is expected, found {type(values).__name__}")
    return values


def _is_torch(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4).startswith(_TORCH_STARTS)


def _check_finite(path: Path, arrays: Mapping[str, Array]) -> None:
    bad = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if bad:
        more = f" and {len(bad) - 1} more tensors" if len(bad) > 1 else ""
        raise CheckpointError(
            f"'{path}': tensor '{bad[0]}'{more} holds values that are not finite (NaN or "
            f"infinite): the training that wrote it had failed; use an earlier file of it"
        )
