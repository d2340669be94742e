"""SIGKILL at random moments of a tiny run, the same command again until it is done.

    python -m tests.reliability.kill_loop --kills 100 --seed 0 [--recipe mae]

A moment is a time since the start (import, compilation, anything), or a few milliseconds after a
step, or after something changed in the folder of the checkpoints (they are written at every second
step, two are kept), so that saves and rotations are hit. Compared with the run that nobody killed:
every tensor of the last checkpoint, its state, the saved networks and metrics.jsonl.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.engine import lab

ROOT = Path(__file__).parents[2]
INTERVAL = 2  # steps between two saves
RECIPES = {"vit": lab.VIT, "mae": lab.MAE}
PER_EPOCH = {"vit": 3, "mae": 6}  # steps


@dataclass
class Result:
    """What a loop of kills came to."""

    kills: int = 0
    attempts: int = 0
    lost: list[int] = field(default_factory=list)  # steps done again after each kill
    at: list[int] = field(default_factory=list)  # the last step that a killed attempt had done
    seconds: float = 0.0
    sha256: str = ""
    expected: str = ""

    def __str__(self) -> str:
        return (
            f"{self.kills} kills in {self.attempts} attempts, {self.seconds:.0f} s; steps done "
            f"again after a kill: at most {max(self.lost, default=0)} (saved every {INTERVAL}), "
            f"{sum(self.lost)} in all; killed after steps {sorted(set(self.at))}\n"
            f"sha256 {self.sha256}\nunbroken {self.expected}"
        )


def prepare(root: Path, recipe: str) -> list[str]:
    """Data and yaml of a run of 18 steps; its command but for --output_dir."""
    values = dict(RECIPES[recipe])
    values["runner_config"] = {**values["runner_config"], "epochs": 18 // PER_EPOCH[recipe]}
    saving = {"save_checkpoint_steps": INTERVAL, "keep_checkpoint_max": 2}
    values["callbacks"] = [*values["callbacks"][:2], {**values["callbacks"][2], **saving}]
    yaml = lab.write(root / "run.yaml", values)
    train = lab.class_folders(root / "train", 8)
    evaluation = lab.class_folders(root / "val", 4, first_seed=1000)
    command = [sys.executable, str(ROOT / "run_mindformer.py"), "--config", str(yaml)]
    command += ["--train_dataset_dir", str(train)]
    if recipe == "vit":
        command += ["--eval_dataset_dir", str(evaluation), "--do_eval", "True"]
    return command


def fingerprint(output: Path) -> str:
    """SHA-256 of everything that training left."""
    tensors, state = lab.trained(output)
    best = output / "checkpoint_network" / "rank_0" / "best"
    found = {f"last.{name}": array for name, array in tensors.items()}
    found |= {f"network.{n}": a for n, a in lab.saved_network(output).items()}
    if best.is_dir():
        found |= {f"best.{n}": a for n, a in lab.network_in(best).items()}
    texts = json.dumps([state, lab.metrics(output)], sort_keys=True)
    return lab.digest(found | {"texts": np.frombuffer(texts.encode(), np.uint8)})


def place(output: Path, recipe: str) -> tuple[int, int]:
    """The last step that metrics.jsonl tells of, and that of the newest checkpoint."""
    per_epoch = PER_EPOCH[recipe]
    path, done = output / "metrics.jsonl", 0
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            done = max(done, json.loads(line)["step"])
        except ValueError:
            continue  # cut by the kill
    saved = [p.name.split("-")[1].split("_") for p in lab.checkpoints(output)]
    steps = [(int(epoch) - 1) * per_epoch + int(step) for epoch, step in saved]
    return done, max(steps, default=0)


@dataclass
class Moment:
    """When to kill: `delay` seconds after the n-th event of a kind since the start."""

    kind: str
    number: int
    delay: float

    @staticmethod
    def draw(random: random.Random, whole: float) -> Moment:
        """`whole`: seconds of a run."""
        kind = random.choice(["start", "step", "save", "save"])
        if kind == "start":
            return Moment(kind, 0, random.uniform(0, whole / 2))
        return Moment(
            kind, random.randrange(1, 5 if kind == "step" else 9), random.uniform(0, 0.03)
        )

    def wait(self, process: subprocess.Popen[bytes], output: Path) -> None:
        """Return at the moment, or when the process ends before it."""
        seen, before = 0, self._sign(output)
        while seen < self.number and process.poll() is None:
            time.sleep(0.001)
            now = self._sign(output)
            seen, before = seen + (now != before), now
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=self.delay)

    def _sign(self, output: Path) -> object:
        if self.kind == "step":
            path = output / "metrics.jsonl"
            return path.stat().st_size if path.is_file() else 0
        root = output / "checkpoint" / "rank_0"
        return set(root.iterdir()) if root.is_dir() else set()


def attempt(command: list[str], output: Path, moment: Moment | None) -> bool:
    """Run the command; True if it came to its end before it was killed."""
    with (output.parent / "log.txt").open("a") as log:
        process = subprocess.Popen(
            [*command, "--output_dir", str(output)], stdout=log, stderr=log, cwd=output.parent
        )
        if moment is not None:
            moment.wait(process, output)
            process.kill()
        code = process.wait()
    if code == -signal.SIGKILL:
        return False
    if code:
        raise AssertionError(
            f"exit code {code}:\n{(output.parent / 'log.txt').read_text()[-3000:]}"
        )
    return True


def kill_loop(root: Path, kills: int, seed: int, recipe: str = "vit") -> Result:
    """Kill `kills` times, over as many whole runs as that takes, and compare each with the
    unbroken one.
    """
    command, result, draw = prepare(root, recipe), Result(), random.Random(seed)
    began = time.monotonic()
    attempt(command, root / "unbroken", None)
    whole = time.monotonic() - began
    result.expected = fingerprint(root / "unbroken")
    number = 0
    while result.kills < kills:
        number += 1
        output, is_done = root / f"run_{number}", False
        while not is_done:
            moment = Moment.draw(draw, whole) if result.kills < kills else None
            before = place(output, recipe)[1]
            is_done = attempt(command, output, moment)
            result.attempts += 1
            if is_done:
                break
            result.kills += 1
            done, saved = place(output, recipe)
            assert saved >= before, f"a checkpoint was lost: {before} before, {saved} now"
            result.lost.append(max(done - saved, 0))
            result.at.append(done)
        result.sha256 = fingerprint(output)
        assert result.sha256 == result.expected, f"{output}: not the unbroken run's"
        assert len(lab.checkpoints(output)) <= 3  # two, and the best
        assert not list(output.glob("previous_*"))
    result.seconds = time.monotonic() - began
    assert max(result.lost, default=0) <= INTERVAL, result.lost
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recipe", choices=RECIPES, default="vit")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(kill_loop(Path(folder), arguments.kills, arguments.seed, arguments.recipe))


if __name__ == "__main__":
    main()
