"""What can run a model in the place of a 310P, each by one name."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mindformers_vit.deploy.model_manifest import ModelManifest
from mindformers_vit.deploy.session import Array, OnnxSession, needs
from mindformers_vit.errors import ConfigError


class Session(Protocol):
    """A loaded model; called with a batch of its input it returns the logits."""

    name: str

    def __call__(self, images: Array) -> Array: ...


class OpenVinoSession:
    """A .onnx file in OpenVINO on the CPU, in float32."""

    def __init__(self, path: Path) -> None:
        runtime = needs("openvino")
        self.name = f"openvino {runtime.__version__}"
        core = runtime.Core()
        options = {"INFERENCE_PRECISION_HINT": "f32"}
        self._model: Any = core.compile_model(core.read_model(str(path)), "CPU", options)

    def __call__(self, images: Array) -> Array:
        """(B, C, H, W) -> (B, K) float32 logits."""
        return np.array(self._model([images])[self._model.output(0)])


SESSIONS: dict[str, Callable[[Path], Session]] = {
    "onnxruntime": OnnxSession,
    "openvino": OpenVinoSession,
}


def open_session(model: Path, manifest: ModelManifest, backend: str) -> Session:
    """Load an exported file; ConfigError if it is no .onnx or the backend is not installed."""
    if manifest.export_format != "onnx":
        raise ConfigError(
            f"{model}: {backend} runs .onnx files only; --export_format onnx writes one"
        )
    return SESSIONS[backend](model)


BACKENDS = (*SESSIONS, "ais_bench")


def ais_bench_program() -> list[str]:
    """How ais_bench is started here; ConfigError if it is not installed."""
    found = shutil.which("ais_bench")
    if found:
        return [found]
    if find_spec("ais_bench") is not None:
        return [sys.executable, "-m", "ais_bench"]
    raise ConfigError(
        "ais_bench is not installed (neither the program nor the Python module); it comes with "
        "Ascend's tools. Elsewhere --backend onnxruntime does its work"
    )
