"""What products of bf16 do to the loss: the quickstart's pretraining with both kinds.

    python tools/make_shapes_dataset.py --output_dir quickstart/data --seed 0
    python benchmarks/bf16_loss.py

The same pictures, crops, masks and initial weights, batch by batch; a second seed with float32
products shows what chance alone does. `python -m mindformers_vit report OUTPUT/*` draws the curves.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIG = "configs/mae/run_mae_vit_tiny_p8_48_cpu.yaml"
RUNS = {
    "fp32": (),
    "bf16": ("--context.cpu_matmul=bf16",),
    "fp32, another seed": ("--seed", "1"),
}


def losses(output: Path) -> list[float]:
    """The mean loss of each epoch."""
    lines = (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    by_epoch = dict[int, list[float]]()
    for record in map(json.loads, lines):
        if "loss" in record:
            by_epoch.setdefault(record["epoch"], []).append(record["loss"])
    return [statistics.mean(by_epoch[epoch]) for epoch in sorted(by_epoch)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--epochs", default="12")
    parser.add_argument("--data", default="quickstart/data/train")
    parser.add_argument("--output", type=Path, default=Path("output/bf16_loss"))
    args = parser.parse_args()
    found = dict[str, list[float]]()
    for name, flags in RUNS.items():
        output = args.output.resolve() / name.replace(", ", "_").replace(" ", "_")
        command = [sys.executable, "run_mindformer.py", "--config", CONFIG, "--run_mode", "train"]
        command += ["--train_dataset_dir", str(Path(args.data).resolve()), "--epochs", args.epochs]
        subprocess.run([*command, "--output_dir", str(output), *flags], cwd=REPOSITORY, check=True)
        found[name] = losses(output)
    first = found["fp32"]
    print(f"\n| mean loss of epoch | {' | '.join(found)} |\n|---|" + "---|" * len(found))
    for epoch, values in enumerate(zip(*found.values(), strict=True)):
        cells = (f"{value:.4f} ({value - first[epoch]:+.4f})" for value in values)
        print(f"| {epoch + 1} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
