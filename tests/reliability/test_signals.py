"""SIGTERM and SIGINT in each phase of a real process: saved within a step, and gone on from."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.engine.lab import assert_same, checkpoints, command, trained

pytestmark = pytest.mark.usefixtures("shared_steps")
ROOT = Path(__file__).parents[2]
TERM, INT = signal.SIGTERM, signal.SIGINT


@pytest.fixture
def start(vit_yaml, run_flags, tmp_path):
    """A run in its own process that has come to `place`."""
    started = []

    def call(place: str, seconds: float, *more: str) -> subprocess.Popen:
        flags = ("--config", str(vit_yaml), "--output_dir", str(tmp_path / "out"))
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.reliability.announced", place, str(seconds)),
                *(*flags, *run_flags["vit"], *more),
            ],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        assert process.stdout.readline() == f"{place}\n", process.communicate()[1]
        return process

    yield call
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("place", "seconds", "number", "saved"),
    [
        ("import", 30, INT, None),
        ("mindspore", 1, TERM, None),
        ("compile", 0, TERM, None),
        ("step", 1, TERM, (1, 3, -1)),
        ("step", 1, INT, (1, 3, -1)),
        ("evaluation", 30, TERM, (1, 3, -1)),  # not waited for; made up for when resumed
        ("evaluation", 30, INT, (1, 3, -1)),
        ("save", 1, TERM, (1, 2, -1)),
    ],
)
def test_a_signal(place, seconds, number, saved, start, unbroken, vit_yaml, run_flags, tmp_path):
    process = start(place, seconds, "--callbacks.2.save_checkpoint_steps=2")
    time.sleep(0.5 if place == "compile" else 0.05)
    began = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    if number == INT and place in ("step", "evaluation"):
        number = TERM  # into which MindSpore turns it, once it has computed
    assert process.returncode == 128 + number, said
    assert time.monotonic() - began < 15
    assert f"interrupted {number.name}" in said.splitlines()[-1] and "Traceback" not in said
    if saved is None:
        assert not (tmp_path / "out" / "checkpoint").exists()
    else:
        state = trained(tmp_path / "out")[1]
        assert (state["epoch"], state["step"], state["evaluated_step"]) == saved
        assert "the same command goes on from update" in said
    assert command(vit_yaml, tmp_path / "out", *run_flags["vit"]) == 0
    assert_same(unbroken["vit"], tmp_path / "out")


def test_a_second_signal_ends_at_once(start, tmp_path):
    process = start("step", 30)
    process.send_signal(TERM)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(TERM)
    assert process.wait(timeout=5) == -TERM
    assert not (tmp_path / "out" / "checkpoint").exists()


def test_one_request_may_arrive_twice(start, tmp_path):
    """`timeout` signals the process and then its group."""
    process = start("step", 1)
    process.send_signal(TERM)
    time.sleep(0.02)
    process.send_signal(TERM)
    assert process.wait(timeout=30) == 128 + TERM
    assert [path.name for path in checkpoints(tmp_path / "out")] == ["vit_rank_0-1_3"]


def test_the_group_is_signalled_and_the_input_workers_live_on(start, tmp_path):
    process = start("step", 1, "--train_dataset.num_parallel_workers=2")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) >= 2
    for child in map(int, children):
        os.kill(child, TERM)
    process.send_signal(TERM)
    assert process.wait(timeout=30) == 128 + TERM
    assert [path.name for path in checkpoints(tmp_path / "out")] == ["vit_rank_0-1_3"]
