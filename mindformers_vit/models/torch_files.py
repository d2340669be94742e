"""PyTorch weight files: read without executing anything in them, written at once. No MindSpore."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mindformers_vit.checkpoint import files
from mindformers_vit.errors import CheckpointError

Array = np.ndarray[Any, Any]

CONTAINERS = ("model", "module")  # where files of a training run keep the network


def read_torch(path: str | Path, containers: Sequence[str] = CONTAINERS) -> dict[str, Array]:
    """The tensors of a PyTorch file as float32 arrays; nothing in it is executed.

    They are under the first key of `containers` that the file has, or else at its top; a
    "module." before every name (DataParallel) is dropped.

    Raises:
        CheckpointError: torch is missing, or the file is missing, damaged or something else.
    """
    torch, path = _torch(), Path(path)
    if not path.is_file():
        raise CheckpointError(f"'{path}': no such file")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # in files of a training run
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle raises nearly anything on a damaged file
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise CheckpointError(f"'{path}' cannot be read as a PyTorch file: {reason}") from error
    tensors = loaded
    if isinstance(loaded, Mapping):
        tensors = next((loaded[key] for key in containers if key in loaded), loaded)
    if not isinstance(tensors, Mapping) or not all(
        isinstance(value, torch.Tensor) for value in tensors.values()
    ):
        raise CheckpointError(
            f"'{path}' holds no dictionary of tensors, neither at its top nor under "
            f"{' or '.join(map(repr, containers))}"
        )
    arrays = {str(name): value.detach().float().numpy() for name, value in tensors.items()}
    if all(name.startswith("module.") for name in arrays):
        arrays = {name.removeprefix("module."): array for name, array in arrays.items()}
    return arrays


def write_torch(path: str | Path, arrays: Mapping[str, Array], key: str = "model") -> None:
    """Write `{key: {name: tensor}}`; the old file is replaced at once or not at all."""
    torch = _torch()
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    with files.replacing(Path(path)) as temporary:
        torch.save({key: tensors}, temporary)


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise CheckpointError(
            "converting needs PyTorch: pip install 'mindformers_vit[convert]'"
        ) from error
    return torch
