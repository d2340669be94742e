"""Runs of two ranks and of one process on the same images, shared by the tests of a session."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.engine import lab

ROOT = Path(__file__).parents[2]
# 20 steps each: 5 an epoch of 8 images, 2 an epoch of 2 x 8
MAE = {**lab.MAE, "runner_config": {"epochs": 4, "batch_size": 8}}
VIT = {
    **lab.VIT,
    "runner_config": {"epochs": 10, "batch_size": 8, "gradient_accumulation_steps": 2},
    "eval_dataset": {"num_parallel_workers": 0, "batch_size": 8, "eval_interval": 10},
}
RECIPES = {"mae": MAE, "vit": VIT}


@pytest.fixture(autouse=True)
def _process():
    with lab.own_process():
        yield


class Lab:
    """The images, the recipes, and commands on them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        train, val = lab.class_folders(root / "train", 14), root / "val"
        lab.class_folders(val, 34, first_seed=1000)
        (val / lab.CLASSES[0] / "000.jpg").unlink()  # 101 are left
        self.configs = {k: lab.write(root / f"{k}.yaml", v) for k, v in RECIPES.items()}
        self.data = {
            "mae": ["--train_dataset_dir", str(train)],
            "vit": ["--train_dataset_dir", str(train), "--do_eval", "True"],
        }
        self.data["vit"] += ["--eval_dataset_dir", str(val)]

    def two_ranks(self, kind: str, output: Path, *options: str) -> subprocess.Popen[str]:
        """Start scripts/run_distribute.sh with half the batch on each rank."""
        flags = ["--device_target", "CPU", "--output_dir", str(output), "--batch_size", "4"]
        script = ["bash", str(ROOT / "scripts" / "run_distribute.sh"), *options]
        command = [*script, str(self.configs[kind]), "[0,2]", "train", "--", *flags]
        return subprocess.Popen(
            [*command, *self.data[kind]],
            cwd=self.root,
            env={**os.environ, "PYTHON": sys.executable},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def one_process(self, kind: str, output: Path, *flags: str) -> int:
        """Here; runs of the same settings share what was compiled."""
        with pytest.MonkeyPatch.context() as patch, lab.own_process():
            lab.share_compiled(patch)
            return lab.command(self.configs[kind], output, *self.data[kind], *flags)


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and what it said."""
    said, _ = process.communicate(timeout=240)
    return process.returncode, said


def steps_of(output: Path) -> int:
    """Updates that rank 0 has written down."""
    path = output / "metrics.jsonl"
    return path.read_text().count('"lr"') if path.is_file() else 0


def wait_for_step(process: subprocess.Popen[str], output: Path, step: int) -> None:
    end = time.monotonic() + 240  # MindSpore's ranks once took 75 s to find each other
    while steps_of(output) < step:
        assert process.poll() is None, process.stdout and process.stdout.read()
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def bench(tmp_path_factory) -> Lab:
    return Lab(tmp_path_factory.mktemp("ranks"))


class Pairs(dict[str, dict[str, Path]]):
    """kind -> output directories of "one" process and of "two" ranks, which run when asked for."""

    def __init__(self, bench: Lab) -> None:
        self._bench = bench

    def __missing__(self, kind: str) -> dict[str, Path]:
        found = {name: self._bench.root / f"{kind}_{name}" for name in ("one", "two")}
        code, said = finished(self._bench.two_ranks(kind, found["two"]))
        assert code == 0, said
        assert self._bench.one_process(kind, found["one"]) == 0
        self[kind] = found
        return found


@pytest.fixture(scope="session")
def pairs(bench) -> Pairs:
    return Pairs(bench)
