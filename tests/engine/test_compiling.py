"""What is compiled, and how often: compiling is most of the time to the first step."""

import os
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import pytest

from mindformers_vit import compat
from mindformers_vit.data.loader import Loader
from mindformers_vit.data.sources import open_source
from mindformers_vit.data.transforms import build_transforms
from mindformers_vit.engine.evaluator import evaluate
from mindformers_vit.models.auto import AutoModel
from mindformers_vit.models.mae.mae_config import ViTMAEConfig
from mindformers_vit.models.vit.vit_config import ViTConfig
from tests.engine import lab
from tests.models.conftest import MAE_TINY, VIT_TINY

TRANSFORMS = [{"type": "Resize", "size": [32, 32]}, {"type": "ToTensor"}, lab.NORMALIZE]
CONFIGS = {
    "image_classification": ViTConfig(**{**VIT_TINY, "num_hidden_layers": 1, "num_labels": 3}),
    "masked_image_modeling": ViTMAEConfig(**MAE_TINY),
}


@pytest.mark.parametrize("task", CONFIGS)
def test_an_evaluation_whose_last_batch_is_short_compiles_the_network_once(task, eval_dir):
    compat.set_device("CPU")
    source = open_source(eval_dir)
    assert len(source) % 5 == 2
    network = AutoModel.from_config(CONFIGS[task])
    loader = Loader(
        source, build_transforms(TRANSFORMS), 5,
        seed=0, shuffle=False, drop_last=False, num_workers=0, noise_length=16,
    )  # fmt: skip
    for _ in range(2):
        evaluate(network, loader, task)
    assert len(network.compile_cache) == 1
    if task == "image_classification":  # the count counts
        network(ms.ops.zeros((2, 3, 32, 32)))
        assert len(network.compile_cache) == 2


STEP = """
import mindspore as ms
from mindformers_vit import compat
compat.set_device("CPU")
weight = ms.Parameter(ms.Tensor([1.5, 2.5], ms.float32), name="weight")


def step(x):
    return weight * x


print(compat.jit(step)(ms.Tensor([2.0, 4.0])))
"""


def test_the_compile_cache_of_mindspore_is_not_used(tmp_path):
    """With it the second run would compute with weights that nobody has set."""
    given = {"MS_COMPILER_CACHE_ENABLE": "1", "MS_COMPILER_CACHE_PATH": str(tmp_path / "cache")}
    script = tmp_path / "step.py"
    script.write_text(STEP)
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, str(script)],
            env={**os.environ, **given, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines()[-1] == "[ 3. 10.]"
        assert "MindSpore's compile cache is switched off" in done.stderr
    assert not (tmp_path / "cache").exists()
