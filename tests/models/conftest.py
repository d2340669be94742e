"""The reference numbers, and networks that several tests share."""

from pathlib import Path

import numpy as np
import pytest

GOLDENS = Path(__file__).parents[1] / "goldens"

MAE_TINY = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 192,
    "decoder_hidden_size": 32,
    "decoder_num_hidden_layers": 2,
    "decoder_num_attention_heads": 4,
    "decoder_intermediate_size": 128,
}
VIT_TINY = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 192,
    "num_labels": 10,
}
LVVIT_TINY = {
    "image_size": 64,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 144,
    "num_labels": 10,
}


# settings that the goldens' tensors do not tell, by family
UNTOLD = {
    "mae": {"num_attention_heads": 4, "decoder_num_attention_heads": 4},
    "vit": {"num_attention_heads": 4},
    "lvvit": {"num_attention_heads": 4, "skip_lam": 2.0},
    "beit": {},
    "smlpnet": {},
}


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDENS / name / "case.npz") as case:
        return {key: case[key] for key in case.files}


@pytest.fixture(scope="session")
def converted(tmp_path_factory):
    """name of a golden -> its weights through the family's own converter, as .safetensors."""
    from mindformers_vit.models.lvvit.convert_weight import convert_weight as convert_lvvit
    from mindformers_vit.models.mae.convert_weight import convert_weight as convert_mae
    from mindformers_vit.models.vit.convert_weight import convert_weight as convert_vit

    converters = {"mae": convert_mae, "vit": convert_vit, "lvvit": convert_lvvit}
    folder, done = tmp_path_factory.mktemp("converted"), {}

    def convert(name: str, file: str = "weights") -> Path:
        target = folder / f"{name}_{file}.safetensors"
        if target not in done:
            family = name.partition("_")[0]
            source = GOLDENS / name / f"{file}.pth"
            done[target] = converters[family](source, target, settings=UNTOLD[family])
        return target

    return convert


@pytest.fixture(scope="session")
def mae_tiny(converted):
    """The masked autoencoder of the golden, with its weights."""
    from mindformers_vit.models.mae.mae import ViTMAEForPreTraining
    from mindformers_vit.models.mae.mae_config import ViTMAEConfig
    from mindformers_vit.models.model_io import load_weights

    network = ViTMAEForPreTraining(ViTMAEConfig(**MAE_TINY))
    load_weights(network, converted("mae_pretrain_tiny"))
    return network


@pytest.fixture(scope="session")
def vit_tiny(converted):
    """The mean-pooling classifier of the golden, with its weights and drop path 0.3."""
    from mindformers_vit.models.model_io import load_weights
    from mindformers_vit.models.vit.vit import ViTForImageClassification
    from mindformers_vit.models.vit.vit_config import ViTConfig

    network = ViTForImageClassification(ViTConfig(**VIT_TINY, drop_path_rate=0.3))
    load_weights(network, converted("vit_mean_pool_tiny"))
    return network
