"""A yaml of ours given to MindFormers' Trainer, by the plug-in and by `auto_register`."""

import os
import subprocess
import sys
from pathlib import Path

import mindformers
import pytest

import mindformers_vit
from mindformers_vit.errors import ConfigError
from tests.engine import lab

ROOT = Path(__file__).parents[1]


@pytest.fixture
def recipe(workplace):
    """A yaml with its data, and the same training by our own command in `ours`."""
    images = lab.class_folders(workplace / "train", 8)
    values = {**lab.MAE, "runner_config": {"epochs": 1, "batch_size": 4}}
    values["trainer"] = {"type": "masked_image_modeling", "auto_register": "plugin.VisionTask"}
    source = {"data_loader": {"type": "ImageFolderDataset", "dataset_dir": str(images)}}
    values["train_dataset"] = lab.MAE["train_dataset"] | source
    values["eval_dataset"] = {"num_parallel_workers": 0, **source}
    values["eval_dataset_task"] = {"type": "MIMDataset"}  # MindFormers' Trainer needs it
    path = lab.write(workplace / "mae.yaml", values)
    assert lab.command(path, workplace / "ours") == 0
    return path


def test_as_mindformers_own_script_does(recipe, workplace):
    """MindFormerConfig, changes, build_context, Trainer(config), and what is passed as None."""
    config = mindformers.MindFormerConfig(str(recipe))
    config.output_dir = str(workplace / "theirs")
    config.input_data, config.adapter_id, config.predict_batch_size = None, None, None
    mindformers.build_context(config)
    trainer = mindformers.Trainer(config)
    assert trainer.train(resume_from_checkpoint=None) is None
    lab.assert_same(workplace / "ours", workplace / "theirs")
    picture = str(next((workplace / "train").rglob("*.jpg")))
    (result,) = trainer.predict(
        predict_checkpoint=str(workplace / "theirs"),
        input_data=picture,
        batch_size=config.predict_batch_size,
        adapter_id=config.adapter_id,
    )
    own = mindformers_vit.Trainer(args=str(recipe))
    (expected,) = own.predict(predict_checkpoint=str(workplace / "ours"), input_data=picture)
    assert result["loss"] == expected["loss"] > 0


def test_a_slip_in_a_yaml_is_named(recipe):
    recipe.write_text(recipe.read_text() + "learning_rat: 1\n")
    with pytest.raises(ConfigError, match="learning_rat: unknown key"):
        mindformers.Trainer(mindformers.MindFormerConfig(str(recipe))).train()


SCRIPT = """
import sys
from mindformers import MindFormerConfig, Trainer, build_context

config = MindFormerConfig(sys.argv[1])
config.context.device_target = "CPU"
build_context(config)
trainer = Trainer(config)
assert "mindformers_vit.plugin" not in sys.modules
trainer.train()
(result,) = trainer.predict(predict_checkpoint="output", input_data=sys.argv[2])
print("loss", result["loss"])
print("evaluate gives", trainer.evaluate(eval_checkpoint="output"))
"""


def test_auto_register(recipe, workplace, monkeypatch):
    """The plug-in is not imported: the yaml names its class, REGISTER_PATH its folder."""
    picture = str(next((workplace / "train").rglob("*.jpg")))
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "REGISTER_PATH": str(ROOT / "mindformers_vit"),
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(recipe), picture],
        capture_output=True, text=True, env=environment, cwd=workplace,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    network = lab.saved_network(workplace / "output")
    assert lab.digest(network) == lab.digest(lab.saved_network(workplace / "ours"))
    own = mindformers_vit.Trainer(args=str(recipe))
    (result,) = own.predict(predict_checkpoint=str(workplace / "ours"), input_data=picture)
    lines = done.stdout.splitlines()
    assert f"loss {result['loss']}" in lines
    metrics = own.evaluate(eval_checkpoint=str(workplace / "ours"))
    assert "evaluate gives None" in lines  # MindFormers' Trainer keeps to itself what it is told
    assert f"Loss = {metrics}" in done.stderr
