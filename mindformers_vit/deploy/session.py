"""ONNX Runtime, as this project uses it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from mindformers_vit.errors import ConfigError

Array = np.ndarray[Any, Any]


def needs(module: str) -> Any:
    """An optional package; ConfigError says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(f"{module} is not installed; pip install {module}") from None


class OnnxSession:
    """A file loaded in ONNX Runtime on the CPU; call it with a batch.

    Args:
        path: of the .onnx file.
        threads: of one run; 0: as many as there are cores.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        runtime = needs("onnxruntime")
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = threads
        self.name = f"onnxruntime {runtime.__version__}"
        self._session = runtime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name

    def __call__(self, images: Array) -> Array:
        """(B, C, H, W) -> (B, K) float32 logits."""
        logits: Array = self._session.run(None, {self._input: images})[0]
        return logits
