"""The settings that every network of this project shares. No MindSpore here.

The names are those of MindFormers' yaml and of Hugging Face; there is no second set.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from mindformers_vit.config.strict import StrictModel
from mindformers_vit.errors import ConfigError

if TYPE_CHECKING:
    from typing_extensions import Self

Positive = Annotated[int, Field(ge=1)]
ImageSize = Positive | tuple[Positive, Positive]
ComputeDtype = Literal["auto", "float32", "float16", "bfloat16"]


class VisionConfig(StrictModel):
    """Images in, and where the weights and the arithmetic come from."""

    image_size: ImageSize = 224  # pixels: an int, or [height, width]
    num_channels: Positive = 3
    hidden_act: Literal["gelu"] = "gelu"  # the exact one, by erf
    checkpoint_name_or_path: str | None = None  # weights to start from: a model name or a path
    compute_dtype: ComputeDtype = "auto"  # of the matrix products; auto: chosen for the device

    @property
    def image_hw(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        size = self.image_size
        return (size, size) if isinstance(size, int) else size

    def settings(self) -> dict[str, Any]:
        """What a yaml needs to make this config again: every field, in plain types."""
        values = self.model_dump()
        return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **overrides: Any) -> Self:
        """The settings behind a model name, a yaml or a model directory; see `AutoConfig`."""
        from mindformers_vit.models.sources import find_source

        config = find_source(name_or_path, overrides=overrides).config
        if not isinstance(config, cls):
            raise ConfigError(
                f"'{name_or_path}' is a {type(config).__name__}, no {cls.__name__}; "
                f"use {type(config).__name__} or AutoConfig"
            )
        return config

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = self._problems()
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _problems(self) -> list[str]:
        """What is wrong between the fields; subclasses add theirs."""
        return []


class ClassifierConfig(VisionConfig):
    """What every classifier has beside its trunk."""

    drop_path_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of the last block
    num_labels: Positive = 1000
    id2label: dict[int, str] | None = None  # class index -> name, for every class

    def _problems(self) -> list[str]:
        return super()._problems() + not_all_named(self.id2label, self.num_labels)


def not_divided(name: str, value: int, by: str, divisor: int) -> list[str]:
    """The problem, if `value` is no multiple of `divisor`."""
    if value % divisor == 0:
        return []
    return [f"{name} {value} is not divisible by {by} {divisor}"]


def not_all_named(id2label: Mapping[int, str] | None, num_labels: int) -> list[str]:
    """The problem, if the labels are given and are not exactly those of the classes."""
    if id2label is None or sorted(id2label) == list(range(num_labels)):
        return []
    return [
        f"id2label names {len(id2label)} classes; num_labels {num_labels} needs "
        f"exactly the keys 0 to {num_labels - 1}"
    ]
