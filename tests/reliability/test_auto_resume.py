"""The same command again: it goes on, says from where, and does nothing when nothing is left."""

import json
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from tests.engine.lab import assert_same, checkpoints, command, digest, metrics, trained

pytestmark = pytest.mark.usefixtures("shared_steps")
EVERY_STEP = "--callbacks.2.save_checkpoint_steps=1"


@pytest.fixture
def run(mae_yaml, vit_yaml, run_flags, tmp_path):
    configs = {"mae": mae_yaml, "vit": vit_yaml}

    def call(kind: str, name: str, *more: str) -> int:
        return command(configs[kind], tmp_path / name, *run_flags[kind], *more)

    return call


def stop_at(step: int) -> str:
    return f"--runner_config.max_steps={step}"


def everything(root: Path) -> dict[str, bytes]:
    """Every file but the logs."""
    files = [p for p in root.rglob("*") if p.is_file() and "log" not in p.parts]
    return {str(p.relative_to(root)): p.read_bytes() for p in files}


def test_the_same_command_goes_on_and_then_is_finished(run, unbroken, tmp_path, capsys):
    assert run("vit", "out", stop_at(2)) == 0
    said = capsys.readouterr().err
    assert f"a new run in '{tmp_path / 'out'}'" in said
    assert run("vit", "out") == 0
    said = capsys.readouterr().err
    path = tmp_path / "out" / "checkpoint" / "rank_0" / "vit_rank_0-1_2"
    assert f"resumed {path}, the newest valid checkpoint of this run: epoch 1, step 2/3" in said
    assert_same(unbroken["vit"], tmp_path / "out")
    before = everything(tmp_path / "out")
    assert run("vit", "out") == 0
    said = capsys.readouterr().err
    assert "this run is finished: " in said and "vit_rank_0-2_3 (epoch 2, step 3)" in said
    assert "Epoch:[" not in said and "resumed" not in said
    assert everything(tmp_path / "out") == before


def test_the_dry_run_says_what_the_run_would_do(run, tmp_path, capsys):
    assert run("mae", "out", stop_at(2)) == 0
    before = everything(tmp_path / "out")
    capsys.readouterr()
    assert run("mae", "out", "--dry_run") == 0
    assert "goes on from: " in (said := capsys.readouterr().out)
    assert "mae_rank_0-1_2 (epoch 1, step 2)" in said and "weights:" not in said
    assert run("mae", "out", "--dry_run", stop_at(2)) == 0
    assert "finished: " in capsys.readouterr().out
    assert run("mae", "out", "--dry_run", "--seed", "3") == 2
    assert "seed: 0 there, 3 here" in capsys.readouterr().err
    assert everything(tmp_path / "out") == before


def test_damaged_ones_are_named_with_the_reason_and_passed_over(run, unbroken, tmp_path, capsys):
    assert run("mae", "out", EVERY_STEP, stop_at(5)) == 0
    *_, third, fourth, fifth = checkpoints(tmp_path / "out")
    (fifth / "manifest.json").unlink()
    (fourth / "state.json").write_text("{}")
    capsys.readouterr()
    assert run("mae", "out") == 0
    said = capsys.readouterr().err
    assert f"skipping a checkpoint: {fifth}/manifest.json: cannot be read" in said
    assert f"skipping a checkpoint: {fourth}/state.json: 2 bytes, the manifest says" in said
    assert f"resumed {third}" in said
    assert digest(trained(tmp_path / "out")[0]) == digest(trained(unbroken["mae"])[0])
    assert metrics(tmp_path / "out") == metrics(unbroken["mae"])


def test_only_damaged_ones_make_a_new_run_and_are_kept(run, unbroken, tmp_path, capsys):
    assert run("mae", "out", stop_at(1)) == 0
    (only,) = checkpoints(tmp_path / "out")
    (only / "config.yaml").write_text("")
    capsys.readouterr()
    assert run("mae", "out") == 0
    said = capsys.readouterr().err
    assert "skipping a checkpoint" in said and "previous_1" in said
    assert (tmp_path / "out" / "previous_1" / "checkpoint" / "rank_0" / only.name).is_dir()
    assert_same(unbroken["mae"], tmp_path / "out")


def test_what_a_run_left_that_had_no_checkpoint_is_no_run(run, unbroken, tmp_path):
    """Killed again and again before the first save, a run must not fill the disk with remains."""
    assert run("mae", "out", stop_at(1)) == 0
    (only,) = checkpoints(tmp_path / "out")
    only.rename(only.with_name(f".tmp-{only.name}-7"))
    for path in (tmp_path / "out" / "checkpoint_network").rglob("network.*"):
        path.unlink()
    assert run("mae", "out") == 0
    assert not (tmp_path / "out" / "previous_1").exists()
    assert_same(unbroken["mae"], tmp_path / "out")


