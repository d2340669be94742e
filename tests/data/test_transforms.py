"""Geometry to the pixel, normalisation to the bit, and every way a list can be wrong."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindformers_vit.data.arrays import RandomErasing
from mindformers_vit.data.decode import load_rgb
from mindformers_vit.data.geometry import RandomResizedCrop
from mindformers_vit.data.rng import sample_rng
from mindformers_vit.data.transforms import build_transforms
from mindformers_vit.errors import ConfigError
from tests.data.helpers import EVAL, NORMALIZE, TRAIN, Draws, picture

pytestmark = pytest.mark.fast

GOLDENS = Path(__file__).parents[1] / "goldens" / "preprocess"
MAE_1_0 = [  # the upstream yaml of MindFormers r1.0, word for word
    {"type": "RandomCropDecodeResize", "size": 224, "scale": [0.2, 1.0], "interpolation": "cubic"},
    {"type": "RandomHorizontalFlip", "prob": 0.5},
    {"type": "Normalize", "mean": [123.675, 118.575, 103.53], "std": [58.395, 62.22, 57.375]},
    {"type": "HWC2CHW"},
]
VIT_1_0 = [
    {"type": "Decode"},
    {"type": "RandomResizedCrop", "size": 224, "scale": [0.08, 1.0], "interpolation": "cubic"},
    {"type": "RandomHorizontalFlip", "prob": 0.5},
    {"type": "ToPIL"},
    {
        "type": "rand_augment_transform",
        "config_str": "rand-m9-mstd0.5-inc1",
        "hparams": {
            "translate_const": 100,
            "img_mean": [124, 116, 104],
            "interpolation": "cubic",
        },
    },
    {"type": "ToTensor"},
    NORMALIZE,
    {"type": "RandomErasing", "probability": 0.25, "mode": "pixel", "max_count": 1},
]


def run(items, image, seed=0):
    return build_transforms(items)(image, sample_rng(seed, 0, 0, "test"))


def images(items, image, *draws):
    """The result of geometric steps as (H, W, 3)."""
    compose = build_transforms([*items, {"type": "ToTensor"}])
    return compose.steps[0](image, Draws(*draws))


@pytest.mark.skipif(not GOLDENS.exists(), reason="reference numbers are not beside the repository")
@pytest.mark.parametrize("name", ["image0.jpg", "image1.png"])
@pytest.mark.parametrize("case", ["imagenet_256_224", "half_256_224", "imagenet_248_224"])
def test_evaluation_equals_the_reference(name, case):
    golden = np.load(GOLDENS / "case.npz")
    kind, size, crop = case.split("_")
    half = {"mean": [0.5] * 3, "std": [0.5] * 3}
    items = [
        {"type": "Resize", "size": int(size), "interpolation": "bicubic"},
        {"type": "CenterCrop", "size": int(crop)},
        {"type": "ToTensor"},
        {**NORMALIZE, **(half if kind == "half" else {})},
    ]
    result = run(items, load_rgb(GOLDENS / name))
    expected = golden[f"{name[:6]}/{case}"]
    assert np.abs(result[:, ::4, ::4] - expected).max() <= 1 / 255 / 0.224
    assert np.allclose([result.mean(), result.std()], golden[f"{name[:6]}/{case}/mean_std"], 1e-3)


@pytest.mark.parametrize(
    ("width", "height", "size", "expected"),
    [
        (500, 375, 256, (341, 256)),  # 341.33 is cut
        (375, 500, 256, (256, 341)),
        (500, 333, 248, (372, 248)),
        (256, 300, 256, (256, 300)),
        (50, 40, [30, 20], (20, 30)),
    ],
)
def test_resize(width, height, size, expected):
    image = images([{"type": "Resize", "size": size}], picture(0, width, height))
    assert image.size == expected


@pytest.mark.parametrize(("height", "top"), [(225, 0), (227, 2), (229, 2), (230, 3)])
def test_centre_crop_rounds_half_to_even(height, top):
    image = picture(0, 224, height)
    cropped = images([{"type": "CenterCrop", "size": 224}], image)
    assert np.array_equal(np.asarray(cropped), np.asarray(image)[top : top + 224])


def test_centre_crop_pads_a_small_image_with_black():
    image = picture(0, 5, 4)
    cropped = np.asarray(images([{"type": "CenterCrop", "size": [7, 8]}], image))
    expected = np.zeros((7, 8, 3), np.uint8)
    expected[1:5, 1:6] = np.asarray(image)  # (7-4)//2 above and the odd row below
    assert np.array_equal(cropped, expected)


def test_random_crop_box():
    crop = RandomResizedCrop(size=8)
    # area 0.25 of 40x30 = 300, aspect e^0: 17.3 -> 17 square
    assert crop.draw_box(30, 40, Draws(0.25, 0.0, 3, 5)) == (5, 3, 22, 20)
    tall = crop.draw_box(30, 40, Draws(0.25, np.log(3 / 4), 0, 0))
    assert tall == (0, 0, 15, 20)


def test_random_crop_falls_back_to_the_centre_after_ten_tries():
    crop = RandomResizedCrop(size=8)
    misses = [value for _ in range(10) for value in (1.0, 0.0)]
    draws = Draws(*misses, "untouched")
    assert crop.draw_box(10, 40, draws) == (13, 0, 26, 10)  # width 10 * 4/3
    assert draws.values == ["untouched"]
    assert crop.draw_box(40, 10, Draws(*misses)) == (0, 13, 10, 26)  # height 10 / (3/4)


def test_random_crop_cuts_first_and_resizes_then():
    image = picture(0, 40, 30)
    step = {"type": "RandomCropDecodeResize", "size": [8, 6], "interpolation": "Inter.PILCUBIC"}
    result = images([step], image, 0.25, 0.0, 3, 5)
    expected = image.crop((5, 3, 22, 20)).resize((6, 8), Image.Resampling.BICUBIC)
    assert np.array_equal(np.asarray(result), np.asarray(expected))


def test_flip():
    image = picture(0)
    step = [{"type": "RandomHorizontalFlip", "prob": 0.3}]
    assert np.array_equal(np.asarray(images(step, image, 0.29)), np.asarray(image)[:, ::-1])
    assert images(step, image, 0.3) is image


def test_interpolation_names():
    image = picture(0, 40, 30)
    for name, kind in [("bilinear", 2), ("nearest", 0), ("area", 4), ("antialias", 1)]:
        step = {"type": "Resize", "size": [7, 9], "interpolation": name}
        expected = image.resize((9, 7), Image.Resampling(kind))
        assert np.array_equal(np.asarray(images([step], image)), np.asarray(expected))


def test_normalise_is_torch_to_the_bit():
    torch = pytest.importorskip("torch")
    image = picture(0, 32, 32)
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).to(torch.float32).div(255)
    mean, std = (torch.tensor(NORMALIZE[key]).view(-1, 1, 1) for key in ("mean", "std"))
    expected = tensor.sub_(mean).div_(std).numpy()
    assert np.array_equal(run([{"type": "ToTensor"}, NORMALIZE], image), expected)


@pytest.mark.parametrize("items", [TRAIN, EVAL, MAE_1_0, VIT_1_0])
def test_into_gives_the_same_bits_as_the_steps(items):
    compose = build_transforms(items)
    assert compose._table is not None
    for seed in range(6):
        image = picture(seed, 40 + seed, 44)
        expected = compose(image, sample_rng(0, 0, seed, "x"))
        out = np.full(compose.output_shape(), 7, np.float32)
        compose.into(image, sample_rng(0, 0, seed, "x"), out)
        assert expected.dtype == np.float32
        assert np.array_equal(out, expected)


def test_steps_that_do_not_fuse_give_the_same_too():
    items = [{"type": "Resize", "size": [8, 8]}, {"type": "HWC2CHW"}, NORMALIZE]
    compose = build_transforms(items)
    out = np.empty((3, 8, 8), np.float32)
    compose.into(picture(0), sample_rng(0, 0, 0, "x"), out)
    assert compose._table is None
    assert np.array_equal(out, compose(picture(0), sample_rng(0, 0, 0, "x")))


def test_a_pipeline_survives_pickling():
    compose = build_transforms(VIT_1_0)
    again = pickle.loads(pickle.dumps(compose))
    image = picture(0, 60, 50)
    first, second = (c(image, sample_rng(3, 1, 4, "x")) for c in (compose, again))
    assert np.array_equal(first, second)


def test_output_shape():
    assert build_transforms(EVAL).output_shape() == (3, 16, 16)
    with pytest.raises(ConfigError, match="depends on the image, so no batch can be made"):
        build_transforms(EVAL[:1] + EVAL[2:]).output_shape()


@pytest.mark.parametrize(("mode", "spread"), [("pixel", True), ("rand", False), ("const", False)])
def test_erasing_fills_one_box(mode, spread):
    image = np.full((3, 40, 50), 9, np.float32)
    erase = RandomErasing(probability=1.0, mode=mode)
    result = erase(image, sample_rng(0, 0, 1, "x"))
    assert image.min() == 9  # not in place
    changed = (result != 9).all(axis=0)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    assert 0.015 < changed.mean() < 0.35
    assert (np.unique(result[0][changed]).size > 1) == spread
    assert (result[:, changed] == 0).all() == (mode == "const")


def test_erasing_statistics():
    image = np.zeros((1, 64, 64), np.float32)
    erase = RandomErasing(probability=0.25, mode="pixel")
    results = [erase(image, sample_rng(0, 0, i, "x")) for i in range(1500)]
    areas = np.array([(result != 0).mean() for result in results])
    assert abs((areas > 0).mean() - 0.25) < 0.04
    assert abs(areas[areas > 0].mean() - (0.02 + 1 / 3) / 2) < 0.02
    drawn = np.concatenate([r[r != 0] for r in results])
    assert abs(drawn.mean()) < 0.01 and abs(drawn.std() - 1) < 0.01


def test_erasing_geometry_from_chosen_draws():
    image = np.ones((3, 40, 40), np.float32)
    draws = Draws(0.1, 1, 0.09, np.log(4), 5, 7)  # p, count, area 144, aspect 4: 24 x 6
    result = RandomErasing(probability=0.5).erase(image.copy(), draws)
    image[:, 5:29, 7:13] = 0
    assert np.array_equal(result, image)


def test_erasing_bounds_are_timms():
    asked = []

    class Asked(Draws):
        def uniform(self, low, high):
            asked.append((low, high))
            return self.values.pop(0)

    RandomErasing(probability=1.0).erase(np.ones((3, 9, 9), np.float32), Asked(0, 1, 0.1, 0, 0, 0))
    assert np.allclose(asked, [(0.02, 1 / 3), (np.log(0.3), -np.log(0.3))])


def problems(*items):
    with pytest.raises(ConfigError) as error:
        build_transforms(list(items), "train_dataset.transforms")
    return error.value.problems


def test_every_problem_is_reported_with_its_path():
    at = "train_dataset.transforms"
    assert problems(
        {"type": "RandomResizedCrop", "size": 0, "scale": [0.5, 0.1], "interpolation": "bicubc"},
        {"type": "RandomHorizontalFlp"},
        {"type": "RandomHorizontalFlip", "prb": 0.5},
        {"size": 3},
        {"type": "Normalize", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0, 0.5]},
        {"type": "CenterCrop"},
        {"type": "RandomErasing", "mode": "pixels"},
    ) == [
        f"{at}.0.size: expected a positive integer or [height, width], given 0",
        f"{at}.0.scale: expected [low, high] with 0 < low <= high, given [0.5, 0.1]",
        f"{at}.0.interpolation: unknown interpolation 'bicubc' (did you mean 'bicubic'?); known: "
        "nearest, linear, bilinear, cubic, bicubic, pilcubic, antialias, lanczos, area, box, "
        "hamming",
        f"{at}.1.type: unknown transform 'RandomHorizontalFlp' (did you mean "
        "'RandomHorizontalFlip'?); known: CenterCrop, Decode, HWC2CHW, Normalize, "
        "RandomCropDecodeResize, RandomErasing, RandomHorizontalFlip, RandomResizedCrop, Resize, "
        "ToPIL, ToTensor, rand_augment_transform",
        f"{at}.2.prb: unknown key (did you mean 'prob'?)",
        f"{at}.3: expected {{type: NAME, ...}}, given {{'size': 3}}",
        f"{at}.4.std: must be greater than 0, given [0.5, 0.0, 0.5]",
        f"{at}.5.size: missing; it has no default",
        f"{at}.6.mode: input should be 'pixel', 'rand' or 'const', given 'pixels'",
    ]


@pytest.mark.parametrize(
    ("items", "text"),
    [
        ([NORMALIZE], r"0 \(Normalize\): is_hwc is False but the array is channel-last; put"),
        ([{"type": "ToTensor"}, {**NORMALIZE, "is_hwc": True}], r"1 .* is channel-first; set is_h"),
        ([{"type": "ToTensor"}, {"type": "Resize", "size": 4}], r"1 \(Resize\): works on images;"),
        (
            [{"type": "ToTensor"}, {"type": "HWC2CHW"}],
            r"1 \(HWC2CHW\): .* channel-first already",
        ),
        ([{"type": "RandomErasing"}], r"0 \(RandomErasing\): works on a normalised channel-first"),
        ([{"type": "Decode"}], r"must end with ToTensor .* ends with image"),
        (MAE_1_0[:3], r"must end with ToTensor .* ends with HWC"),
        ([MAE_1_0[2], {"type": "ToTensor"}], r"1 \(ToTensor\): takes an image, given a HWC array"),
    ],
)
def test_order_problems(items, text):
    with pytest.raises(ConfigError, match=text):
        build_transforms(items)
