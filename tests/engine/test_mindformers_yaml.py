"""MindFormers' own two vision yamls do their whole work, made small by flags alone."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindformers_vit.checkpoint.weights import read_weights
from tests.engine.lab import CLASSES, checkpoints, class_folders, command, metrics, saved_network

pytestmark = pytest.mark.usefixtures("shared_steps")
YAMLS = Path(__file__).parents[1] / "mindformers_yaml"
MAE = YAMLS / "run_mae_vit_base_p16_224_800ep.yaml"
VIT = YAMLS / "run_vit_base_p16_224_100ep.yaml"
TRUNK = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 192,
}
DECODER = {
    "decoder_hidden_size": 32,
    "decoder_num_hidden_layers": 2,
    "decoder_num_attention_heads": 4,
    "decoder_intermediate_size": 128,
}


def model_flags(settings) -> list[str]:
    return [f"--model.model_config.{key}={value}" for key, value in settings.items()]


SMALL = [
    *("--device_target", "CPU", "--batch_size", "4"),
    "--runner_config.image_size=32",
    "--train_dataset.transforms.0.size=32",
    "--processor.image_processor.size=32",
    *model_flags(TRUNK),
]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return class_folders(tmp_path_factory.mktemp("imagenet"), 3)


def test_mae_trains_and_paints(images, tmp_path, capsys):
    policy = [
        "--train_dataset.mask_policy.input_size=32",
        "--train_dataset.mask_policy.patch_size=8",
    ]
    small = [*SMALL, *policy, *model_flags(DECODER)]
    assert command(MAE, tmp_path, *small, "--train_dataset_dir", str(images)) == 0
    said = capsys.readouterr().err
    assert said.count("\n  ignored (") >= 5 and said.count("in this yaml:\n") == 1
    lines = metrics(tmp_path)
    # 10 epochs of 9 // 4 steps; the rate of 4 images rises a fortieth of its way in each
    assert [line["step"] for line in lines] == list(range(1, 21))
    peak = 0.00015 * 4 / 256
    assert [line["lr"] for line in lines] == pytest.approx([peak * n / 80 for n in range(20)])
    assert all(line["finite"] and line["loss_scale"] == 1.0 for line in lines)  # float32 on CPU
    assert [path.name for path in checkpoints(tmp_path)] == ["mindformers_rank_0-10_2"]

    picture = sorted(images.rglob("*.jpg"))[0]
    flags = ("--run_mode", "predict", "--predict_data", str(picture))
    assert command(MAE, tmp_path, *small, *flags, "--load_checkpoint", str(tmp_path)) == 0
    (result,) = json.loads((tmp_path / "masked_image_modeling_result.json").read_text())
    assert result["file"] == str(picture) and result["loss"] > 0
    with Image.open(result["picture"]) as painted:
        assert painted.width > 4 * 32


def test_vit_trains_evaluates_and_names(images, tmp_path, capsys):
    small = [
        *SMALL,
        "--train_dataset.transforms.1.size=32",
        "--eval_dataset.transforms.1.size=36",
        "--eval_dataset.transforms.2.size=32",
        "--runner_config.num_classes=3",
        "--model.model_config.num_labels=3",
    ]
    small.remove("--train_dataset.transforms.0.size=32")
    flags = ("--train_dataset_dir", str(images), "--eval_dataset_dir", str(images))
    flags += ("--epochs", "6", "--do_eval", "True", "--callbacks.1.save_checkpoint_steps=5")
    assert command(VIT, tmp_path, *small, *flags) == 0
    assert capsys.readouterr().err.count("in this yaml:\n") == 1
    # this yaml has no SummaryMonitor, so the losses are in the log alone
    assert not (tmp_path / "metrics.jsonl").exists()
    log = (tmp_path / "log" / "rank_0" / "info.log").read_text()
    assert log.count("{ Epoch:[") == 6 * 2 and log.count("Top1 Accuracy") == 6
    assert [path.name.split("-")[1] for path in checkpoints(tmp_path)] == ["3_1", "5_2", "6_2"]
    weights = saved_network(tmp_path)
    assert weights["head.weight"].shape == (3, 48)
    assert all(np.isfinite(value).all() for value in weights.values())

    flags = ("--run_mode", "eval", "--eval_dataset_dir", str(images))
    assert command(VIT, tmp_path, *small, *flags, "--load_checkpoint", str(tmp_path)) == 0
    said = capsys.readouterr().err
    assert "9 images evaluated, each once" in said  # though its yaml asks to drop the remainder
    assert "Top1 Accuracy = {'Top1 Accuracy': " in said

    flags = ("--run_mode", "predict", "--predict_data", str(images), "--load_checkpoint")
    assert command(VIT, tmp_path, *small, *flags, str(tmp_path)) == 0
    results = json.loads((tmp_path / "image_classification_result.json").read_text())
    assert len(results) == 9
    assert {r["predictions"][0]["label"] for r in results} <= set(CLASSES)


def test_vit_finetunes_from_mae(images, tmp_path):
    """`--run_mode finetune --load_checkpoint`, from what the other yaml leaves; one step."""
    from mindformers_vit.models.auto import AutoModel
    from mindformers_vit.models.mae.mae_config import ViTMAEConfig

    network = AutoModel.from_config(ViTMAEConfig(**TRUNK, **DECODER), seed=9)
    network.save_pretrained(tmp_path / "mae", save_name="network")
    before = read_weights(tmp_path / "mae" / "network.ckpt")
    small = [
        *(flag for flag in SMALL if "transforms.0" not in flag),
        "--train_dataset.transforms.1.size=32",
        "--runner_config.num_classes=3",
        "--model.model_config.num_labels=3",
    ]
    flags = ("--run_mode", "finetune", "--train_dataset_dir", str(images))
    flags += ("--load_checkpoint", str(tmp_path / "mae"), "--runner_config.max_steps=1")
    assert command(VIT, tmp_path / "vit", *small, *flags) == 0
    after = saved_network(tmp_path / "vit")
    # the first update of a warm-up has the rate 0
    for name in ("blocks.0.attn.qkv.weight", "patch_embed.proj.weight", "pos_embed"):
        assert after[name].tobytes() == before[name].tobytes(), name
    assert np.abs(after["head.weight"]).max() < 2e-4
