from pathlib import Path

import numpy as np
import pytest

from mindformers_vit.errors import ConfigError
from mindformers_vit.optim.schedules import constant, cosine, cosine_by_epoch, linear, scaled_lr

pytestmark = pytest.mark.fast
GOLDENS = Path(__file__).parents[1] / "goldens"


@pytest.mark.parametrize(
    ("case", "steps", "warmup", "peak", "end"),
    [("mae_pretrain_20steps", 20, 5, 2e-3, 0.0), ("vit_finetune_10steps", 10, 2, 1e-3, 1e-6)],
)
def test_cosine_is_the_reference_schedule(case, steps, warmup, peak, end):
    golden = np.load(GOLDENS / case / "case.npz")["lr"]
    ours = [
        cosine(i, learning_rate=peak, total_steps=steps, warmup_steps=warmup, lr_end=end)
        for i in range(steps)
    ]
    np.testing.assert_allclose(ours, golden, rtol=1e-12, atol=1e-18)


@pytest.mark.parametrize("schedule", [cosine, linear])
def test_bounds(schedule):
    def lr(step):
        return schedule(
            step,
            learning_rate=1.0,
            total_steps=100,
            warmup_steps=10,
            warmup_lr_init=0.2,
            lr_end=0.1,
        )

    assert lr(0) == 0.2
    assert lr(5) == pytest.approx(0.6)
    assert lr(10) == 1.0
    assert lr(55) == pytest.approx(0.55)  # half way down, for both
    assert lr(100) == lr(1000) == 0.1
    assert all(lr(i) > lr(i + 1) for i in range(10, 100))


@pytest.mark.parametrize("schedule", [cosine, linear])
def test_warm_up_as_long_as_the_run_is_allowed_and_longer_is_not(schedule):
    assert schedule(3, learning_rate=1.0, total_steps=4, warmup_steps=4) == 0.75
    assert schedule(4, learning_rate=1.0, total_steps=4, warmup_steps=4) == 0.0
    assert schedule(0, learning_rate=1.0, total_steps=1) == 1.0
    with pytest.raises(ConfigError, match="within the run: 5 warm-up steps, 4 steps"):
        schedule(0, learning_rate=1.0, total_steps=4, warmup_steps=5)
    with pytest.raises(ConfigError, match="within the run"):
        schedule(0, learning_rate=1.0, total_steps=0)
    with pytest.raises(ConfigError, match="within the run"):
        schedule(0, learning_rate=1.0, total_steps=4, warmup_steps=-1)


def test_constant():
    assert constant(0, learning_rate=0.3) == constant(10**6, learning_rate=0.3) == 0.3
    warm = [constant(i, learning_rate=0.4, warmup_steps=4, warmup_lr_init=0.0) for i in range(6)]
    assert warm == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.4])


def test_scaled_lr():
    assert scaled_lr(1.5e-4, 4096) == pytest.approx(2.4e-3)
    assert scaled_lr(5e-4, 1024, 512) == pytest.approx(1e-3)
    with pytest.raises(ConfigError, match="at least 1, given 0, 256"):
        scaled_lr(1.0, 0)


def test_cosine_by_epoch():
    """By the formula of timm's scheduler: t_initial 8, warmup_t 2, warmup_lr_init .1, lr_min .2."""

    def lr(epoch, place=0):
        return cosine_by_epoch(
            epoch * 7 + place,
            learning_rate=1.0,
            steps_per_epoch=7,
            epochs=10,
            warmup_epochs=2,
            cooldown_epochs=2,
            warmup_lr_init=0.1,
            lr_end=0.2,
        )

    expected = [
        0.1,
        0.55,
        0.8828427,
        0.7530734,
        0.6,
        0.4469266,
        0.3171573,
        0.2304482,
        0.2,
        0.2,
        0.2,
    ]
    assert [lr(epoch) for epoch in range(11)] == pytest.approx(expected, abs=1e-6)
    assert all(lr(3, place) == lr(3) for place in range(7))
    with pytest.raises(ConfigError, match="3 warm-up epochs, 2 epochs"):
        cosine_by_epoch(0, learning_rate=1.0, steps_per_epoch=7, epochs=2, warmup_epochs=3)
