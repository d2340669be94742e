"""The last lines of the quickstart: `python tools/quickstart_table.py quickstart`.

Reads only what the runs wrote: metrics.jsonl, eval_result.json, *.seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path


def images_per_second(run: Path) -> float:
    """Median over the steps of a training run."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    rates = [json.loads(line).get("images_per_second") for line in lines]
    return statistics.median(rate for rate in rates if rate is not None)


def table(root: Path) -> str:
    """Three rows: pretraining, and the classifier with and without it."""
    rows = [f"{'':34s}{'top-1':>8s}{'images/s':>10s}{'seconds':>9s}"]
    for name, title in (
        ("pretrain", "pretraining, no labels"),
        ("finetune", "few labels, pretrained"),
        ("scratch", "few labels, from scratch"),
    ):
        run = root / name
        result = run / "eval_result.json"
        top1 = ""
        if result.is_file():
            accuracy = json.loads(result.read_text())["metrics"]["Top1 Accuracy"]
            top1 = f"{100 * accuracy:.1f} %"
        seconds = (root / f"{name}.seconds").read_text().strip()
        rows.append(f"{title:34s}{top1:>8s}{images_per_second(run):>10.0f}{seconds:>9s}")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", type=Path, nargs="?", default=Path("quickstart"))
    root = parser.parse_args().directory
    try:
        print(table(root))
    except (FileNotFoundError, KeyError, ValueError) as error:
        print(f"error: {root}: not a finished quickstart: {error}", file=sys.stderr)
        return 2
    print(f"\npictures   {root}/pretrain/*_reconstruction.png")
    print(f"answers    {root}/finetune/image_classification_result.txt")
    print(f"curves     {root}/*/metrics.jsonl, and TensorBoard files in {root}/*/summary")
    return 0


if __name__ == "__main__":
    sys.exit(main())
