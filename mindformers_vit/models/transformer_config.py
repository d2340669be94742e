"""The settings that every ViT-like network of this project shares. No MindSpore here.

The names are those of MindFormers' yaml and of Hugging Face; there is no second set.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mindformers_vit.config.strict import StrictModel
from mindformers_vit.errors import ConfigError

if TYPE_CHECKING:
    from typing_extensions import Self

Positive = Annotated[int, Field(ge=1)]
ImageSize = Positive | tuple[Positive, Positive]
ComputeDtype = Literal["auto", "float32", "float16", "bfloat16"]


class TransformerConfig(StrictModel):
    """A plain pre-norm vision transformer; the defaults are ViT-B/16 at 224 pixels."""

    image_size: ImageSize = 224  # pixels: an int, or [height, width]
    patch_size: Positive = 16  # pixels; divides image_size
    num_channels: Positive = 3
    hidden_size: Positive = 768
    num_hidden_layers: Positive = 12
    num_attention_heads: Positive = 12  # divides hidden_size
    intermediate_size: Positive = 3072  # middle width of the MLP
    qkv_bias: bool = True
    hidden_act: Literal["gelu"] = "gelu"  # the exact one, by erf
    post_layernorm_residual: Literal[False] = False  # pre-norm only
    layer_norm_eps: Annotated[float, Field(gt=0)] = 1e-6
    initializer_range: Annotated[float, Field(gt=0)] = 0.02  # std of normal initial values
    attention_probs_dropout_prob: float = 0.0  # only 0 is offered
    hidden_dropout_prob: float = 0.0  # only 0 is offered
    checkpoint_name_or_path: str | None = None  # weights to start from: a model name or a path
    compute_dtype: ComputeDtype = "auto"  # of the matrix products; auto: chosen for the device

    @property
    def image_hw(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        size = self.image_size
        return (size, size) if isinstance(size, int) else size

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        height, width = self.image_hw
        return height // self.patch_size, width // self.patch_size

    @property
    def num_patches(self) -> int:
        return self.grid[0] * self.grid[1]

    def settings(self) -> dict[str, Any]:
        """What a yaml needs to make this config again: every field, in plain types."""
        values = self.model_dump()
        if not isinstance(self.image_size, int):
            values["image_size"] = list(self.image_size)
        return values

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

    @field_validator("attention_probs_dropout_prob", "hidden_dropout_prob")
    @classmethod
    def _no_dropout(cls, value: float) -> float:
        if value != 0.0:
            raise ValueError(
                f"only 0 is offered (these networks are trained without dropout; "
                f"drop_path_rate is the ViT's regulariser), given {value}"
            )
        return value

    @model_validator(mode="after")
    def _check(self) -> TransformerConfig:
        problems = self._problems()
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _problems(self) -> list[str]:
        """What is wrong between the fields; subclasses add theirs."""
        return [
            *not_divided("image_size height", self.image_hw[0], "patch_size", self.patch_size),
            *not_divided("image_size width", self.image_hw[1], "patch_size", self.patch_size),
            *not_divided(
                "hidden_size", self.hidden_size, "num_attention_heads", self.num_attention_heads
            ),
        ]


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
