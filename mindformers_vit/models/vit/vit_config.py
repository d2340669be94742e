"""Settings of the vision transformer classifier (Dosovitskiy et al. 2021, arXiv 2010.11929) in the
form that MAE fine-tunes. No MindSpore here.
"""

from __future__ import annotations

from typing import Literal

from mindformers_vit.models.transformer_config import (
    HUGE_P14,
    LARGE_P16,
    TINY_P8,
    TransformerConfig,
)
from mindformers_vit.models.vision_config import ClassifierConfig
from mindformers_vit.registry import ModelFamily, register_family


class ViTConfig(ClassifierConfig, TransformerConfig):
    """Trunk, pooling and head; the defaults are ViT-B/16 with 1000 classes."""

    use_mean_pooling: bool = True  # mean over patches then `fc_norm`; else `norm`, class token
    linear_probe: bool = False  # train a linear head on a frozen encoder, behind a batch norm
    loss_type: Literal["SoftTargetCrossEntropy", "CrossEntropyLoss"] = "SoftTargetCrossEntropy"

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if self.linear_probe and self.drop_path_rate > 0:
            problems.append(
                f"drop_path_rate {self.drop_path_rate} with linear_probe: the encoder is frozen, "
                "so nothing of it is dropped; give 0"
            )
        return problems


_BASE = "mindformers_vit.models.vit"

FAMILY = register_family(
    ModelFamily(
        name="vit",
        task="image_classification",
        config_class=ViTConfig,
        model=f"{_BASE}.vit:ViTForImageClassification",
        processor=f"{_BASE}.vit_processor:ViTProcessor",
        variants={
            "vit_base_p16": {"drop_path_rate": 0.1},
            "vit_large_p16": LARGE_P16 | {"drop_path_rate": 0.2},
            "vit_huge_p14": HUGE_P14 | {"drop_path_rate": 0.3},
            "vit_tiny_p8": TINY_P8 | {"num_labels": 10},
        },
        aliases={
            "vit_base_patch16": "vit_base_p16",
            "vit_large_patch16": "vit_large_p16",
            "vit_huge_patch14": "vit_huge_p14",
            "vit_base_patch16_224": "vit_base_p16",
            "vit_large_patch16_224": "vit_large_p16",
            "vit_huge_patch14_224": "vit_huge_p14",
        },
    )
)
