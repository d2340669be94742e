"""A classifier to a file that another runtime takes; nothing is kept that was not checked."""

from __future__ import annotations

import inspect
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mindformers_vit import compat
from mindformers_vit.checkpoint import files
from mindformers_vit.config.schema import ExportConfig
from mindformers_vit.deploy.conventions import conventions_of
from mindformers_vit.deploy.model_manifest import (
    FileRecord,
    ModelManifest,
    Port,
    Verification,
    manifest_path,
)
from mindformers_vit.deploy.preprocess import to_pixels
from mindformers_vit.deploy.session import OnnxSession, needs
from mindformers_vit.deploy.verify import TOLERANCE, Array, check_images, compare, in_batches
from mindformers_vit.errors import ConfigError, ExportError

logger = logging.getLogger(__name__)
_ONE_FILE = 1_900_000_000  # bytes of weights; a protobuf message ends at 2 GiB


def export_network(
    network: Any, processor: Any, directory: Path, name: str, settings: ExportConfig
) -> Path:
    """Write `<name>_bs<N>[...].<ending>` and its manifest; returns the file's path.

    Args:
        network: a classifier.
        processor: what makes its input.
        directory: made if needed; files of the same names there are replaced at the end.
        name: of the model.
        settings: the `export` section of the configuration.

    Raises:
        ConfigError: this kind of export is not possible here.
        ExportError: the file does not compute what the network computes; none is left.
    """
    check_possible(settings)
    path = directory / f"{name}{_variant(settings)}.{settings.export_format}"
    with _finished_together(path) as temporary:
        write = _write_onnx if settings.export_format == "onnx" else _write_mindspore
        checked, details = write(network, processor, temporary, settings)
        manifest = ModelManifest(
            model=path.name,
            export_format=settings.export_format,
            family=network.family.name,
            arch=network.family.arch,
            num_labels=network.config.num_labels,
            id2label=network.config.id2label,
            precision=settings.precision,
            pixels=settings.pixels,
            pad_tokens_to=settings.pad_tokens_to,
            files=_records(temporary.parent),
            verification=checked,
            processor=processor.to_dict(),
            **_ports(network, settings),
            **details,
        )
        files.write_file(manifest_path(temporary), manifest.render().encode())
    logger.info("%s", summary(path, manifest))
    return path


def _variant(settings: ExportConfig) -> str:
    """What tells the files of one model apart: "_bs8", "_dynamic_fp16"."""
    parts = ["dynamic" if settings.open_batch else f"bs{settings.batch_size}"]
    if settings.pad_tokens_to is not None:
        parts.append(f"tokens{settings.pad_tokens_to}")
    if settings.pixels == "uint8":
        parts.append("uint8")
    if settings.precision == "float16":
        parts.append("fp16")
    return "".join(f"_{part}" for part in parts)


def summary(path: Path, manifest: ModelManifest) -> str:
    """One line about a finished export."""
    checked, size = manifest.verification, sum(record.bytes for record in manifest.files.values())
    opset = f", opset {manifest.opset}, {manifest.nodes} nodes" if manifest.opset else ""
    found = "not checked" if checked is None else (
        f"largest difference of a logit {checked.max_difference:.2g}, top-1 agreement "
        f"{checked.top1_agreement:.2%} on {checked.images} images in {checked.runtime}"
    )  # fmt: skip
    return f"{path}: {size / 1e6:.1f} MB{opset}; {found}"


def check_possible(settings: ExportConfig) -> None:
    """ConfigError with every wish that this kind of file, or this machine, cannot fulfil."""
    problems = []
    if settings.export_format == "onnx":
        for module in ("onnx", "onnxruntime"):
            needs(module)
        return
    if settings.export_format == "air" and compat.device() != "Ascend":
        problems.append(
            f"export.export_format: 'air' is written by MindSpore's Ascend backend only, this "
            f"process computes on {compat.device()}; allowed here: onnx, mindir"
        )
    if settings.open_batch:
        problems.append("export.batch_size: 'dynamic' is offered for onnx only; give a number")
    for key, plain in (("precision", "float32"), ("pixels", "normalised"), ("pad_tokens_to", None)):
        given = getattr(settings, key)
        if given != plain:
            problems.append(f"export.{key}: {given} given, it is offered for onnx only")
    if problems:
        raise ConfigError(problems)


