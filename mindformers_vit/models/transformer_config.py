"""The settings that every ViT-like network of this project shares. No MindSpore here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from mindformers_vit.models.vision_config import Positive, VisionConfig, not_divided

# the sizes of ViT beside the base, which is the default, and one for tests
LARGE_P16: dict[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
HUGE_P14: dict[str, Any] = {
    "patch_size": 14,
    "hidden_size": 1280,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "intermediate_size": 5120,
}
TINY_P8: dict[str, Any] = {
    "image_size": 48,
    "patch_size": 8,
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 512,
}


class TransformerConfig(VisionConfig):
    """A plain pre-norm vision transformer; the defaults are ViT-B/16 at 224 pixels."""

    patch_size: Positive = 16  # pixels; divides image_size
    hidden_size: Positive = 768
    num_hidden_layers: Positive = 12
    num_attention_heads: Positive = 12  # divides hidden_size
    intermediate_size: Positive = 3072  # middle width of the MLP
    qkv_bias: bool = True
    post_layernorm_residual: Literal[False] = False  # pre-norm only
    layer_norm_eps: Annotated[float, Field(gt=0)] = 1e-6
    initializer_range: Annotated[float, Field(gt=0)] = 0.02  # std of normal initial values
    attention_probs_dropout_prob: float = 0.0  # only 0 is offered
    hidden_dropout_prob: float = 0.0  # only 0 is offered

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        height, width = self.image_hw
        return height // self.patch_size, width // self.patch_size

    @property
    def num_patches(self) -> int:
        return self.grid[0] * self.grid[1]

    @field_validator("attention_probs_dropout_prob", "hidden_dropout_prob")
    @classmethod
    def _no_dropout(cls, value: float) -> float:
        if value != 0.0:
            raise ValueError(
                f"only 0 is offered (these networks are trained without dropout; "
                f"drop_path_rate is the ViT's regulariser), given {value}"
            )
        return value

    def _problems(self) -> list[str]:
        """What is wrong between the fields; subclasses add theirs."""
        return [
            *not_divided("image_size height", self.image_hw[0], "patch_size", self.patch_size),
            *not_divided("image_size width", self.image_hw[1], "patch_size", self.patch_size),
            *not_divided(
                "hidden_size", self.hidden_size, "num_attention_heads", self.num_attention_heads
            ),
        ]
