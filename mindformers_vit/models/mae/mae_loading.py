"""What a masked autoencoder may be loaded from. No MindSpore here.

The file must fit. The position embeddings are fixed, so for another grid they are made anew. The
widely published pretraining files hold the encoder alone; with `new_parts` the decoder starts
anew, without it such a file is refused, since its reconstructions would be noise.
"""

from __future__ import annotations

from collections.abc import Mapping

from mindformers_vit.errors import CheckpointError
from mindformers_vit.models.layers.pos_embed import sincos_2d
from mindformers_vit.models.loading import Array, LoadingRules
from mindformers_vit.models.mae.mae_config import ViTMAEConfig

DECODER = (r"mask_token", r"decoder_.*")


def loading_rules(
    config: ViTMAEConfig, loaded: Mapping[str, Array], *, new_parts: bool
) -> LoadingRules:
    """The rules for a file with these tensors.

    Raises:
        CheckpointError: a file without the decoder, and no new one is allowed.
    """
    has_decoder = any(name.startswith("decoder_") or name == "mask_token" for name in loaded)
    if not has_decoder and not new_parts:
        raise CheckpointError(
            "the file holds the encoder only (no decoder_* tensors, no mask_token), so it cannot "
            "reconstruct images. Use a file with the decoder (facebookresearch/mae: "
            "mae_pretrain_vit_*_full.pth or mae_visualize_vit_*.pth), fine-tune a "
            "ViTForImageClassification from it, or let the decoder start anew "
            "(in Python: new_parts=True)"
        )

    def position(table: Array, shape: tuple[int, ...]) -> Array:
        return sincos_2d(shape[-1], config.grid).reshape(shape)

    resize = {r"(decoder_)?pos_embed": position}
    return LoadingRules(allow_new=() if has_decoder else DECODER, resize=resize)
