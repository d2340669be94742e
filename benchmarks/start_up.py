"""How soon the command line answers: `python benchmarks/start_up.py [--rounds 9]`.

Seconds from a new interpreter to its end, of what needs no MindSpore (bound: 0.3 s each), and of a
run of one step, from the command to the trained network, of which importing MindSpore and compiling
are the most. Bytecode is there, as at any start but the first.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from plot import keep_result

ROOT = Path(__file__).resolve().parents[1]
MAE = "configs/mae/run_mae_vit_tiny_p8_48_cpu.yaml"
SHORT = {
    "import mindformers_vit": ["-c", "import mindformers_vit"],
    "--help": ["run_mindformer.py", "--help"],
    "models": ["-m", "mindformers_vit", "models"],
    "validate": ["-m", "mindformers_vit", "validate", MAE],
    "an unknown flag": ["run_mindformer.py", "--config", MAE, "--epoch", "3"],
    "a file that is no recipe": ["run_mindformer.py", "--config", "README.md"],
}


def seconds(arguments: list[str], codes: tuple[int, ...] = (0, 2)) -> float:
    """Of one process."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode not in codes:
        raise SystemExit(f"{arguments} failed:\n{done.stderr}")
    return time.perf_counter() - began


def one_step(folder: Path, number: int) -> list[str]:
    """A whole run of one step of the quickstart's masked autoencoder."""
    return [
        "run_mindformer.py", "--config", MAE, "--run_mode", "train", "--runner_config.max_steps=1",
        "--train_dataset_dir", str(folder / "data" / "train"),
        "--output_dir", str(folder / f"run{number}"),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    taken: dict[str, list[float]] = {name: [] for name in SHORT}
    for _ in range(args.rounds + 1):  # the first one writes bytecode
        for name, arguments in SHORT.items():
            taken[name].append(seconds(arguments))
    bars = {f"this project: {name}": values[1:] for name, values in taken.items()}
    bars["importing MindSpore"] = [
        seconds(["-c", "import mindspore"]) for _ in range(args.rounds + 1)
    ][1:]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make = ["tools/make_shapes_dataset.py", "--output_dir", str(folder / "data")]
        seconds([*make, "--train", "240", "--val_per_class", "1"], (0,))
        runs = [seconds(one_step(folder, i), (0,)) for i in range(3)]
    for name, values in [*bars.items(), ("a run of one step", runs)]:
        spread = f"({min(values):.2f}-{max(values):.2f})"
        print(f"{name.removeprefix('this project: '):28s}{statistics.median(values):6.2f} {spread}")
    keep_result("start_up", "From the command to its end", "s", bars)


if __name__ == "__main__":
    main()
