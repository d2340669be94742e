"""PyTorch weight files: read without executing anything in them, written at once. No MindSpore."""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mindformers_vit.checkpoint import files
from mindformers_vit.errors import CheckpointError

Array = np.ndarray[Any, Any]

CONTAINERS = ("model", "module")  # where files of a training run keep the network
_ELSEWHERE = ("model_ema", "state_dict", "state_dict_ema")  # where other projects keep it
_PREFIX = "module."  # of every name, by DataParallel
_FOREIGN = ("unsupported global", "unsupported class", "unrecognized function", "legacy .tar")
_REASON = "WeightsUnpickler error: "  # of torch, in a long text


@dataclass(frozen=True)
class TorchWeights:
    """The tensors of a file as float32 arrays, and what there was to see in it."""

    arrays: dict[str, Array]
    seen: tuple[str, ...] = ()  # "tensors under 'model'", "float16 converted to float32"
    args: Mapping[str, Any] = field(default_factory=dict)  # of the training run, if kept


def read_torch(
    path: str | Path, containers: Sequence[str] = CONTAINERS, *, container: str | None = None
) -> TorchWeights:
    """Read a PyTorch file; nothing in it is executed.

    The tensors are under `container`, else under the first key of `containers` that the file has,
    else at its top. A "module." before every name (DataParallel) is dropped.

    Raises:
        CheckpointError: torch is missing, or the file is missing, damaged or something else.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"'{path}': no such file")
    loaded = _load(path, containers)
    key, tensors = _tensors(path, loaded, containers, container)
    arrays = {str(name): _array(path, str(name), value) for name, value in tensors.items()}
    args = loaded.get("args") if key else None
    return TorchWeights(
        _without_prefix(arrays),
        tuple(_seen(key, loaded, tensors)),
        dict(vars(args)) if isinstance(args, argparse.Namespace) else {},
    )


def write_torch(path: str | Path, arrays: Mapping[str, Array], key: str = "model") -> None:
    """Write `{key: {name: tensor}}`; the old file is replaced at once or not at all.

    Raises:
        CheckpointError: it cannot be written.
    """
    torch = _torch()
    tensors = {name: torch.from_numpy(np.array(array, order="C")) for name, array in arrays.items()}
    try:
        with files.replacing(Path(path)) as temporary:
            torch.save({key: tensors}, temporary)
    except (OSError, RuntimeError) as error:  # torch's writer knows RuntimeError only
        raise CheckpointError(f"'{path}' cannot be written: {error}") from error


def _load(path: Path, containers: Sequence[str]) -> Any:
    torch = _torch()
    _check_archive(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # in files of a training run
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle raises nearly anything on a damaged file
        text = str(error).strip() or repr(error)
        if any(word in text.lower() for word in _FOREIGN):
            raise CheckpointError(_needs_more(path, text, containers)) from error
        reason = text.rpartition(_REASON)[2].strip().partition("\n")[0]
        raise CheckpointError(f"'{path}' cannot be read as a PyTorch file: {reason}") from error


def _check_archive(path: Path) -> None:
    """PyTorch stores tensors as they are: an archive that says more than it holds is no such."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            declared = sum(entry.file_size for entry in archive.infolist())
    except Exception as error:  # zipfile, too, on a damaged file
        raise CheckpointError(f"'{path}' is a damaged zip archive: {error}") from error
    if declared > path.stat().st_size:
        raise CheckpointError(
            f"'{path}' declares {declared} bytes of contents but has {path.stat().st_size}; "
            f"PyTorch does not compress, so this is not one of its files"
        )


def _needs_more(path: Path, text: str, containers: Sequence[str]) -> str:
    """What stops a file that would have to run code, and the way out."""
    lines = (line.strip() for line in text.splitlines())
    reason = next(line for line in lines if any(word in line.lower() for word in _FOREIGN))
    target = path.with_name(f"{path.name.split('.')[0]}_tensors.pth")
    keys = tuple(dict.fromkeys((*containers, *CONTAINERS, *_ELSEWHERE)))
    return (
        f"'{path}' holds more than tensors, and reading that could run any code:\n"
        f"  {reason.rpartition(_REASON)[2][:200]}\n"
        f"It is not read. If you trust where it is from, re-save its tensors in an environment "
        f"made for that, then convert {target.name}:\n"
        f'  python -c "import torch\n'
        f"f = torch.load('{path}', map_location='cpu', weights_only=False)\n"
        f"f = next((f[k] for k in {keys} if k in f), f)\n"
        f"torch.save({{'model': {{k: v for k, v in f.items() if torch.is_tensor(v)}}}}, "
        f"'{target}')\""
    )


def _tensors(
    path: Path, loaded: Any, containers: Sequence[str], container: str | None
) -> tuple[str, Mapping[Any, Any]]:
    """The key that holds the tensors ("" for none), and they."""
    torch, top = _torch(), loaded if isinstance(loaded, Mapping) else {}
    if container is not None and container not in top:
        keys = ", ".join(f"'{key}'" for key in list(top)[:10]) or "none"
        raise CheckpointError(f"'{path}' has no key '{container}' (--container); there are: {keys}")
    wanted = containers if container is None else (container,)
    key = next((key for key in wanted if key in top), "")
    tensors = top[key] if key else loaded

    def are_tensors(values: Any) -> bool:
        return isinstance(values, Mapping) and all(
            isinstance(value, torch.Tensor) for value in values.values()
        )

    if not are_tensors(tensors):
        others = [str(other) for other, values in top.items() if values and are_tensors(values)]
        hint = f"; --container {' or '.join(others)} takes those that are there" if others else ""
        raise CheckpointError(
            f"'{path}' holds no dictionary of tensors, neither at its top nor under "
            f"{' or '.join(map(repr, wanted))}{hint}"
        )
    return key, tensors


def _array(path: Path, name: str, tensor: Any) -> Array:
    """The tensor as float32; refused if it is none that a weight can be."""
    torch = _torch()
    kind = str(tensor.dtype).removeprefix("torch.")
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.dtype.is_complex:
        raise CheckpointError(f"'{path}': tensor '{name}' ({kind}) is sparse, quantized or complex")
    if tensor.device.type != "cpu" or tensor.numel() * tensor.element_size() > path.stat().st_size:
        raise CheckpointError(
            f"'{path}': tensor '{name}' declares the shape {tuple(tensor.shape)}, which is more "
            f"than the file holds"
        )
    return np.asarray(tensor.detach().float().numpy())


def _without_prefix(arrays: dict[str, Array]) -> dict[str, Array]:
    if not all(name.startswith(_PREFIX) for name in arrays):
        return arrays
    return {name.removeprefix(_PREFIX): array for name, array in arrays.items()}


def _seen(key: str, loaded: Any, tensors: Mapping[Any, Any]) -> list[str]:
    """What a reader should know of the file."""
    seen = [f"tensors under '{key}'" if key else "tensors at the top"]
    others = [str(k) for k in loaded if k != key] if key else []
    seen += [f"not read: {', '.join(others)}"] if others else []
    if tensors and all(str(name).startswith(_PREFIX) for name in tensors):
        seen.append(f"'{_PREFIX}' before every name dropped")
    kinds = {str(t.dtype).removeprefix("torch.") for t in tensors.values() if t.is_floating_point()}
    return seen + [f"{kind} converted to float32" for kind in sorted(kinds - {"float32"})]


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise CheckpointError(
            "converting needs PyTorch: pip install 'mindformers_vit[convert]'"
        ) from error
    return torch
