"""`<model>.onnx.json` beside an exported file: what it is, what it takes, how it was checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, TypeVar

from mindformers_vit.checkpoint import files
from mindformers_vit.config.strict import StrictModel, validate
from mindformers_vit.errors import ConfigError, DataError

Manifest = TypeVar("Manifest", bound=StrictModel)
Pixels = Literal["normalised", "uint8"]


class Port(StrictModel):
    """An input or output; the first axis is "batch" where any number of images may run."""

    name: str
    dtype: Literal["float32", "uint8"]
    shape: tuple[int | Literal["batch"], ...]


class FileRecord(StrictModel):
    """One file of the model, beside the manifest."""

    bytes: int
    sha256: str


class Verification(StrictModel):
    """The exported file against the network, on the same images."""

    runtime: str  # what ran the file: "onnxruntime 1.23.2"
    images: int
    max_difference: float  # of a logit
    tolerance: float | None  # None: the difference is stated, not judged (float16)
    top1_agreement: float  # share of the images


class ModelManifest(StrictModel):
    """Everything that the later steps need to know about an exported classifier."""

    format_version: Literal[1] = 1
    model: str  # name of the file
    export_format: Literal["onnx", "mindir", "air"]
    family: str
    arch: str
    num_labels: int
    id2label: dict[int, str] | None = None  # names of the classes, if the weights know them
    opset: int | None = None
    operators: dict[str, int] | None = None  # of onnx: operator -> number of nodes
    precision: Literal["float32", "float16"]
    pixels: Pixels
    pad_tokens_to: int | None = None
    input: Port
    output: Port
    files: dict[str, FileRecord]
    verification: Verification | None  # None: nothing but ATC reads the file (air)
    processor: dict[str, Any]

    @property
    def nodes(self) -> int:
        """Of an ONNX graph."""
        return sum((self.operators or {}).values())

    @property
    def batch_size(self) -> int | None:
        """Images of a run; None: any number."""
        first = self.input.shape[0]
        return first if isinstance(first, int) else None

    def render(self) -> str:
        return json.dumps(self.model_dump(mode="json"), indent=1) + "\n"


def manifest_path(model: Path) -> Path:
    """Where the manifest of an exported file is."""
    return model.with_name(f"{model.name}.json")


def parsed(kind: type[Manifest], path: Path) -> Manifest:
    """A manifest of this kind; ConfigError if the file is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path}: not a manifest: {error}") from None
    return validate(kind, values, str(path))


def read_model_manifest(model: str | Path) -> ModelManifest:
    """The manifest of an exported file, whose every byte is as it was checked.

    Raises:
        DataError: a file is missing or changed, or the manifest is about another one.
        ConfigError: the manifest is not one.
    """
    model = Path(model)
    path = manifest_path(model)
    for needed in (model, path):
        if not needed.is_file():
            raise DataError(f"{needed}: no such file; --run_mode export writes it")
    found = parsed(ModelManifest, path)
    if model.name not in found.files:
        raise DataError(f"{path}: is about {found.model}, not about {model.name}")
    for name, record in found.files.items():
        file = model.with_name(name)
        if not file.is_file():
            raise DataError(f"{file}: missing; {path.name} names it")
        if (file.stat().st_size, files.sha256(file)) != (record.bytes, record.sha256):
            raise DataError(f"{file}: not the file that was exported and checked; export it again")
    return found