def test_another_configuration_is_refused_by_name_and_can_be_forced(run, tmp_path, capsys):
    assert run("mae", "out", stop_at(3)) == 0
    before = everything(tmp_path / "out")
    capsys.readouterr()
    changes = ("--optimizer.weight_decay=0.3", "--epochs", "3")
    assert run("mae", "out", *changes) == 2
    said = capsys.readouterr().err
    for words in (
        "mae_rank_0-1_3: is of a run with other settings:",
        "optimizer.weight_decay: 0.05 there, 0.3 here",
        "runner_config.epochs: 2 there, 3 here",
        "--resume_training False",
        "--force_resume",
    ):
        assert words in said
    assert "Traceback" not in said
    assert everything(tmp_path / "out") == before
    assert run("mae", "out", *changes, "--force_resume") == 0
    said = capsys.readouterr().err
    assert "force_resume: " in said and "weight_decay: 0.05 there, 0.3 here" in said
    assert [line["step"] for line in metrics(tmp_path / "out")] == list(range(1, 19))
    assert trained(tmp_path / "out")[1]["global_step"] == 18


def test_forced_with_another_batch_size_it_goes_on_as_far_into_the_epoch(run, tmp_path):
    assert run("mae", "out", stop_at(9)) == 0  # epoch 2, step 3 of 6
    assert run("mae", "out", "--batch_size", "2", "--force_resume", "True") == 0
    steps = [line["step"] for line in metrics(tmp_path / "out")]
    assert steps == [*range(1, 10), *range(19, 25)]  # epoch 2, step 6 of 12


def test_other_weights_to_begin_from_are_another_run(run, tmp_path, capsys):
    assert run("mae", "one", stop_at(1)) == 0
    assert run("mae", "two", stop_at(1), "--seed", "2") == 0
    start = ("--run_mode", "finetune", stop_at(2), "--load_checkpoint")
    assert run("vit", "out", *start, str(tmp_path / "one")) == 0
    capsys.readouterr()
    assert run("vit", "out", *start, str(tmp_path / "two")) == 2
    assert f"load_checkpoint: {tmp_path / 'one'} there, {tmp_path / 'two'} here" in (
        capsys.readouterr().err
    )


def test_another_prefix_is_another_run(run, tmp_path):
    """As when MAE and ViT share ./output; what was there steps aside."""
    assert run("mae", "out", stop_at(1)) == 0
    assert run("vit", "out", stop_at(1)) == 0
    (moved,) = (tmp_path / "out" / "previous_1" / "checkpoint" / "rank_0").iterdir()
    assert moved.name == "mae_rank_0-1_1"
    assert [p.name for p in checkpoints(tmp_path / "out")] == ["vit_rank_0-1_1"]


def test_a_network_that_a_kill_prevented_is_saved_without_training(run, unbroken, tmp_path, capsys):
    assert run("vit", "out") == 0
    (tmp_path / "out" / "finished.json").unlink()
    for path in (tmp_path / "out" / "checkpoint_network" / "rank_0").glob("network.*"):
        path.unlink()
    capsys.readouterr()
    assert run("vit", "out") == 0
    said = capsys.readouterr().err
    assert "resumed" in said and "Epoch:[" not in said
    assert_same(unbroken["vit"], tmp_path / "out")


def test_killed_in_the_evaluation_that_ends_an_epoch(run, unbroken, tmp_path):
    """The evaluation is made up for, once, and the best accuracy is what it would have been."""
    assert run("vit", "out", stop_at(3), "--do_eval", "False") == 0  # saved, not evaluated
    assert trained(tmp_path / "out")[1]["evaluated_step"] == -1
    assert run("vit", "out") == 0
    assert_same(unbroken["vit"], tmp_path / "out")
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    assert [v["step"] for v in map(json.loads, lines) if "Top1 Accuracy" in v] == [3, 6]


def test_a_second_run_at_the_same_time_is_refused(run, tmp_path, capsys):
    """The lock of another process, and that it goes when that process is killed."""
    lock = tmp_path / "out" / "log" / ".lock"
    lock.parent.mkdir(parents=True)
    code = "import fcntl, sys; f = open(sys.argv[1], 'ab'); fcntl.lockf(f, 2); print(1, flush=True)"
    command_line = [sys.executable, "-c", code + "; sys.stdin.read()", str(lock)]
    with subprocess.Popen(command_line, stdin=PIPE, stdout=PIPE) as other:
        assert other.stdout.readline() == b"1\n"
        assert run("mae", "out", stop_at(1)) == 2
        said = capsys.readouterr().err
        assert f"error: output_dir: another run trains in '{tmp_path / 'out'}'" in said
        assert {path.name for path in (tmp_path / "out").iterdir()} == {"log"}
        other.kill()
    assert run("mae", "out", stop_at(1)) == 0
