"""What the engine builds for a run: its schedule; averages and resumption with batch norm."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mindformers_vit.config.loader import load_yaml, set_dotted
from mindformers_vit.engine.loop import Length
from mindformers_vit.engine.plan import make_plan
from mindformers_vit.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs" / "smlpnet"


def test_a_schedule_by_the_epoch():
    from mindformers_vit.engine.train import learning_rate

    plan = make_plan(load_yaml(CONFIGS / "run_smlpnet_tiny_224_300ep.yaml"))
    rate = learning_rate(plan, Length(300, 1251, 8))
    assert rate(0) == rate(1250) == pytest.approx(1e-6)
    assert rate(1251) == pytest.approx(1e-6 + (1e-3 - 1e-6) / 20)  # 5e-4 x 1024 / 512 is the peak
    assert rate(299 * 1251) == pytest.approx(1e-5, rel=1e-2)


def make_step(seed):
    from mindformers_vit import compat
    from mindformers_vit.engine.train import _train_step

    compat.set_device("CPU")
    values = load_yaml(CONFIGS / "run_smlpnet_tiny_64_cpu.yaml") | {"ema": {"decay": 0.9}}
    plan = make_plan(set_dotted(values, "model.model_config.depths", [1, 1, 1, 1]))
    network = plan.family.load_model_class()(plan.network, seed=seed)
    return network, _train_step(plan, network, Length(1, 2, 1))


def test_moving_statistics_are_averaged_saved_and_resumed():
    network, step = make_step(0)
    rng = np.random.default_rng(0)
    target = np.eye(12, dtype=np.float32)[:4]
    batches = [
        {"image": rng.normal(size=(4, 3, 64, 64)).astype(np.float32), "target": target}
        for _ in range(2)
    ]
    name = "batch_norm.moving_variance"
    step([batches[0]], 1e-3)
    saved, state = step.tensors(), step.state()
    np.testing.assert_allclose(saved[f"ema.{name}"], 0.9 + 0.1 * saved[name], rtol=1e-5)
    assert not np.allclose(saved[name], 1)
    with step.ema.swapped_in():
        np.testing.assert_array_equal(network.state_arrays()[name], saved[f"ema.{name}"])
    step([batches[1]], 1e-3)

    _, again = make_step(1)
    again.load(saved, state)
    again([batches[1]], 1e-3)
    first, second = step.tensors(), again.tensors()
    assert first.keys() == second.keys()
    for key, array in first.items():
        np.testing.assert_array_equal(array, second[key], err_msg=key)


def test_recomputation_is_of_every_block():
    from mindformers_vit.engine.train import _recompute

    marked = []
    blocks = [SimpleNamespace(recompute=partial(marked.append, place)) for place in range(3)]
    _recompute(SimpleNamespace(blocks=blocks[:2], decoder_blocks=blocks[2:]))
    assert marked == [0, 1, 2]
    with pytest.raises(ConfigError, match="True given, but the network has no blocks"):
        _recompute(SimpleNamespace())
