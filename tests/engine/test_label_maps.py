"""LV-ViT learns from label maps: from a yaml to the loss of a step, against numpy."""

import numpy as np
import pytest

from mindformers_vit.config.loader import load_yaml, set_dotted
from mindformers_vit.data.mixup import mix_token_box
from mindformers_vit.engine import build, loaders
from mindformers_vit.engine.plan import make_plan
from mindformers_vit.errors import ConfigError
from mindformers_vit.tools.shapes import ShapesSettings, make_shapes_dataset
from mindformers_vit.tools.shapes_label_maps import make_label_maps
from tests.engine import lab
from tests.engine.lab import command, metrics
from tests.models.conftest import LVVIT_TINY

GRID = 4
SETTINGS = ShapesSettings(image_size=64, train=24, labelled_per_class=1, val_per_class=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """24 pictures and their label maps."""
    root = tmp_path_factory.mktemp("shapes")
    make_shapes_dataset(root, SETTINGS)
    assert make_label_maps(root, SETTINGS) == 24
    assert make_label_maps(root, SETTINGS) == 0
    return root


@pytest.fixture(scope="module")
def config(data, tmp_path_factory):
    crop = {"type": "RandomResizedCrop", "size": 64, "scale": [0.5, 1.0]}
    values = {
        **lab.VIT,
        "runner_config": {"epochs": 1, "batch_size": 4, "max_steps": 1},
        "runner_wrapper": {},
        "train_dataset": {
            "num_parallel_workers": 0,
            "data_loader": {
                "dataset_dir": str(data / "train"),
                "label_map_dir": str(data / "label_maps" / "train"),
                "label_map_order": "straight",
            },
            "transforms": [lab.CROP[1], crop, {"type": "ToTensor"}, lab.NORMALIZE],
            "label_smoothing": 0.1,
        },
        "model": {
            "arch": {"type": "LVViTForImageClassification"},
            "model_config": {
                "type": "LVViTConfig",
                **LVVIT_TINY,
                "num_labels": 12,
                "cls_weight": 1.0,
                "dense_weight": 0.5,
            },
        },
        "ema": None,
        "layer_scale": False,
        "processor": {"type": "LVViTProcessor"},
    }
    return lab.write(tmp_path_factory.mktemp("config") / "lvvit.yaml", values)


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def test_one_step_from_a_yaml(config, data, tmp_path):
    """Its loss is what numpy makes of the network's logits and of the loader's targets."""
    assert command(config, tmp_path) == 0
    (line,) = metrics(tmp_path)

    import mindspore as ms

    plan = make_plan(load_yaml(config))
    source = build.open_data(plan).train
    batch = next(loaders.train_loader(plan, source).epoch(0))
    assert batch["target"].shape == (4, 2 + GRID * GRID, 12)
    box = mix_token_box(0, 0, 0, (GRID, GRID))
    assert batch["mix_box"].tolist() == [list(box)] * 4
    top, left, bottom, right = box
    share = (bottom - top) * (right - left) / GRID**2
    assert 0 < share < 1
    network = plan.family.load_model_class()(plan.network, seed=0)
    network.set_train(True)
    lab.eager()
    x_cls, x_aux = network(ms.Tensor(batch["image"]), None, ms.Tensor(batch["mix_box"]))
    target = batch["target"].astype(np.float64)
    # of a token in the box, the network gives back the logits where the token came from: its
    # label stays; the class token has seen both images
    t_cls = (1 - share) * target[:, 1] + share * target[::-1, 1]
    cls = -(t_cls * log_softmax(x_cls.asnumpy().astype(np.float64))).sum(-1).mean()
    dense = -(target[:, 2:] * log_softmax(x_aux.asnumpy().astype(np.float64))).sum(-1).mean()
    assert line["loss"] == pytest.approx(1.0 * cls + 0.5 * dense, rel=1e-5)
    assert line["finite"] is True and line["grad_norm"] > 0


def test_tokens_of_the_box_keep_their_own_labels(config):
    """Where the images' stems are mixed, each token's logits depend on the token's own image."""
    import mindspore as ms

    plan = make_plan(load_yaml(config))
    network = plan.family.load_model_class()(plan.network, seed=0)
    network.set_train(True)
    stem = np.random.default_rng(0).normal(size=(4, GRID * GRID, 48)).astype(np.float32)
    network.patch_embed.construct = lambda _: ms.Tensor(stem)  # no batch norm between the images
    network.blocks = ms.nn.CellList([])
    network.pos_embed = ms.Tensor(np.zeros((1, GRID * GRID + 1, 48), np.float32))
    image = ms.Tensor(np.zeros((4, 3, 64, 64), np.float32))
    box = ms.Tensor(np.array([[1, 0, 3, 2]] * 4, np.int32))
    _, mixed = network(image, None, box)
    _, plain = network(image)
    np.testing.assert_allclose(mixed.asnumpy(), plain.asnumpy(), atol=1e-6)


@pytest.mark.fast
def test_label_maps_of_the_shapes(data):
    found = np.load(data / "label_maps/train/solid_ring/solid_ring_000001.npy")
    assert (found.shape, found.dtype) == ((2, 1, 8, 8), np.float16)
    assert (found[1] == 7).all()
    assert found[0].min() == 0 and 4 < found[0].max() <= 8


@pytest.mark.fast
@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("train_dataset.mixup_op", {"mixup_alpha": 0.8}, "not with train_dataset.mixup_op"),
        (
            "eval_dataset.data_loader.label_map_dir", "maps",
            "eval_dataset.data_loader.label_map_dir: only training learns",
        ),
        (
            "train_dataset.data_loader.label_map_order", "yx",
            "label_map_order: input should be 'reference' or 'straight', given 'yx'",
        ),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit(config, key, value, said):
    values = set_dotted(load_yaml(config), key, value)
    if key.endswith("mixup_op"):
        values = set_dotted(values, "train_dataset.label_smoothing", 0.0)
    with pytest.raises(ConfigError) as error:
        make_plan(values)
    assert said in str(error.value)


@pytest.mark.fast
def test_a_missing_map_is_found_before_training(config, data, tmp_path):
    values = set_dotted(load_yaml(config), "train_dataset.data_loader.label_map_dir", str(tmp_path))
    with pytest.raises(ConfigError) as error:
        build.open_data(make_plan(values))
    first = tmp_path / "checkered_square" / "checkered_square_000000.npy"
    assert str(error.value) == (
        f"train_dataset.data_loader.label_map_dir: no label map for 24 of 24 training images; "
        f"the first that is missing: {first}"
    )
