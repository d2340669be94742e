"""P8: nonsense of every kind, all in one yaml, comes back in one screen before the first step.

Each of these alone: `tests/engine/test_plan.py`, `tests/test_cli.py`.
"""

from pathlib import Path

import pytest

from tests.engine import lab

pytestmark = pytest.mark.fast
NONSENSE = {
    "--runner_config.epoch=3": "runner_config.epoch: unknown key (did you mean 'epochs'?)",
    "--batch_size=3": "mixup pairs the images of a batch, so it must be even, given 3",
    "--lr_schedule.warmup_epochs=9": "warmup_epochs: 9 given, but the run has 2 epochs",
    "--runner_config.num_classes=5": "5 given, but model.model_config.num_labels is 3",
    "--model.model_config.patch_size=7": "not divisible by patch_size 7",
}


def refused(path: Path, out: Path, capsys, *flags: str) -> str:
    with lab.own_process():
        assert lab.command(path, out, *flags) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said and not out.exists()
    return said


@pytest.fixture
def config(tmp_path):
    values = dict(lab.VIT)
    values["lr_schedule"] = {"type": "cosine", "learning_rate": 1e-3}
    return lab.write(tmp_path / "x.yaml", values)


@pytest.mark.parametrize("flag", NONSENSE)
def test_alone(flag, config, tmp_path, capsys):
    said = refused(config, tmp_path / "out", capsys, flag)
    assert said.startswith("error: ") and NONSENSE[flag] in said


def test_what_the_settings_show_at_once(config, tmp_path, capsys):
    flags = [flag for flag in NONSENSE if "patch_size" not in flag and ".epoch=" not in flag]
    said = refused(config, tmp_path / "out", capsys, *flags)
    assert said.startswith(f"{len(flags)} problems:")
    assert all(NONSENSE[flag] in said for flag in flags)


def test_what_the_data_show_at_once(config, tmp_path, capsys):
    """An accumulation longer than an epoch, a class too many here, an empty one there."""
    train = lab.class_folders(tmp_path / "train", 2)
    (train / "dog").mkdir()
    lab.picture(1).save(train / "dog" / "1.png")
    evaluation = lab.class_folders(tmp_path / "val", 1)
    (evaluation / "empty").mkdir()
    flags = ["--train_dataset_dir", str(train), "--eval_dataset_dir", str(evaluation)]
    flags += ["--do_eval", "True", "--gradient_accumulation_steps", "9"]
    said = refused(config, tmp_path / "out", capsys, *flags)
    for words in (
        "one step needs 36 images (batch_size 4 x gradient_accumulation_steps 9)",
        "4 class folders, but the head has model.model_config.num_labels 3",
        "1 of 4 class folders hold no image: 'empty'",
    ):
        assert words in said
    assert said.startswith("3 problems:")
