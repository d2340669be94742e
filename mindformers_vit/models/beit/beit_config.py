"""Settings of the BEiT classifier (Bao et al. 2022, arXiv 2106.08254). No MindSpore here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mindformers_vit.models.transformer_config import LARGE_P16, TINY_P8, TransformerConfig
from mindformers_vit.models.vision_config import ClassifierConfig
from mindformers_vit.registry import ModelFamily, register_family


class BeitConfig(ClassifierConfig, TransformerConfig):
    """Trunk, position bias, pooling and head; the defaults are BEiT-B/16 with 1000 classes.

    `qkv_bias` is one of q and v only, as BEiT has it.
    """

    use_relative_position_bias: bool = True  # a table in every block
    use_shared_relative_position_bias: bool = False  # one table for all blocks, as in pretraining
    use_absolute_position_embeddings: Literal[False] = False  # no published classifier has them
    layer_scale_init_value: Annotated[float, Field(ge=0)] = 0.1  # 0: no layer scale
    use_mean_pooling: bool = True  # mean over patches then `fc_norm`; else `norm`, class token
    loss_type: Literal["SoftTargetCrossEntropy", "CrossEntropyLoss"] = "SoftTargetCrossEntropy"

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if not (self.use_relative_position_bias or self.use_shared_relative_position_bias):
            problems.append(
                "use_relative_position_bias and use_shared_relative_position_bias are both False: "
                "the network could not tell positions; set one of them"
            )
        return problems


_BASE = "mindformers_vit.models.beit"
_BASE_SIZE = {"drop_path_rate": 0.1}
_LARGE_SIZE = LARGE_P16 | {"layer_scale_init_value": 1e-5, "drop_path_rate": 0.4}
_PUBLISHED = {
    "beit_base_p16_224": _BASE_SIZE | {"image_size": 224},
    "beit_base_p16_384": _BASE_SIZE | {"image_size": 384},
    "beit_large_p16_224": _LARGE_SIZE | {"image_size": 224},
    "beit_large_p16_384": _LARGE_SIZE | {"image_size": 384},
    "beit_large_p16_512": _LARGE_SIZE | {"image_size": 512},
}


def _aliases() -> dict[str, str]:
    """timm's and microsoft/unilm's names of the classifiers with 1000 classes."""
    endings = ("", ".in22k_ft_in22k_in1k", "_pt22k_ft22kto1k")
    names = {name: name.replace("_p16_", "_patch16_") for name in _PUBLISHED}
    return {other + ending: name for name, other in names.items() for ending in endings}


FAMILY = register_family(
    ModelFamily(
        name="beit",
        task="image_classification",
        config_class=BeitConfig,
        model=f"{_BASE}.beit:BeitForImageClassification",
        processor=f"{_BASE}.beit_processor:BeitProcessor",
        variants={
            **_PUBLISHED,
            "beit_tiny_p8": TINY_P8 | {"image_size": 64, "num_hidden_layers": 4, "num_labels": 10},
        },
        aliases=_aliases(),
    )
)
