"""`pipeline(task, model=...)`: from names to something that takes pictures."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mindformers_vit.errors import ConfigError
from mindformers_vit.pipelines.base import Pipeline, tasks

DEFAULT_MODELS = {
    "masked_image_modeling": "mae_vit_base_p16",
    "image_classification": "vit_base_p16",
}


def pipeline(
    task: str,
    model: Any = None,
    image_processor: Any = None,
    *,
    batch_size: int = 1,
    output_dir: str | Path | None = None,
    save_file: str | Path | None = None,
    top_k: int | None = None,
    candidate_labels: Sequence[str] | str | None = None,
    mask_ratio: float | None = None,
    seed: int | None = None,
    tokenizer: None = None,
    audio_processor: None = None,
    backend: str = "ms",
) -> Pipeline:
    """A pipeline for `task`; call it with a path, URL, PIL image, array, or a list of them.

    Args:
        task: "masked_image_modeling" or "image_classification"; hyphens work too.
        model: A model name, a folder with a saved model, or a network; the task's base model
            unless given.
        image_processor: A processor, or the name or folder of one; the model's own unless given.
        output_dir: Where pictures and results go; the task's own default unless given.
        top_k: Classes named per picture (image_classification).
        candidate_labels: Class names in place of the checkpoint's, or "imagenet" for those of
            ImageNet-1k (image_classification).
        mask_ratio: Part of the patches to hide (masked_image_modeling).
        seed: Of the hidden patches (masked_image_modeling).
        tokenizer, audio_processor, backend: MindFormers' arguments; only their defaults fit.

    Raises:
        ConfigError: The task is unknown, an option is not one of its options, or the model does
            not fit it.
    """
    name = task.replace("-", "_")
    kind = tasks.get(name)
    given: dict[str, Any] = {
        "output_dir": output_dir,
        "save_file": save_file,
        "top_k": top_k,
        "candidate_labels": candidate_labels,
        "mask_ratio": mask_ratio,
        "seed": seed,
    }
    options = {key: value for key, value in given.items() if value is not None}
    known = inspect.signature(kind).parameters
    wrong = [f"{key}: not an option of the task {name}" for key in options if key not in known]
    texts = {"tokenizer": tokenizer, "audio_processor": audio_processor}
    wrong += [f"{key}: vision models have none" for key, value in texts.items() if value]
    wrong += [] if backend == "ms" else [f"backend: '{backend}' given; allowed: ms"]
    if wrong:
        raise ConfigError(wrong)
    model = DEFAULT_MODELS[name] if model is None else model
    network, processor = _load(model, image_processor, mask_ratio)
    return kind(network, processor, batch_size=batch_size, **options)


def _load(model: Any, image_processor: Any, mask_ratio: float | None) -> tuple[Any, Any]:
    """The network and its processor, each by name, by folder, or as it is."""
    by_name = isinstance(model, str | Path)
    if image_processor is None:
        if not by_name:
            raise ConfigError("image_processor: must be given together with a network")
        image_processor = model
    if isinstance(image_processor, str | Path):
        from mindformers_vit.models.auto import AutoProcessor

        image_processor = AutoProcessor.from_pretrained(str(image_processor))
    if by_name:
        from mindformers_vit.models.auto import AutoModel

        overrides: dict[str, Any] = {} if mask_ratio is None else {"mask_ratio": mask_ratio}
        model = AutoModel.from_pretrained(str(model), **overrides)
    return model, image_processor
