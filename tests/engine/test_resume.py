"""A run that was stopped and resumed equals the unbroken one to the last bit."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.lab import (
    assert_same,
    checkpoints,
    class_folders,
    command,
    digest,
    metrics,
    trained,
)

pytestmark = pytest.mark.usefixtures("shared_steps")
ROOT = Path(__file__).parents[2]
RESUME = ("--resume_training", "True")


@pytest.fixture
def configs(mae_yaml, vit_yaml) -> dict[str, Path]:
    return {"mae": mae_yaml, "vit": vit_yaml}


@pytest.fixture
def run(configs, run_flags, tmp_path):
    def call(kind: str, name: str, *more: str) -> int:
        return command(configs[kind], tmp_path / name, *run_flags[kind], *more)

    return call


def stop_at(step: int) -> str:
    return f"--runner_config.max_steps={step}"


@pytest.mark.parametrize("form", ["safetensors", "ckpt"])
@pytest.mark.parametrize(
    ("kind", "step"),
    [
        ("mae", 1),  # in warm-up
        ("mae", 6),  # between the epochs
        ("mae", 9),
        ("vit", 2),  # the classifier accumulates, averages, mixes, clips and evaluates
        ("vit", 3),  # between the epochs
        ("vit", 4),
    ],
)
def test_stopped_and_resumed_is_unbroken(run, unbroken, kind, step, form, tmp_path):
    form_flag = f"--callbacks.2.checkpoint_format={form}"
    assert run(kind, "broken", form_flag, stop_at(step)) == 0
    _, state = trained(tmp_path / "broken")
    per_epoch = {"mae": 6, "vit": 3}[kind]
    place = state["global_step"], state["epoch"], state["step"]
    assert place == (step, 1 + (step - 1) // per_epoch, 1 + (step - 1) % per_epoch)
    assert list(checkpoints(tmp_path / "broken")[-1].glob(f"*.{form}")) != []
    assert run(kind, "broken", form_flag, *RESUME) == 0
    assert_same(unbroken[kind], tmp_path / "broken")


def test_stopped_twice_with_another_number_of_workers(run, unbroken, tmp_path):
    assert run("vit", "broken", stop_at(1)) == 0
    assert run("vit", "broken", *RESUME, stop_at(5), "--train_dataset.num_parallel_workers=2") == 0
    assert run("vit", "broken", *RESUME) == 0
    assert_same(unbroken["vit"], tmp_path / "broken")


def test_resumed_in_a_process_of_its_own(run, unbroken, configs, run_flags, tmp_path):
    """Nothing but the checkpoint comes from the first process."""
    assert run("vit", "broken", stop_at(2)) == 0
    resumed = subprocess.run(
        [
            *(sys.executable, str(ROOT / "run_mindformer.py"), "--config", str(configs["vit"])),
            *("--output_dir", str(tmp_path / "broken"), *run_flags["vit"], *RESUME),
        ],
        capture_output=True,
        text=True,
    )
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed" in resumed.stderr and "epoch 1, step 2/3" in resumed.stderr
    assert_same(unbroken["vit"], tmp_path / "broken")


def test_a_checkpoint_that_is_named_is_the_one_to_go_on_from(run, tmp_path):
    """By itself, by its folder and by the output directory; into another output directory."""
    every = "--callbacks.2.save_checkpoint_steps=1"
    assert run("mae", "unbroken", every) == 0
    expected = digest(trained(tmp_path / "unbroken")[0])
    paths = checkpoints(tmp_path / "unbroken")
    assert [path.name for path in paths] == [f"mae_rank_0-2_{n}" for n in range(2, 7)]  # keep 5
    assert run("mae", "again", *RESUME, "--load_checkpoint", str(paths[0])) == 0
    assert digest(trained(tmp_path / "again")[0]) == expected
    assert metrics(tmp_path / "again") == metrics(tmp_path / "unbroken")[8:]
    shutil.rmtree(paths[-1])
    for number, path in enumerate((tmp_path / "unbroken", tmp_path / "unbroken" / "checkpoint")):
        assert run("mae", f"more{number}", *RESUME, "--load_checkpoint", str(path)) == 0
        assert digest(trained(tmp_path / f"more{number}")[0]) == expected
        assert len(metrics(tmp_path / f"more{number}")) == 1


def test_a_damaged_checkpoint_is_passed_over(run, unbroken, tmp_path, capsys):
    assert run("mae", "broken", "--callbacks.2.save_checkpoint_steps=1", stop_at(8)) == 0
    weights = next(checkpoints(tmp_path / "broken")[-1].glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    capsys.readouterr()
    assert run("mae", "broken", *RESUME) == 0
    said = capsys.readouterr().err
    assert "skipping a checkpoint" in said and "resumed" in said and "step 1/6" in said
    tensors, state = trained(tmp_path / "broken")
    assert state["global_step"] == 12
    assert digest(tensors) == digest(trained(unbroken["mae"])[0])


def test_a_run_that_is_done_stays_as_it_is(run, tmp_path):
    assert run("mae", "done") == 0
    before = trained(tmp_path / "done"), metrics(tmp_path / "done")
    assert run("mae", "done", *RESUME) == 0
    after = trained(tmp_path / "done"), metrics(tmp_path / "done")
    assert digest(before[0][0]) == digest(after[0][0])
    assert (before[0][1], before[1]) == (after[0][1], after[1])


def test_the_best_accuracy_so_far_is_in_the_checkpoint_of_the_same_step(run, tmp_path):
    """Whichever callback comes first, and also when the last step of the epoch saves by itself."""
    for number, save in enumerate(("save_checkpoint_epochs", "save_checkpoint_steps")):
        name = f"run{number}"
        assert run("vit", name, f"--callbacks.2.{save}=1") == 0
        for epoch in (1, 2):
            accuracies = [
                line["Top1 Accuracy"]
                for line in metrics(tmp_path / name)
                if "Top1 Accuracy" in line and line["epoch"] <= epoch
            ]
            assert len(accuracies) == epoch
            (path,) = (tmp_path / name / "checkpoint" / "rank_0").glob(f"*-{epoch}_3")
            assert json.loads((path / "state.json").read_text())["best"] == max(accuracies)
    assert (tmp_path / "run0" / "checkpoint_network" / "rank_0" / "best" / "network.yaml").is_file()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--epochs", "3"], "runner_config.epochs: 2 there, 3 here"),
        (["--batch_size", "2"], "global batch (runner_config.batch_size x ranks): 4 there, 2 here"),
        # the same number of steps in an epoch, of other images
        (
            ["--batch_size", "2", "--gradient_accumulation_steps", "4"],
            "global batch (runner_config.batch_size x ranks): 4 there, 2 here",
        ),
        (["--gradient_accumulation_steps", "3"], "gradient_accumulation_steps: 2 there, 3 here"),
        (["--seed", "9"], "seed: 0 there, 9 here"),
        (["--optimizer.weight_decay", "0.3"], "optimizer.weight_decay: 0.05 there, 0.3 here"),
        (["--num_samples", "16"], "data_loader.num_samples: not set there, 16 here"),
    ],
)
def test_other_settings_are_refused(run, change, said, tmp_path, capsys):
    assert run("vit", "out", stop_at(1)) == 0
    before = digest(trained(tmp_path / "out")[0])
    capsys.readouterr()
    assert run("vit", "out", *RESUME, *change) == 2
    said_all = capsys.readouterr().err
    assert said in said_all and "vit_rank_0-1_1" in said_all and "Traceback" not in said_all
    assert digest(trained(tmp_path / "out")[0]) == before


def test_another_number_of_images_is_refused(run, tmp_path, capsys):
    """Of as many steps, in another order."""
    assert run("vit", "out", stop_at(1)) == 0
    more = class_folders(tmp_path / "more", 9)
    assert run("vit", "out", *RESUME, "--train_dataset_dir", str(more)) == 2
    assert "images of the training data set: 24 there, 27 here" in capsys.readouterr().err


def test_nothing_to_resume(run, capsys, tmp_path):
    assert run("mae", "empty", *RESUME) == 2
    assert "resume_training: no valid training checkpoint in" in capsys.readouterr().err
    assert run("mae", "mae", stop_at(1)) == 0
    assert run("vit", "vit", *RESUME, "--load_checkpoint", str(tmp_path / "mae")) == 2
    assert "is of a run with other settings" in capsys.readouterr().err


def test_the_command_that_began_a_finetuning_resumes_it(run, tmp_path):
    assert run("mae", "pretrain", stop_at(1)) == 0
    start = ("--run_mode", "finetune", "--load_checkpoint", str(tmp_path / "pretrain"))
    assert run("vit", "unbroken", *start) == 0
    assert run("vit", "broken", *start, stop_at(2)) == 0
    assert run("vit", "broken", *start, *RESUME) == 0
    unbroken = digest(trained(tmp_path / "unbroken")[0])
    assert digest(trained(tmp_path / "broken")[0]) == unbroken


def test_a_new_run_leaves_nothing_of_the_old_one_in_its_way(run, tmp_path):
    """Resuming the second run must not find the first one's longer road."""
    assert run("vit", "out") == 0
    first = digest(trained(tmp_path / "out")[0])
    assert run("vit", "out", "--seed", "7", stop_at(4), "--resume_training", "False") == 0
    assert run("vit", "out", "--seed", "7", *RESUME) == 0
    second = digest(trained(tmp_path / "out")[0])
    assert run("vit", "alone", "--seed", "7") == 0
    assert second == digest(trained(tmp_path / "alone")[0]) != first
    assert digest(trained(tmp_path / "out" / "previous_1")[0]) == first


def test_the_checkpoint_of_another_network_is_refused(run, configs, run_flags, tmp_path, capsys):
    """Same epochs, steps and batch: only the tensors differ."""
    assert run("vit", "with_ema", stop_at(1)) == 0
    other = ("--ema.decay=0.5", *RESUME, "--model.model_config.num_hidden_layers=1")
    assert run("vit", "with_ema", *other) == 2
    said = capsys.readouterr().err
    assert "model.model_config.num_hidden_layers: 2 there, 1 here" in said
    assert "Traceback" not in said


def test_repeated_augmentation_resumes_in_the_middle_of_an_epoch(run, unbroken, tmp_path):
    repeated = "--train_dataset.repeated_augmentation=3"
    assert run("vit", "whole", repeated) == 0
    assert run("vit", "broken", repeated, stop_at(2)) == 0
    assert run("vit", "broken", repeated, *RESUME) == 0
    assert_same(tmp_path / "whole", tmp_path / "broken")
    assert digest(trained(tmp_path / "whole")[0]) != digest(trained(unbroken["vit"])[0])
