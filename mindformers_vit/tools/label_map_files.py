"""The label maps that the authors of LV-ViT publish, as files that training here reads.

Theirs: `<root>/<wnid>/<image>.pt`, a tensor (2, 5, h, w) float16; ours: the same in `.npy`.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindformers_vit.errors import ConfigError, DataError

logger = logging.getLogger(__name__)


def convert_label_maps(input_dir: str | Path, output_dir: str | Path) -> int:
    """Convert every `.pt` below a folder that has no `.npy` yet; returns how many were written.

    Raises:
        DataError: there is none, or one is no label map; what was written stays and is whole.
        ConfigError: torch is missing.
    """
    source, target = Path(input_dir), Path(output_dir)
    files = sorted(source.rglob("*.pt"))
    if not files:
        raise DataError(f"--input_dir: no .pt file in or below '{source}'")
    written = 0
    for path in files:
        wanted = (target / path.relative_to(source)).with_suffix(".npy")
        if wanted.is_file():
            continue
        array = _read(path)
        wanted.parent.mkdir(parents=True, exist_ok=True)
        temporary = wanted.with_suffix(".tmp")
        with temporary.open("wb") as file:
            np.save(file, array)
        temporary.replace(wanted)
        written += 1
    logger.info("%s: %d label maps written, %d were there", target, written, len(files) - written)
    return written


def _read(path: Path) -> NDArray[Any]:
    """A map as it is on the disk; nothing in the file is executed."""
    try:
        import torch
    except ImportError:
        raise ConfigError("converting label maps needs PyTorch: pip install torch") from None
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle raises nearly anything on a damaged file
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise DataError(f"{path}: cannot be read as a PyTorch file: {reason}") from error
    shape = tuple(found.shape) if isinstance(found, torch.Tensor) else None
    if shape is None or len(shape) != 4 or shape[0] != 2:
        raise DataError(f"{path}: a label map is a tensor (2, M, h, w), found {shape}")
    array: NDArray[Any] = found.numpy()
    return array
