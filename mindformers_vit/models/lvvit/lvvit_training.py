"""The training forward of LV-ViT: the loss of all tokens, as one Cell for the train step."""

from __future__ import annotations

from typing import Any

from mindspore import Tensor, nn

from mindformers_vit.losses import token_label_cross_entropy
from mindformers_vit.models.lvvit.mix_token import box_share


class TokenLabelForward(nn.Cell):
    """Images (B, C, H, W), soft targets, MixToken's box, drop-path noise, to the loss.

    Targets are (B, K), then they hold for every token, or (B, 2 + N, K): the true label, the
    class token's, and each token's.
    """

    def __init__(self, network: Any, *, drop_path: bool) -> None:
        super().__init__(auto_prefix=False)
        config = network.config
        self.network = network
        self.mix_token, self.drop_path = config.mix_token, drop_path
        self.num_patches = config.num_patches
        self.cls_weight, self.dense_weight = config.cls_weight, config.dense_weight
        self.ground_truth = config.ground_truth
        extra = ("mix_box",) * self.mix_token + ("drop_noise",) * drop_path
        self.inputs = ("image", "target", *extra)

    def construct(self, image: Tensor, target: Tensor, *extra: Tensor) -> Tensor:
        box = extra[0] if self.mix_token else None
        noise = extra[-1] if self.drop_path else None
        x_cls, x_aux = self.network(image, noise, box)  # (B, K), (B, N, K)
        share = 0.0
        if self.mix_token:
            share = box_share(box, self.num_patches)  # (1 or B, 1)
        return token_label_cross_entropy(
            x_cls,
            x_aux,
            target,
            mixed=share,
            cls_weight=self.cls_weight,
            dense_weight=self.dense_weight,
            ground_truth=self.ground_truth,
        )
