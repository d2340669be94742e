"""What a checkpoint after every epoch costs the quickstart's pretraining.

    python benchmarks/checkpoint_cost.py [--epochs 4] [--rounds 3]

The quickstart's recipe and data, with and without the checkpoints, in processes of their own, in
turn. Two measures: the seconds spent saving, as a part of the run's (little disturbed by other work
on the machine), and the ratio of the two runs' times after the first step, which compiles.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIG = REPOSITORY / "configs/mae/run_mae_vit_tiny_p8_48_cpu.yaml"


def measure(data: Path, output: Path, epochs: int, every: int) -> dict[str, float]:
    """Seconds of the run after its first step, and of those the ones spent saving."""
    sys.path.insert(0, str(REPOSITORY))
    from mindformers_vit import cli
    from mindformers_vit.engine.loop import TrainLoop

    began, saving, saves = [], [], []
    save, run_step = TrainLoop.save, TrainLoop._run_step

    def timed_save(loop, *, last=False):
        start, before = time.perf_counter(), loop._saved_at
        save(loop, last=last)
        if not last and loop._saved_at != before:
            saving.append(time.perf_counter() - start)
            saves.append(loop.global_step)

    def timed_step(loop, batches):
        run_step(loop, batches)
        if not began:
            began.append(time.perf_counter())
        ended[:] = [time.perf_counter()]

    ended: list[float] = []
    TrainLoop.save, TrainLoop._run_step = timed_save, timed_step
    flags = ["--config", str(CONFIG), "--run_mode", "train", "--epochs", str(epochs)]
    flags += ["--train_dataset_dir", str(data), "--output_dir", str(output)]
    flags += [f"--callbacks.2.save_checkpoint_epochs={every}"]
    flags += ["--lr_schedule.warmup_epochs=0"]
    if cli.main(flags):
        raise SystemExit("the run failed")
    total = max(ended[0] - began[0], 1e-9)
    return {"seconds": total, "saving": sum(saving), "saves": len(saves)}


def in_turn(data: Path, folder: Path, epochs: int, name: str, every: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", str(data), str(folder / name), str(every)]
    command += ["--epochs", str(epochs)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=REPOSITORY / "quickstart/data/train")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        data, output, every = given.child
        print(json.dumps(measure(Path(data), Path(output), given.epochs, int(every))))
        return
    shares, ratios = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(given.rounds):
            with_, without = (
                in_turn(given.data, folder, given.epochs, f"{number}_{every}", every)
                for every in (1, 10**6)
            )
            shares.append(with_["saving"] / with_["seconds"])
            ratios.append(with_["seconds"] / without["seconds"])
            print(f"{with_['seconds']:.1f} s with {with_['saves']:.0f} checkpoints, saving took "
                  f"{with_['saving']:.2f} s; {without['seconds']:.1f} s without")  # fmt: skip
    print(f"saving takes {100 * statistics.median(shares):.2f} % of the time "
          f"({100 * min(shares):.2f} - {100 * max(shares):.2f})")  # fmt: skip
    print(
        f"with / without: {statistics.median(ratios):.3f} ({min(ratios):.3f} - {max(ratios):.3f})"
    )


if __name__ == "__main__":
    main()
