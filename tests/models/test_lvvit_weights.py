"""LV-ViT's settings, sizes, files and preprocessing, without MindSpore."""

import numpy as np
import pytest
import torch

from mindformers_vit.checkpoint.weights import read_weights
from mindformers_vit.config.strict import validate
from mindformers_vit.errors import CheckpointError, ConfigError
from mindformers_vit.models.layers.parameters import count, shapes_of
from mindformers_vit.models.lvvit.convert_weight import convert_weight
from mindformers_vit.models.lvvit.lvvit_config import FAMILY, LVViTConfig
from mindformers_vit.models.lvvit.lvvit_loading import loading_rules
from mindformers_vit.models.lvvit.lvvit_params import parameter_specs
from mindformers_vit.models.lvvit.lvvit_processor import LVViTProcessor
from tests.models.conftest import GOLDENS, LVVIT_TINY, UNTOLD, golden

pytestmark = pytest.mark.fast

PUBLISHED = {  # parameters, tensors of the file with 3 counters of batches
    "lvvit_t": (8_534_720, 160),
    "lvvit_s": (26_151_824, 204),
    "lvvit_s_384": (26_297_744, 204),
    "lvvit_m": (55_830_544, 248),
    "lvvit_m_384": (56_025_104, 248),
    "lvvit_m_448": (56_131_600, 248),
    "lvvit_l": (150_021_968, 292),
    "lvvit_l_448": (150_473_552, 292),
    "lvvit_l_512": (150_657_872, 292),
}
RESIZED = {
    "lvvit_t": 248,
    "lvvit_s": 248,
    "lvvit_s_384": 426,
    "lvvit_m": 224,
    "lvvit_m_448": 448,
    "lvvit_l_512": 512,
}
WEIGHTS = GOLDENS / "lvvit_tiny_skip1" / "weights.pth"


def tensors() -> dict[str, torch.Tensor]:
    return torch.load(WEIGHTS, weights_only=True)["state_dict"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_the_published_ones(name):
    specs = parameter_specs(LVViTConfig(**FAMILY.variants[name]))
    assert (count(specs, trainable_only=True), len(specs) + 3) == PUBLISHED[name]


@pytest.mark.parametrize("name", RESIZED)
def test_the_border_that_is_cut_off_belongs_to_the_network(name):
    config = LVViTConfig(**FAMILY.variants[name])
    processor = LVViTProcessor.for_network(config)
    assert processor.image_processor.resize_to == RESIZED[name]
    assert LVViTProcessor.from_dict(processor.to_dict()) == processor
    assert LVViTProcessor.for_network(config, {"resize": 999}).image_processor.resize == 999


def test_golden_preprocessing():
    case = golden("preprocess")
    pixels = LVViTProcessor.for_network(LVViTConfig())(GOLDENS / "preprocess" / "image0.jpg")
    theirs = case["image0/imagenet_248_224"]
    np.testing.assert_allclose(pixels[0, :, ::4, ::4], theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"patch_size": 7}, "patch_size 7 is odd; the stem halves the image first"),
        ({"cls_weight": 0, "dense_weight": 0}, "cls_weight and dense_weight are both 0"),
        ({"skip_lam": 0}, "skip_lam: "),
        ({"crop_pct": 1.1}, "crop_pct: "),
    ],
)
def test_refused_settings(values, text):
    with pytest.raises(ConfigError) as error:
        validate(LVViTConfig, values, "")
    assert text in str(error.value)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda t: t,
        lambda t: {"state_dict": t, "epoch": 3},
        lambda t: {"model": t},
        lambda t: {"state_dict": {f"module.{n}": v for n, v in t.items()}},
        lambda t: {"state_dict": {n: v * 0 for n, v in t.items()}, "state_dict_ema": t},
    ],
    ids=["raw", "state_dict", "model", "module", "ema"],
)
def test_every_wrapping_is_read(wrap, tmp_path):
    source, target = tmp_path / "a.pth.tar", tmp_path / "a.safetensors"
    torch.save(wrap(tensors()), source)
    report = convert_weight(source, target, settings=UNTOLD["lvvit"])
    assert report.layout == "zihangJiang/TokenLabeling"
    arrays = read_weights(target)
    config = LVViTConfig(**LVVIT_TINY)
    assert {n: a.shape for n, a in arrays.items()} == shapes_of(parameter_specs(config))
    theirs = tensors()["patch_embed.bn2.running_var"].numpy()
    np.testing.assert_array_equal(arrays["patch_embed.bn2.moving_variance"], theirs)


