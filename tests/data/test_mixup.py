"""Mixup against timm's formulas written out with torch's words (flip the batch, mix)."""

import numpy as np
import pytest

from mindformers_vit.config.strict import validate
from mindformers_vit.data.mixup import Mix, Mixup, mix_images, soft_targets
from mindformers_vit.errors import ConfigError
from tests.data.helpers import Draws

pytestmark = pytest.mark.fast

YAML = {
    "mixup_alpha": 0.8,
    "cutmix_alpha": 1.0,
    "cutmix_minmax": None,
    "prob": 1.0,
    "switch_prob": 0.5,
    "label_smoothing": 0.1,
    "num_classes": 5,
}


def draw(monkeypatch, mixup, *values, height=20, width=30):
    """The mix for chosen draws."""
    monkeypatch.setattr("mindformers_vit.data.mixup.sample_rng", lambda *_: Draws(*values))
    return mixup.draw(0, 0, 0, height, width)


def test_mixed_images():
    images = np.random.default_rng(0).normal(size=(6, 3, 8, 8)).astype(np.float32)
    expected = 0.3 * images.astype(np.float64) + 0.7 * images[::-1]
    mix_images(images, Mix(0.3))
    assert np.abs(images - expected).max() < 1e-6


def test_cutmix_images():
    images = np.random.default_rng(0).normal(size=(4, 3, 8, 9)).astype(np.float32)
    expected = images.copy()
    expected[:, :, 2:5, 1:7] = images[::-1][:, :, 2:5, 1:7]
    mix_images(images, Mix(0.75, (2, 5, 1, 7)))
    assert np.array_equal(images, expected)


def test_targets():
    labels = np.array([0, 3, 1, 1], np.int32)
    smooth = np.full((4, 5), 0.02)
    smooth[np.arange(4), labels] = 0.92
    assert np.allclose(soft_targets(labels, 5, 0.1), smooth)
    mixed = soft_targets(labels, 5, 0.1, 0.3)
    assert np.allclose(mixed, 0.3 * smooth + 0.7 * smooth[::-1])
    assert mixed.dtype == np.float32
    assert np.allclose(mixed.sum(1), 1)
    assert soft_targets(labels, 5, 0.0).tolist() == np.eye(5)[labels].tolist()


def test_the_box_and_its_corrected_lambda(monkeypatch):
    mixup = validate(Mixup, YAML)
    # prob, switch, lambda 0.75 -> side 1/2: 10 x 15 around (3, 28), clipped
    mix = draw(monkeypatch, mixup, 0.0, 0.4, 0.75, 3, 28)
    assert mix.box == (0, 8, 21, 30)
    assert mix.lam == pytest.approx(1 - 8 * 9 / 600)


def test_which_of_the_two(monkeypatch):
    both = validate(Mixup, YAML)
    assert draw(monkeypatch, both, 0.0, 0.5, 0.3) == Mix(0.3)
    assert draw(monkeypatch, both.model_copy(update={"prob": 0.4}), 0.4) == Mix(1.0)
    only_mixup = validate(Mixup, {"mixup_alpha": 0.8})
    assert draw(monkeypatch, only_mixup, 0.0, 0.3) == Mix(0.3)
    only_cutmix = validate(Mixup, {"mixup_alpha": 0, "cutmix_alpha": 1.0})
    assert draw(monkeypatch, only_cutmix, 0.0, 0.75, 10, 15).box == (5, 15, 8, 22)
    minmax = validate(Mixup, {"mixup_alpha": 0, "cutmix_minmax": [0.2, 0.8]})
    mix = draw(monkeypatch, minmax, 0.0, 0.5, 6, 1, 10, 2)
    assert mix == Mix(pytest.approx(0.9), (1, 7, 2, 12))


def test_distribution_of_lambda():
    mixup = validate(Mixup, {**YAML, "cutmix_alpha": 0.0})
    lams = np.array([mixup.draw(0, 1, step, 8, 8).lam for step in range(3000)])
    assert abs(lams.mean() - 0.5) < 0.02
    assert abs(lams.var() - 1 / (4 * (2 * 0.8 + 1))) < 0.008  # variance of Beta(.8, .8)
    again = [mixup.draw(0, 1, step, 8, 8).lam for step in range(5)]
    assert again == lams[:5].tolist()
    cuts = [validate(Mixup, YAML).draw(0, 0, step, 8, 8).box is not None for step in range(2000)]
    assert abs(np.mean(cuts) - 0.5) < 0.04


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"mode": "elem"}, "mixup_op.mode: input should be 'batch', given 'elem'"),
        ({"mixup_alpa": 1}, r"mixup_op.mixup_alpa: unknown key \(did you mean 'mixup_alpha'\?\)"),
        ({"cutmix_minmax": [0.8, 0.2]}, r"cutmix_minmax: expected .* given \[0.8, 0.2\]"),
        ({"mixup_alpha": 0, "cutmix_alpha": 0}, "are both 0; leave mixup_op out instead"),
        ({"prob": 1.5}, "mixup_op.prob: input should be less than or equal to 1, given 1.5"),
    ],
)
def test_settings_errors(change, text):
    with pytest.raises(ConfigError, match=text):
        validate(Mixup, {**YAML, **change}, "mixup_op")
