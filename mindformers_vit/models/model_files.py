"""The two files of a saved network: weights, and the yaml that makes them a model. No MindSpore,
unless the weights are a `.ckpt`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from mindformers_vit.checkpoint import files
from mindformers_vit.checkpoint.weights import write_weights
from mindformers_vit.errors import CheckpointError
from mindformers_vit.models.image_processor import Processor
from mindformers_vit.models.loading import Array
from mindformers_vit.models.vision_config import VisionConfig
from mindformers_vit.registry import ModelFamily


def yaml_sections(
    family: ModelFamily, config: VisionConfig, processor: Processor | None = None
) -> dict[str, Any]:
    """`model` and `processor` of the yaml; the family's own processor if None."""
    if processor is None:
        processor = family.load_processor_class().for_network(config)
    settings = {"type": type(config).__name__, **config.settings(), "checkpoint_name_or_path": None}
    return {
        "model": {"arch": {"type": family.arch}, "model_config": settings},
        "processor": processor.to_dict(),
    }


def write_model(path: Path, arrays: Mapping[str, Array], sections: Mapping[str, Any]) -> None:
    """Write the weights to `path` and the yaml of the same stem beside; the weights appear last.

    Raises:
        CheckpointError: writing failed; the old files are left, or only the yaml is new.
    """
    text = yaml.safe_dump(dict(sections), sort_keys=False, allow_unicode=True)
    try:
        with ExitStack() as stack:
            weights = stack.enter_context(files.replacing(path))
            settings = stack.enter_context(files.replacing(path.with_suffix(".yaml")))
            settings.write_text(text, encoding="utf-8")
            write_weights(weights, arrays)
    except OSError as error:
        raise CheckpointError(f"'{path}' cannot be written: {error}") from error
