"""Weight files: a name -> array dictionary in `.safetensors` or MindSpore's `.ckpt`.

`.safetensors` needs no MindSpore; `.ckpt` imports it when used. Whatever is wrong with a file is a
CheckpointError that names it, but for one thing that the `.ckpt` format cannot tell: a file cut
exactly between two tensors only lacks names (`merge` and a manifest notice). Writing replaces the
old file at once or not at all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from mindformers_vit.checkpoint import files
from mindformers_vit.errors import CheckpointError

FORMATS = ("safetensors", "ckpt")

Arrays = dict[str, np.ndarray[Any, Any]]
_CRC_TAIL = 17  # b"crc_num" and ten digits close a .ckpt that carries a checksum


def read_weights(path: str | Path) -> Arrays:
    """Every tensor of a weight file by name, in the file's own type.

    bfloat16, which numpy lacks, comes as float32 (exact); float16 stays float16; float8 and the
    like are refused. Raises CheckpointError for a file that is missing, damaged or something else.
    """
    path = Path(path)
    read = _read_ckpt if _format(path) == "ckpt" else _read_safetensors
    if not path.is_file():
        reason = "is a directory" if path.is_dir() else "no such file"
        raise CheckpointError(f"{path}: {reason}")
    try:
        return read(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise CheckpointError(f"{path}: damaged or not a weight file: {reason}") from error


def write_weights(
    path: str | Path,
    tensors: Mapping[str, np.ndarray[Any, Any]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write `tensors` durably to `path`, whose ending names the format.

    `metadata` goes into the header of a `.safetensors`; a `.ckpt` has no place for it, and giving
    it there is an error. Raises CheckpointError, with the old file untouched.
    """
    path = Path(path)
    file_format = _format(path)
    if file_format == "ckpt" and metadata:
        raise CheckpointError(f"{path}: a .ckpt holds no metadata; use .safetensors")
    arrays = {name: _plain(path, name, array) for name, array in tensors.items()}
    try:
        with files.replacing(path) as temporary:
            if file_format == "ckpt":
                _write_ckpt(temporary, arrays)
            else:
                _write_safetensors(temporary, arrays, metadata)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error}") from error


def _format(path: Path) -> str:
    ending = path.suffix.removeprefix(".")
    if ending not in FORMATS:
        raise CheckpointError(
            f"{path}: not a weight file; it must end with .safetensors or .ckpt "
            f"(PyTorch's are converted first: docs/weights.md)"
        )
    return ending


def _plain(path: Path, name: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array in C order (the safetensors library writes strides wrong); refuse odd types."""
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise CheckpointError(f"{path}: tensor '{name}' has type {array.dtype}, which is not kept")
    return np.ascontiguousarray(array).reshape(array.shape)


# ---- safetensors


def _read_safetensors(path: Path) -> Arrays:
    with safetensors.safe_open(path, framework="np") as file:
        kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
        odd = {n: k for n, k in kinds.items() if k not in {*safetensors.numpy._TYPES, "BF16"}}
        if odd:
            name, kind = next(iter(odd.items()))
            raise CheckpointError(f"{path}: tensor '{name}' has type {kind}, which is not read")
        if "BF16" not in kinds.values():
            return {name: file.get_tensor(name) for name in kinds}
    return {
        name: _decode(part["dtype"], part["data"]).reshape(part["shape"])
        for name, part in safetensors.deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    }


def _decode(kind: str, data: bytearray) -> np.ndarray[Any, Any]:
    if kind == "BF16":  # bfloat16 is the upper half of a float32
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view(np.float32)
    return np.frombuffer(data, safetensors.numpy._TYPES[kind])


def _write_safetensors(path: Path, arrays: Arrays, metadata: Mapping[str, str] | None) -> None:
    """As `safetensors.numpy.save_file`, which first makes a copy of everything in memory."""
    kinds = {np.dtype(dtype): kind for kind, dtype in safetensors.numpy._TYPES.items()}
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    parts, end = [], 0
    for name in sorted(arrays, key=lambda name: (-arrays[name].itemsize, name)):  # aligned
        array = arrays[name]
        begin, end = end, end + array.nbytes
        kind, shape = kinds[array.dtype.newbyteorder("=")], list(array.shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        parts.append(little.reshape(-1).view(np.uint8).data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    files.write_file(path, len(text).to_bytes(8, "little"), text, *parts)


# ---- MindSpore's protobuf


def _read_ckpt(path: Path) -> Arrays:
    import mindspore

    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _CRC_TAIL))
        has_crc = file.read(7) == b"crc_num"
    loaded = mindspore.load_checkpoint(str(path), crc_check=has_crc)
    return {name: _to_numpy(path, name, value) for name, value in loaded.items()}


def _to_numpy(path: Path, name: str, value: Any) -> np.ndarray[Any, Any]:
    if isinstance(value, str):
        raise CheckpointError(f"{path}: entry '{name}' is a text, not a tensor")
    import mindspore

    if value.dtype == mindspore.bfloat16:
        value = value.astype(mindspore.float32)
    array: np.ndarray[Any, Any] = value.asnumpy()
    return array


def _write_ckpt(path: Path, arrays: Arrays) -> None:
    import mindspore

    for name, array in arrays.items():
        if math.prod(array.shape) == 0:
            raise CheckpointError(f"{path}: tensor '{name}' is empty; a .ckpt cannot hold that")
    entries = [{"name": name, "data": mindspore.Tensor(a)} for name, a in arrays.items()]
    mindspore.save_checkpoint(entries, str(path), crc_check=True)
    files.set_default_mode(path)
