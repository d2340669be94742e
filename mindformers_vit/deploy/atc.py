"""The command that makes a 310P's .om of an exported file."""

from __future__ import annotations

import logging
import shutil
import subprocess
from pathlib import Path

from mindformers_vit.deploy.atc_operators import ATC_OPERATORS, OPSET
from mindformers_vit.deploy.conventions import conventions_of
from mindformers_vit.deploy.model_manifest import ModelManifest, read_model_manifest
from mindformers_vit.errors import ConfigError, ExportError

logger = logging.getLogger(__name__)
OP_PRECISION = "op_precision.ini"
_FRAMEWORKS = {"onnx": "5", "mindir": "1", "air": "1"}


def atc_command(
    model: str | Path, *, batch_size: int, soc: str, output_dir: str | Path | None = None
) -> list[str]:
    """The document's command for the model's family.

    Args:
        model: the exported file, with its manifest beside it.
        batch_size: of the .om; the model's own unless that is open.
        soc: "Ascend310P3".
        output_dir: of the .om; default: beside the model.

    Raises:
        ConfigError: the model has another batch size, or operators that ATC does not know.
    """
    model = Path(model)
    manifest = read_model_manifest(model)
    if manifest.batch_size not in (None, batch_size):
        raise ConfigError(
            f"batch size {batch_size} given, but {model.name} takes {manifest.batch_size}; export "
            f"it with --batch_size {batch_size} or dynamic"
        )
    _check_operators(manifest)
    folder = Path(output_dir) if output_dir is not None else model.parent
    stem = model.stem.replace("_dynamic", f"_bs{batch_size}")
    port, conventions = manifest.input, conventions_of(manifest.family)
    shape = ",".join(str(n) for n in (batch_size, *port.shape[1:]))
    command = [
        "atc",
        f"--model={model}",
        f"--framework={_FRAMEWORKS[manifest.export_format]}",
        f"--output={folder / stem}",
        "--input_format=NCHW",
        f"--input_shape={port.name}:{shape}",
        "--log=error",
        f"--soc_version={soc}",
        *conventions.atc_flags,
    ]
    if conventions.op_precision:
        command.append(f"--op_precision_mode={folder / OP_PRECISION}")
    return command


def _check_operators(manifest: ModelManifest) -> None:
    if manifest.export_format != "onnx":
        return
    if manifest.opset != OPSET:
        logger.warning(
            "%s: opset %s; the documents' ATC reads %d by default, not every CANN reads more",
            manifest.model, manifest.opset, OPSET,
        )  # fmt: skip
        return
    unknown = sorted((manifest.operators or {}).keys() - ATC_OPERATORS)
    if unknown:
        raise ConfigError(f"{manifest.model}: ATC knows no {', '.join(unknown)} at opset {OPSET}")


def write_op_precision(model: str | Path, output_dir: str | Path | None = None) -> Path | None:
    """The op_precision.ini that the command names, where the family's document has one."""
    text = conventions_of(read_model_manifest(model).family).op_precision
    if not text:
        return None
    folder = Path(output_dir) if output_dir is not None else Path(model).parent
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / OP_PRECISION
    path.write_text(text)
    return path


def run_atc(command: list[str]) -> bool:
    """Run the command where atc is; False where it is not.

    Raises:
        ExportError: it failed, or wrote no .om.
    """
    program = shutil.which("atc")
    if program is None:
        return False
    logger.info("%s", " ".join(command))
    done = subprocess.run([program, *command[1:]], check=False)
    if done.returncode:
        raise ExportError(f"atc ended with exit code {done.returncode}")
    output = next(flag.partition("=")[2] for flag in command if flag.startswith("--output="))
    if not Path(f"{output}.om").is_file():
        raise ExportError(f"atc ended well, but there is no {output}.om")
    return True
