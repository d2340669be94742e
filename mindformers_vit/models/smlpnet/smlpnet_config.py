"""Settings of sMLPNet (Tang et al. 2022, arXiv 2109.05422). No MindSpore here."""

from __future__ import annotations

from itertools import accumulate
from typing import Annotated, Literal

from pydantic import Field

from mindformers_vit.models.vision_config import (
    ClassifierConfig,
    Positive,
    not_divided,
)
from mindformers_vit.registry import ModelFamily, register_family

STAGES = 4


class SMLPNetConfig(ClassifierConfig):
    """Four stages, each of half the grid and twice the width; the defaults are sMLPNet-T.

    The row and column weights have the size of the grid, so a network takes one image size.
    """

    patch_size: Positive = 4  # pixels, of the first stage's grid
    hidden_size: Positive = 80  # width of the first stage
    depths: tuple[Positive, Positive, Positive, Positive] = (2, 8, 14, 2)  # blocks of each stage
    mlp_ratio: Positive = 3  # middle width of the channel MLP / width
    layer_norm_eps: Annotated[float, Field(gt=0)] = 1e-5
    batch_norm_eps: Annotated[float, Field(gt=0)] = 1e-5
    batch_norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.1  # of the newest batch, as torch
    loss_type: Literal["SoftTargetCrossEntropy", "CrossEntropyLoss"] = "SoftTargetCrossEntropy"

    @property
    def num_hidden_layers(self) -> int:
        """Blocks of all stages; each has two residual branches."""
        return sum(self.depths)

    @property
    def stage_starts(self) -> tuple[int, ...]:
        """The number of the first block of each stage."""
        return tuple(accumulate(self.depths[:-1], initial=0))

    @property
    def stage_widths(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(self.hidden_size * 2**stage for stage in range(STAGES))

    @property
    def stage_grids(self) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of each stage."""
        height, width = self.image_hw
        sizes = [self.patch_size * 2**stage for stage in range(STAGES)]
        return tuple((height // size, width // size) for size in sizes)

    def stage_of(self, block: int) -> int:
        """The stage of a block, blocks numbered through."""
        return max(s for s, start in enumerate(self.stage_starts) if start <= block)

    def _problems(self) -> list[str]:
        smallest = self.patch_size * 2 ** (STAGES - 1)
        by = f"{2 ** (STAGES - 1)} x patch_size ="
        return [
            *not_divided("image_size height", self.image_hw[0], by, smallest),
            *not_divided("image_size width", self.image_hw[1], by, smallest),
            *super()._problems(),
        ]


_BASE = "mindformers_vit.models.smlpnet"

FAMILY = register_family(
    ModelFamily(
        name="smlpnet",
        task="image_classification",
        config_class=SMLPNetConfig,
        model=f"{_BASE}.smlpnet:SMLPNetForImageClassification",
        processor=f"{_BASE}.smlpnet_processor:SMLPNetProcessor",
        variants={
            "smlpnet_tiny": {},
            "smlpnet_small": {
                "hidden_size": 96,
                "depths": (2, 10, 24, 2),
                "drop_path_rate": 0.2,
            },
            "smlpnet_base": {
                "hidden_size": 112,
                "depths": (2, 10, 24, 2),
                "drop_path_rate": 0.3,
            },
            "smlpnet_tiny_64": {
                "image_size": 64,
                "hidden_size": 16,
                "depths": (1, 2, 2, 1),
                "num_labels": 10,
            },
        },
        aliases={
            "smlpnet_tiny_224": "smlpnet_tiny",
            "smlpnet_small_224": "smlpnet_small",
            "smlpnet_base_224": "smlpnet_base",
        },
    )
)
