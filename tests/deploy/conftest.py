"""One tiny network a family, made once: recipe, weights that tell images apart, pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindformers_vit.config.loader import load_yaml
from mindformers_vit.engine.plan import make_plan
from tests.engine.lab import own_process

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = {
    "vit": CONFIGS / "vit/run_vit_tiny_p8_48_cpu.yaml",
    "beit": CONFIGS / "beit/run_beit_tiny_p8_64_cpu.yaml",
    "lvvit": CONFIGS / "lvvit/run_lvvit_tiny_cpu.yaml",
    "smlpnet": CONFIGS / "smlpnet/run_smlpnet_tiny_64_cpu.yaml",
}
SIDES = {"vit": 48, "beit": 64, "lvvit": 64, "smlpnet": 64}  # of the images, in pixels
COUNT = 1000


@dataclass(frozen=True)
class Model:
    """A tiny network and where it is saved."""

    recipe: Path
    directory: Path
    network: Any
    processor: Any


def spread(network):
    """Random weights whose logits differ from image to image; statistics that are possible."""
    rng = np.random.default_rng(0)
    arrays = {}
    for name, array in network.state_arrays().items():
        noise = rng.normal(size=array.shape).astype(np.float32)
        if name.endswith("moving_variance"):
            arrays[name] = 0.5 + noise**2
        elif name.endswith("gamma"):
            arrays[name] = 1 + 0.1 * noise
        else:
            arrays[name] = (0.03 if "head" in name else 0.15) * noise  # logits of about 1
    network.load_arrays(arrays)
    return network


@pytest.fixture(autouse=True)
def _own_process():
    with own_process():
        yield


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """family -> its tiny network, made when it is first asked for."""
    from mindformers_vit import compat

    compat.set_device("CPU")
    root, made = tmp_path_factory.mktemp("models"), {}

    def model(family: str) -> Model:
        if family not in made:
            recipe = RECIPES[family]
            plan = make_plan({**load_yaml(recipe), "run_mode": "eval"})
            network = spread(plan.family.load_model_class()(plan.network))
            directory = root / family
            network.save_pretrained(directory, processor=plan.processor, save_format="safetensors")
            made[family] = Model(recipe, directory, network, plan.processor)
        return made[family]

    return model


@pytest.fixture(scope="session")
def thousand(tmp_path_factory):
    """A folder of 1,000 pictures in the 12 class folders of the shapes data set."""
    from mindformers_vit.tools.shapes import ShapesSettings, make_shapes_dataset

    root = tmp_path_factory.mktemp("shapes")
    settings = ShapesSettings(image_size=64, train=12, labelled_per_class=1, val_per_class=84)
    make_shapes_dataset(root, settings)
    for path in sorted((root / "val").rglob("*.jpg"))[::126][: 1008 - COUNT]:
        path.unlink()
    assert len(list((root / "val").rglob("*.jpg"))) == COUNT
    return root / "val"
