"""RandAugment: its 15 operations, their strengths, its string and its draws."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from mindformers_vit.data.augment import RandAugment, RandAugmentParams, parse_policy
from mindformers_vit.data.augment_ops import INCREASING_OPS, OPS
from mindformers_vit.data.rng import sample_rng
from mindformers_vit.data.transforms import build_transforms
from mindformers_vit.errors import ConfigError
from tests.data.helpers import Draws, picture

pytestmark = pytest.mark.fast

STRENGTH_AT_9 = {
    "AutoContrast": 0, "Equalize": 0, "Invert": 0, "Rotate": 27, "PosterizeIncreasing": 1,
    "SolarizeIncreasing": 26, "SolarizeAdd": 99, "ColorIncreasing": 0.81,
    "ContrastIncreasing": 0.81, "BrightnessIncreasing": 0.81, "SharpnessIncreasing": 0.81,
    "ShearX": 0.27, "ShearY": 0.27, "TranslateXRel": 0.405, "TranslateYRel": 0.405,
}  # fmt: skip
PLAIN_AT_9 = {"Posterize": 3, "Solarize": 230, "Color": 0.72, "Rotate": 27}
SIGNED = {
    "Rotate", "ColorIncreasing", "ContrastIncreasing", "BrightnessIncreasing",
    "SharpnessIncreasing", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel",
}  # fmt: skip


def op(name):
    return next(o for o in (*INCREASING_OPS, *OPS) if o.name == name)


def applied(name, magnitude, draws=(), interpolation="bilinear", image=None):
    """One operation at exactly that magnitude."""
    hparams = RandAugmentParams(img_mean=(124, 116, 104), interpolation=interpolation)
    augment = RandAugment(config_str=f"rand-m{magnitude}-inc1", hparams=hparams)
    return np.asarray(augment.apply(op(name), image or picture(0), Draws(*draws)))


def test_the_fifteen_operations_and_their_strengths():
    assert {o.name: round(o.strength(9), 6) for o in INCREASING_OPS} == STRENGTH_AT_9
    assert {o.name for o in INCREASING_OPS if o.signed} == SIGNED
    assert len(OPS) == 15
    assert {name: round(op(name).strength(9), 6) for name in PLAIN_AT_9} == PLAIN_AT_9


def test_each_operation_does_what_pillow_does():
    image = picture(0)
    same = {
        "AutoContrast": ImageOps.autocontrast(image),
        "Equalize": ImageOps.equalize(image),
        "Invert": ImageOps.invert(image),
        "PosterizeIncreasing": ImageOps.posterize(image, 1),
        "SolarizeIncreasing": ImageOps.solarize(image, 26),
    }
    for name, expected in same.items():
        assert np.array_equal(applied(name, 9), np.asarray(expected)), name
    pixels = np.asarray(image)
    added = np.where(pixels < 128, np.minimum(pixels.astype(int) + 99, 255), pixels)
    assert np.array_equal(applied("SolarizeAdd", 9), added)
    black = applied("BrightnessIncreasing", 10, [0.4])  # 1 - 0.9
    assert np.abs(black - pixels * 0.1).max() <= 1


def test_warps_move_the_right_way_and_fill():
    pixels = np.asarray(picture(0))  # 20 x 24
    right = applied("TranslateXRel", 10, [0.4], "nearest")  # -0.45 * 24 = -10.8 pixels
    assert np.array_equal(right[:, 11:], pixels[:, :13])
    assert (right[:, :10] == (124, 116, 104)).all()
    up = applied("TranslateYRel", 10, [0.6], "nearest")  # +0.45 * 20 = 9
    assert np.array_equal(up[:11], pixels[9:])
    assert (up[11:] == (124, 116, 104)).all()
    expected = picture(0).transform(
        (24, 20), Image.Transform.AFFINE, (1, -0.3, 0, 0, 1, 0), 3, fillcolor=(124, 116, 104)
    )
    assert np.array_equal(applied("ShearX", 10, [0.1], "cubic"), np.asarray(expected))
    turned = picture(0).rotate(27, resample=2, fillcolor=(124, 116, 104))
    assert np.array_equal(applied("Rotate", 9, [0.5]), np.asarray(turned))


def test_policy_string():
    policy = parse_policy("rand-m9-mstd0.5-inc1")
    assert (policy.magnitude, policy.magnitude_std, policy.num_ops) == (9, 0.5, 2)
    assert policy.ops is INCREASING_OPS
    assert parse_policy("rand-n3-m9").num_ops == 3
    assert parse_policy("rand-m7").ops is OPS
    assert parse_policy("rand").magnitude == 10


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rand-m9-x3", "section 'x3' of 'rand-m9-x3' is not understood; allowed: 'rand' with"),
        ("rand-m9-m8", "section 'm8'"),
        ("augmix-m3", "given 'augmix-m3'"),
        ("rand-m11", "m<0..10>"),
        ("rand-n0", "given 'rand-n0'"),
        ("rand-inc0", r"write inc1 or leave it out \(timm reads any inc as inc1\)"),
    ],
)
def test_policy_string_errors(text, reason):
    with pytest.raises(ConfigError, match=rf"x\.0\.config_str: .*{reason}"):
        build_transforms([{"type": "rand_augment_transform", "config_str": text}], "x")


@pytest.mark.parametrize(
    ("hparams", "reason"),
    [
        ({"img_mean": [0.485, 0.456, 0.406]}, "img_mean: expected a colour in 0..255, given"),
        ({"interpolation": "area"}, "expected nearest, bilinear, bicubic or random, given 'area'"),
        ({"img_means": 3}, r"img_means: unknown key \(did you mean 'img_mean'\?\)"),
    ],
)
def test_hparams_errors(hparams, reason):
    item = {"type": "rand_augment_transform", "config_str": "rand-m9", "hparams": hparams}
    with pytest.raises(ConfigError, match=rf"x\.0\.hparams\..*{reason}"):
        build_transforms([item], "x")


def test_magnitude_is_drawn_and_clipped():
    policy = parse_policy("rand-m9-mstd0.5")
    drawn = np.array([policy.draw_magnitude(sample_rng(0, 0, i, "x")) for i in range(4000)])
    assert drawn.max() == 10 and abs(np.median(drawn) - 9) < 0.03
    assert abs((drawn == 10).mean() - 0.0228) < 0.01  # beyond two sigma
    assert abs(drawn[drawn < 9].mean() - (9 - 0.5 * np.sqrt(2 / np.pi))) < 0.03
    uniform = parse_policy("rand-m8-mstd101")
    drawn = np.array([uniform.draw_magnitude(sample_rng(0, 0, i, "x")) for i in range(4000)])
    assert drawn.max() < 8 and abs(drawn.mean() - 4) < 0.1


def test_two_operations_each_with_half_a_chance(monkeypatch):
    calls = []
    monkeypatch.setattr(
        RandAugment, "apply", lambda self, o, image, rng, view: calls.append(o.name) or image
    )
    augment = RandAugment(config_str="rand-m9-mstd0.5-inc1")
    counts = []
    for index in range(3000):
        before = len(calls)
        augment(picture(0), sample_rng(0, 0, index, "x"))
        counts.append(len(calls) - before)
    shares = np.bincount(counts) / 3000
    assert np.abs(shares - [0.25, 0.5, 0.25]).max() < 0.04
    each = np.array([calls.count(o.name) for o in INCREASING_OPS]) / len(calls)
    assert np.abs(each - 1 / 15).max() < 0.02


def test_random_interpolation_uses_both():
    image = picture(0)
    bilinear, bicubic = (applied("Rotate", 9, [0.5], name) for name in ("bilinear", "bicubic"))
    assert np.array_equal(applied("Rotate", 9, [0.5, 0.4], "random", image), bilinear)
    assert np.array_equal(applied("Rotate", 9, [0.5, 0.6], "random", image), bicubic)
