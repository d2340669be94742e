"""Hugging Face's names and files: rows of a block, `config.json`, `preprocessor_config.json`.
No MindSpore here, and no transformers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mindformers_vit.checkpoint import files
from mindformers_vit.checkpoint.weights import write_weights
from mindformers_vit.data.fields import RESAMPLING, height_width
from mindformers_vit.errors import CheckpointError
from mindformers_vit.models.conversion_table import Array, Row, linear_rows, norm_rows
from mindformers_vit.models.image_processor import ImageProcessor
from mindformers_vit.models.vision_config import VisionConfig
from mindformers_vit.models.weight_source import CONFIG, PREPROCESSOR, TENSORS

_OURS_ONLY = {"checkpoint_name_or_path", "compute_dtype", "post_layernorm_residual", "loss_type"}
_OURS_ONLY |= {"id2label", "num_labels"}  # written in Hugging Face's way
_PLACEHOLDER = re.compile(r"LABEL_\d+")
_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


def block_rows(theirs: str, ours: str) -> list[Row]:
    """A block but for what differs: the biases of q, k and v."""
    return [
        *norm_rows(f"{theirs}.layernorm_before", f"{ours}.norm1"),
        *norm_rows(f"{theirs}.layernorm_after", f"{ours}.norm2"),
        qkv_row(theirs, ours, "weight"),
        *linear_rows(f"{theirs}.attention.output.dense", f"{ours}.attn.proj"),
        *linear_rows(f"{theirs}.intermediate.dense", f"{ours}.mlp.fc1"),
        *linear_rows(f"{theirs}.output.dense", f"{ours}.mlp.fc2"),
    ]


def qkv_row(theirs: str, ours: str, leaf: str) -> Row:
    """Their three layers are the three thirds of ours."""
    layers = ("query", "key", "value")
    parts = tuple(f"{theirs}.attention.attention.{layer}.{leaf}" for layer in layers)
    return Row(parts, f"{ours}.attn.qkv.{leaf}")


def embedding_rows(name: str) -> list[Row]:
    """The class token and the patch projection."""
    return [
        Row(f"{name}.cls_token", "cls_token"),
        *linear_rows(f"{name}.patch_embeddings.projection", "patch_embed.proj"),
    ]


def settings_of(config_class: type[VisionConfig], config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a `config.json` that ours knows; names of classes unless they are made up."""
    known = set(config_class.model_fields) - _OURS_ONLY
    settings = {key: value for key, value in config.items() if key in known}
    labels = config.get("id2label")
    if "id2label" not in config_class.model_fields or not isinstance(labels, Mapping):
        return settings
    made_up = all(_PLACEHOLDER.fullmatch(str(label)) for label in labels.values())
    return settings if made_up else {**settings, "id2label": dict(labels)}


def config_of(config: VisionConfig, architecture: str, model_type: str) -> dict[str, Any]:
    """Our settings as a `config.json`."""
    values: dict[str, Any] = {"architectures": [architecture], "model_type": model_type}
    values |= {"dtype": "float32"}
    values |= {key: value for key, value in config.settings().items() if key not in _OURS_ONLY}
    labels = getattr(config, "id2label", None)
    if labels is not None:
        values["id2label"] = {str(index): name for index, name in labels.items()}
        values["label2id"] = {name: index for index, name in labels.items()}
    elif hasattr(config, "num_labels"):
        values["num_labels"] = config.num_labels
    return values


def preprocessor_of(processor: ImageProcessor) -> dict[str, Any]:
    """Our preprocessing as a `preprocessor_config.json`.

    The type is one that resizes the shorter side and then crops, as ours does; the ViT's own
    would squeeze the picture into the size.
    """
    resize = processor.resize_to
    size = {"shortest_edge": resize} if isinstance(resize, int) else _height_width(resize)
    return {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": size,
        "resample": int(RESAMPLING[processor.interpolation]),
        "do_center_crop": True,
        "crop_size": _height_width(height_width(processor.size)),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(processor.mean),
        "image_std": list(processor.std),
    }


def processor_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """A `preprocessor_config.json` as settings of our image processor; {} tells nothing.

    Raises:
        CheckpointError: it does something that ours does not.
    """
    factor = values.get("rescale_factor", 1 / 255)
    known = isinstance(factor, (int, float)) and abs(255 * factor - 1) < 1e-4
    if not (known and values.get("do_rescale", True)):
        raise CheckpointError(
            f"{PREPROCESSOR}: do_rescale {values.get('do_rescale', True)}, rescale_factor "
            f"{factor}; pixels are always divided by 255 here"
        )
    settings: dict[str, Any] = {}
    if values.get("do_normalize", True):
        named = {"mean": "image_mean", "std": "image_std"}
        settings = {ours: values[theirs] for ours, theirs in named.items() if theirs in values}
    elif "do_normalize" in values:
        settings = {"mean": [0.0] * 3, "std": [1.0] * 3}
    if "resample" in values:
        number = values["resample"]
        if not isinstance(number, int) or number not in _RESAMPLE:
            raise CheckpointError(f"{PREPROCESSOR}: resample {number!r}; known: {[*_RESAMPLE]}")
        settings["interpolation"] = _RESAMPLE[number]
    size = values.get("size")
    if isinstance(size, Mapping):
        size = size.get("shortest_edge") or [size.get("height"), size.get("width")]
    elif size is not None:
        size = [size, size]  # files of before 2022
    return settings | ({} if size is None else {"resize": size})


def timm_processor_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The `pretrained_cfg` in the `config.json` of timm's folders as settings of ours."""
    values = config.get("pretrained_cfg")
    if not isinstance(values, Mapping):
        return {}
    settings = {key: values[key] for key in ("mean", "std", "interpolation") if key in values}
    match values:  # the crop's share of the shorter side
        case {"input_size": [*_, int(side)], "crop_pct": float(share)} if 0.5 <= share <= 1.0:
            settings["resize"] = int(side / share)
    return settings


def write_folder(
    folder: Path,
    arrays: Mapping[str, Array],
    config: Mapping[str, Any],
    preprocessor: Mapping[str, Any],
) -> None:
    """Write what `from_pretrained` of transformers reads; the tensors appear last.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    try:
        with ExitStack() as stack:
            tensors = stack.enter_context(files.replacing(folder / TENSORS[0]))
            for name, values in ((CONFIG, config), (PREPROCESSOR, preprocessor)):
                target = stack.enter_context(files.replacing(folder / name))
                target.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
            write_weights(tensors, arrays, {"format": "pt"})
    except OSError as error:
        raise CheckpointError(f"'{folder}' cannot be written: {error}") from error


def _height_width(size: tuple[int, int]) -> dict[str, int]:
    return dict(zip(("height", "width"), size, strict=True))