@contextmanager
def _finished_together(path: Path) -> Iterator[Path]:
    """A place to write `path` and what belongs to it; they appear when the block ends well."""
    files.make_dirs(path.parent)
    with TemporaryDirectory(prefix=f".{path.stem}.", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        written = sorted(Path(folder).iterdir(), key=lambda file: file.suffix == ".json")
        for file in written:  # the manifest last: without a matching one no file is used
            files.fsync(file)
            files.rename(file, path.with_name(file.name))


def _records(folder: Path) -> dict[str, FileRecord]:
    return {
        file.name: FileRecord(bytes=file.stat().st_size, sha256=files.sha256(file))
        for file in sorted(folder.iterdir())
    }


def _ports(network: Any, settings: ExportConfig) -> dict[str, Port]:
    names, config = conventions_of(network.family.name), network.config
    batch = "batch" if settings.open_batch else settings.batch_size
    kind = "uint8" if settings.pixels == "uint8" else "float32"
    input_name = names.input_name
    if settings.export_format != "onnx":  # MindSpore names it after the parameter
        input_name = next(iter(inspect.signature(network.construct).parameters))
    pixels = (batch, config.num_channels, *config.image_hw)
    return {
        "input": Port(name=input_name, dtype=kind, shape=pixels),
        "output": Port(name=names.output_name, dtype="float32", shape=(batch, config.num_labels)),
    }


def _write_onnx(
    network: Any, processor: Any, path: Path, settings: ExportConfig
) -> tuple[Verification, dict[str, Any]]:
    import onnx

    from mindformers_vit.deploy.half import to_float16
    from mindformers_vit.deploy.onnx_export.trace import trace

    options = _graph_options(network, processor, settings)
    model = trace(network, options)
    if settings.precision == "float16":
        model = to_float16(model)
    apart = sum(len(tensor.raw_data) for tensor in model.graph.initializer) > _ONE_FILE
    onnx.save_model(
        model, path, save_as_external_data=apart, location=f"{path.name}.data" if apart else None
    )
    onnx.checker.check_model(str(path), full_check=True)
    session, size = OnnxSession(path), options.batch_size
    images = check_images(processor, network.config.image_hw, size)
    inputs = to_pixels(images, processor) if settings.pixels == "uint8" else images
    checked = compare(
        in_batches(session, inputs, size),
        _forward(network, images),
        tolerance=TOLERANCE if settings.precision == "float32" else None,
        runtime=session.name,
    )
    operators = Counter(node.op_type for node in model.graph.node)
    return checked, {"opset": settings.opset, "operators": dict(sorted(operators.items()))}


def _graph_options(network: Any, processor: Any, settings: ExportConfig) -> Any:
    from mindformers_vit.deploy.onnx_export.trace import GraphOptions

    names = conventions_of(network.family.name)
    std, mean = np.array(processor.std), np.array(processor.mean)
    in_graph = settings.pixels == "uint8"
    return GraphOptions(
        opset=settings.opset,
        batch_size=None if settings.open_batch else int(settings.batch_size),
        input_name=names.input_name,
        output_name=names.output_name,
        pad_tokens_to=settings.pad_tokens_to,
        pixel_scale=tuple(1 / (255 * std)) if in_graph else None,
        pixel_shift=tuple(-mean / std) if in_graph else None,
    )


def _forward(network: Any, images: Array) -> Array:
    import mindspore as ms

    network.set_train(False)
    logits: Array = network(ms.Tensor(images)).asnumpy()
    return logits


def _write_mindspore(
    network: Any, processor: Any, path: Path, settings: ExportConfig
) -> tuple[Verification | None, dict[str, Any]]:
    """MINDIR or AIR by MindSpore itself."""
    import mindspore as ms
    from mindspore import nn

    from mindformers_vit.kernels.cells import plain_operators

    size = int(settings.batch_size)
    images = check_images(processor, network.config.image_hw, size)
    network.set_train(False)
    kind = settings.export_format.upper()
    with plain_operators(network):
        ms.export(network, ms.Tensor(images[:size]), file_name=str(path), file_format=kind)
    if not path.is_file():  # MindSpore logs a failure to write, it does not raise
        raise ExportError(f"{path.name}: MindSpore wrote no {kind} file")
    files.set_default_mode(path)
    if kind == "AIR":
        logger.warning("%s: not checked, because nothing but ATC reads AIR", path.name)
        return None, {}
    loaded = nn.GraphCell(ms.load(str(path)))
    checked = compare(
        in_batches(lambda x: _forward(loaded, x), images, size),
        _forward(network, images),
        tolerance=TOLERANCE,
        runtime=f"mindspore {ms.__version__}",
    )
    return checked, {}
