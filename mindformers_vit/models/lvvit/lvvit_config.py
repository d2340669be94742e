"""Settings of LV-ViT (Jiang et al. 2021, arXiv 2104.10858). No MindSpore here."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from mindformers_vit.models.transformer_config import TransformerConfig
from mindformers_vit.models.vision_config import ClassifierConfig, Positive
from mindformers_vit.registry import ModelFamily, register_family


class LVViTConfig(ClassifierConfig, TransformerConfig):
    """Stem, trunk and the two heads; the defaults are LV-ViT-S at 224 pixels with 1000 classes."""

    hidden_size: Positive = 384
    num_hidden_layers: Positive = 16
    num_attention_heads: Positive = 6
    intermediate_size: Positive = 1152
    qkv_bias: bool = False
    layer_norm_eps: Annotated[float, Field(gt=0)] = 1e-5
    stem_width: Positive = 64  # channels of the stem's convolutions
    skip_lam: Annotated[float, Field(gt=0)] = 2.0  # divides both branches of a block
    mix_token: bool = True  # in training, a box of tokens comes from the partner of the image
    cls_weight: Annotated[float, Field(ge=0)] = 1.0  # of the class token's loss
    dense_weight: Annotated[float, Field(ge=0)] = 1.0  # of the loss of the other tokens
    ground_truth: bool = False  # mix the true label into the class token's, with label maps
    crop_pct: Annotated[float, Field(gt=0, le=1)] = 0.9  # of the shorter side, in evaluation

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if self.patch_size % 2:
            problems.append(f"patch_size {self.patch_size} is odd; the stem halves the image first")
        if self.cls_weight == self.dense_weight == 0:
            problems.append("cls_weight and dense_weight are both 0: nothing would be learned")
        return problems


_BASE = "mindformers_vit.models.lvvit"
_T: dict[str, Any] = {
    "hidden_size": 240,
    "num_hidden_layers": 12,
    "num_attention_heads": 4,
    "intermediate_size": 720,
    "skip_lam": 1.0,
}
_S: dict[str, Any] = {"drop_path_rate": 0.1}
_M: dict[str, Any] = {
    "hidden_size": 512,
    "num_hidden_layers": 20,
    "num_attention_heads": 8,
    "intermediate_size": 1536,
    "drop_path_rate": 0.2,
    "crop_pct": 1.0,
}
_L: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 24,
    "num_attention_heads": 12,
    "intermediate_size": 2304,
    "stem_width": 128,
    "skip_lam": 3.0,
    "drop_path_rate": 0.3,
    "crop_pct": 1.0,
}

FAMILY = register_family(
    ModelFamily(
        name="lvvit",
        task="image_classification",
        config_class=LVViTConfig,
        model=f"{_BASE}.lvvit:LVViTForImageClassification",
        processor=f"{_BASE}.lvvit_processor:LVViTProcessor",
        variants={
            "lvvit_t": _T,
            "lvvit_s": _S,
            "lvvit_s_384": {**_S, "image_size": 384},
            "lvvit_m": _M,
            "lvvit_m_384": {**_M, "image_size": 384},
            "lvvit_m_448": {**_M, "image_size": 448},
            "lvvit_l": _L,
            "lvvit_l_448": {**_L, "image_size": 448},
            "lvvit_l_512": {**_L, "image_size": 512},
            "lvvit_tiny_p8": {
                "image_size": 64,
                "patch_size": 8,
                "hidden_size": 96,
                "num_hidden_layers": 4,
                "num_attention_heads": 4,
                "intermediate_size": 288,
                "stem_width": 8,
                "num_labels": 10,
            },
        },
        aliases={
            "lvvit_t_224": "lvvit_t",
            "lvvit_s_224": "lvvit_s",
            "lvvit_m_224": "lvvit_m",
            "lvvit_l_224": "lvvit_l",
            "lvvit_tiny": "lvvit_tiny_p8",
        },
    )
)