def test_there_and_back(tmp_path):
    """Everything but the counters, which PyTorch puts back by itself."""
    ours, theirs = tmp_path / "a.ckpt.safetensors", tmp_path / "b.pth"
    convert_weight(WEIGHTS, ours, settings=UNTOLD["lvvit"])
    convert_weight(theirs, ours, reversed=True)
    again = torch.load(theirs, weights_only=True)["state_dict"]
    original = {n: t for n, t in tensors().items() if not n.endswith("num_batches_tracked")}
    assert again.keys() == original.keys()
    assert all(torch.equal(original[n], again[n]) for n in original)
    norm = torch.nn.BatchNorm2d(64)
    mine = {n.rpartition(".")[2]: t for n, t in again.items() if ".bn1." in n}
    norm.load_state_dict(mine, strict=True)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("aux_head.weight", None, "'aux_head.weight' is missing"),
        ("patch_embed.bn1.running_mean", None, r"- patch_embed.bn1.moving_mean \(64,\)"),
        ("blocks.0.attn.qkv.bias", torch.ones(144), "qkv.bias"),
        ("extra", torch.ones(2), r"\+ extra \(2,\): not in the table"),
        ("norm.weight", torch.ones(47), r"~ norm.gamma: \(47,\) found, \(48,\) expected"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_written(name, value, text, tmp_path):
    source, target = tmp_path / "a.pth", tmp_path / "a.safetensors"
    changed = {n: t for n, t in tensors().items() if n != name}
    torch.save(changed | ({} if value is None else {name: value}), source)
    with pytest.raises(CheckpointError, match=text):
        convert_weight(source, target)
    assert not target.exists()


def arrays_of(config: LVViTConfig) -> dict[str, np.ndarray]:
    return {n: np.zeros(s, np.float32) for n, s in shapes_of(parameter_specs(config)).items()}


def fit(config, loaded, *, new_parts):
    from mindformers_vit.checkpoint.merge import merge

    rules = loading_rules(config, loaded, new_parts=new_parts)
    return merge(
        loaded,
        shapes_of(parameter_specs(config)),
        allow_new=rules.allow_new,
        allow_unused=rules.allow_unused,
        resize=rules.resize,
    )


def test_another_resolution_resizes_the_position_embedding():
    arrays, report = fit(
        LVViTConfig(**LVVIT_TINY | {"image_size": 96}),
        arrays_of(LVViTConfig(**LVVIT_TINY)),
        new_parts=False,
    )
    assert report.resized == ("pos_embed",)
    assert arrays["pos_embed"].shape == (1, 37, 48)


def test_other_classes_start_both_heads_anew():
    config, loaded = (
        LVViTConfig(**LVVIT_TINY | {"num_labels": 3}),
        arrays_of(LVViTConfig(**LVVIT_TINY)),
    )
    _, report = fit(config, loaded, new_parts=True)
    assert report.new == ("aux_head.bias", "aux_head.weight", "head.bias", "head.weight")
    with pytest.raises(CheckpointError, match=r"aux_head.weight: file \(10, 48\)"):
        fit(config, loaded, new_parts=False)


@pytest.mark.parametrize("head", ["head", "aux_head"])
def test_a_file_without_one_of_the_heads_is_refused(head):
    config = LVViTConfig(**LVVIT_TINY)
    loaded = {n: a for n, a in arrays_of(config).items() if n != f"{head}.weight"}
    for new_parts in (True, False):
        with pytest.raises(CheckpointError, match=f"has no {head}.weight"):
            loading_rules(config, loaded, new_parts=new_parts)
