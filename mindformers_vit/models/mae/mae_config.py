"""Settings of the masked autoencoder (He et al. 2022, arXiv 2111.06377). No MindSpore here."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mindformers_vit.models.transformer_config import (
    HUGE_P14,
    LARGE_P16,
    TINY_P8,
    TransformerConfig,
)
from mindformers_vit.models.vision_config import Positive, not_divided
from mindformers_vit.registry import ModelFamily, register_family


class ViTMAEConfig(TransformerConfig):
    """Encoder as in a ViT; the decoder's widths; the defaults are MAE ViT-B/16."""

    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.75  # share of patches hidden
    norm_pix_loss: bool = True  # predict each patch normalised by its own mean and deviation
    decoder_hidden_size: Positive = 512
    decoder_num_hidden_layers: Positive = 8
    decoder_num_attention_heads: Positive = 16
    decoder_intermediate_size: Positive = 2048

    @property
    def num_visible(self) -> int:
        """Patches that the encoder sees."""
        return int(self.num_patches * (1 - self.mask_ratio))

    @property
    def decoder(self) -> TransformerConfig:
        """The decoder's blocks, as a trunk's settings."""
        names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        shared = {name: getattr(self, name) for name in TransformerConfig.model_fields}
        own = {name: getattr(self, f"decoder_{name}") for name in names}
        return TransformerConfig(**{**shared, **own})

    @property
    def patch_pixels(self) -> int:
        """Values in one patch, P·P·C: the width of the prediction."""
        return self.patch_size**2 * self.num_channels

    def _problems(self) -> list[str]:
        problems = super()._problems()
        heads = self.decoder_num_attention_heads
        problems += not_divided(
            "decoder_hidden_size", self.decoder_hidden_size, "decoder_num_attention_heads", heads
        )
        for name in ("hidden_size", "decoder_hidden_size"):
            problems += not_divided(name, getattr(self, name), "the sin-cos embedding's", 4)
        if not problems and not 1 <= self.num_visible < self.num_patches:
            problems.append(
                f"mask_ratio {self.mask_ratio} of {self.num_patches} patches leaves "
                f"{self.num_visible} visible; at least one must be visible and one masked"
            )
        return problems


_BASE = "mindformers_vit.models.mae"

FAMILY = register_family(
    ModelFamily(
        name="mae",
        task="masked_image_modeling",
        config_class=ViTMAEConfig,
        model=f"{_BASE}.mae:ViTMAEForPreTraining",
        processor=f"{_BASE}.mae_processor:ViTMAEProcessor",
        variants={
            "mae_vit_base_p16": {},
            "mae_vit_large_p16": LARGE_P16,
            "mae_vit_huge_p14": HUGE_P14,
            "mae_vit_tiny_p8": {
                **TINY_P8,
                "decoder_hidden_size": 64,
                "decoder_num_hidden_layers": 1,
                "decoder_num_attention_heads": 4,
                "decoder_intermediate_size": 256,
            },
        },
        aliases={
            "mae_vit_base_patch16": "mae_vit_base_p16",
            "mae_vit_large_patch16": "mae_vit_large_p16",
            "mae_vit_huge_patch14": "mae_vit_huge_p14",
            "vit_base_patch16_224.mae_pretrain": "mae_vit_base_p16",
            "vit_large_patch16_224.mae_pretrain": "mae_vit_large_p16",
            "vit_huge_patch14_224.mae_pretrain": "mae_vit_huge_p14",
        },
    )
)
