"""Training equals the reference's step for step, through converter, plan, groups and train step."""

import numpy as np
import pytest

from mindformers_vit.checkpoint.weights import read_weights
from mindformers_vit.engine import train
from mindformers_vit.engine.loop import Length
from mindformers_vit.engine.plan import make_plan
from mindformers_vit.engine.weights import Weights
from mindformers_vit.models.conversion_table import to_ours
from mindformers_vit.models.mae import convert_weight as mae
from mindformers_vit.models.torch_files import read_torch
from mindformers_vit.models.vit import convert_weight as vit
from tests.engine import lab
from tests.models.conftest import GOLDENS, UNTOLD, VIT_TINY, golden

pytestmark = pytest.mark.usefixtures("shared_steps")
FINETUNE = {
    **lab.VIT,
    "runner_config": {"epochs": 1, "batch_size": 4},
    "runner_wrapper": {},
    "model": {
        "arch": {"type": "ViTForImageClassification"},
        "model_config": {"type": "ViTConfig", **VIT_TINY},
    },
    "ema": None,
}


def build(values, name, module, tmp_path):
    """The engine's own train step over the golden's weights, converted."""
    path = tmp_path / "weights.safetensors"
    settings = UNTOLD[name.partition("_")[0]]
    module.convert_weight(GOLDENS / name / "weights.pth", path, settings=settings)
    plan = make_plan(values)
    network = train.load_network(plan, Weights(read_weights(path), name, {}))
    return train._train_step(plan, network, Length(1, 20, 1))


def test_mae_pretraining(tmp_path):
    case = golden("mae_pretrain_20steps")
    step = build(lab.MAE, "mae_pretrain_20steps", mae, tmp_path)
    results = [
        step([{"image": image, "noise": noise}], lr)
        for image, noise, lr in zip(case["images"], case["noise"], case["lr"], strict=True)
    ]
    np.testing.assert_allclose([r["loss"] for r in results], case["loss"], rtol=1e-4)
    assert all(r["finite"] and r["images"] == 4 for r in results)
    assert case["loss"][-1] < 0.6 * case["loss"][0]
    final = {k.removeprefix("final/"): v for k, v in case.items() if k.startswith("final/")}
    expected = renamed(final, mae.CONVERTER)
    tensors = step.tensors()
    assert {n for n in tensors if not n.startswith("optimizer.")} == set(expected)
    for name, value in expected.items():
        keep = has_gradient(name, value.shape)
        ours, theirs = tensors[name][keep], value[keep]
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4, err_msg=name)
        if not keep.all():  # rounding noise in both, of which Adam makes steps of the full size
            moment = np.sqrt(tensors[f"optimizer.v.{name}"])
            assert moment[~keep].max() < 1e-6 * moment[keep].max()
    assert tensors["optimizer.step"] == 20


def has_gradient(name, shape):
    """Not the bias of the keys: it shifts a softmax's whole row, so its gradient is 0."""
    keep = np.ones(shape, bool)
    if name.endswith("attn.qkv.bias"):
        keep[shape[0] // 3 : 2 * shape[0] // 3] = False
    return keep


def test_vit_finetuning(tmp_path):
    case = golden("vit_finetune_10steps")
    step = build(FINETUNE, "vit_finetune_10steps", vit, tmp_path)
    losses = [
        step([{"image": image, "target": target}], lr)["loss"]
        for image, target, lr in zip(case["images"], case["soft_targets"], case["lr"], strict=True)
    ]
    np.testing.assert_allclose(losses, case["loss"], rtol=1e-4)
    place_of = place_by_our_name(case["group_names"])
    optimizer = step.optimizer
    assert {p.name for p in optimizer.params} == set(place_of)
    for param, group in zip(optimizer.params, optimizer.group_of, strict=True):
        scale, decay = optimizer.groups[group]
        at = place_of[param.name]
        assert scale == pytest.approx(case["group_lr_scale"][at], rel=1e-12), param.name
        assert decay == case["group_weight_decay"][at], param.name
    assert len(optimizer.groups) == 10  # five layers, each with and without decay


def place_by_our_name(names) -> dict[str, int]:
    """Parameters by our name -> their place in the golden's list, through the converter's table."""
    shapes = read_torch(GOLDENS / "vit_finetune_10steps" / "weights.pth").arrays
    tagged = {name: np.full(shapes[name].shape, i, np.int32) for i, name in enumerate(names)}
    ours = renamed(tagged, vit.CONVERTER)
    return {name: int(array.flat[0]) for name, array in ours.items()}


def renamed(arrays, converter):
    """The arrays under our names, by the first layout of a converter."""
    return to_ours(arrays, converter.layouts[0], lambda s: converter.configure(s, {})).arrays
