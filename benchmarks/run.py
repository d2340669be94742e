"""This project beside its peers on CPU, in turn, with the machine's own limit.

    pip install -r requirements.txt torch==2.13.0 "transformers==4.57.6" onnx onnxruntime
    python benchmarks/run.py                    # everything; --only train, --rounds 3 for less

Each side runs in a process of its own; they take turns, never two at once, so that a drift of the
machine meets all. Ratios are taken round by round. The results go to benchmarks/results/<date>.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
SIDES = {
    "train": (
        "ours", "ours plain", "ours bf16",
        "torch", "torch compiled", "torch bf16", "torch bf16 compiled",
    ),
    "forward": ("ours", "ours plain", "ours bf16", "torch", "torch compiled", "onnxruntime"),
}  # fmt: skip
# floating-point operations of an image: products alone, two for each multiplication
GFLOP = {"train": 57.6, "forward": 35.1}


class Side:
    """One process of `sides.py`."""

    def __init__(self, work: str, side: str, batch_size: int) -> None:
        command = [sys.executable, str(HERE / "sides.py"), work, side, str(batch_size)]
        self.name, self.answers = side, list[dict[str, Any]]()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.first = float(self._answer()["first"])

    def take(self, turns: int) -> None:
        """So many turns, whose figures go to `answers`."""
        assert self.process.stdin
        self.process.stdin.write(f"{turns}\n")
        self.process.stdin.flush()
        self.answers.append(self._answer())

    def medians(self) -> list[float]:
        """Seconds of a turn, one for each round."""
        return [statistics.median(answer["times"]) for answer in self.answers]

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        raise SystemExit(f"'{' '.join(self.process.args[1:])}' died; run it by hand")  # type: ignore

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def compare(work: str, names: Iterable[str], batch: int, rounds: int, turns: int) -> list[str]:
    """A table of all sides, the first being the one they are compared with."""
    sides = [Side(work, name, batch) for name in names]
    for _ in range(rounds):
        for side in sides:
            side.take(turns)
    lines = [
        f"### {work}, batch {batch}, {rounds} rounds of {turns} ({load()})",
        "| side | images/s | s (of rounds) | CPU s | time of ours / its: images/s ratio | "
        "GFLOP/s | first turn | peak |",
        "|---|---|---|---|---|---|---|---|",
    ]
    base = sides[0].medians()
    for side in sides:
        found = side.medians()
        middle = statistics.median(found)
        ratios = [theirs / ours for theirs, ours in zip(found, base, strict=True)]
        cpu = statistics.median(answer["cpu"] for answer in side.answers)
        lines.append(
            f"| {side.name} | {batch / middle:.2f} | {middle:.3f} ({spread(found)}) | {cpu:.2f} | "
            f"{statistics.median(ratios):.2f} ({spread(ratios, 2)}) | "
            f"{GFLOP[work] * batch / middle:.0f} | {side.first:.1f} s | "
            f"{side.answers[-1]['peak_gib']:.2f} GiB |"
        )
        side.close()
    return lines


def gemm_peak(rounds: int) -> list[str]:
    """The best of this project's own product and of torch's, both of 2048 x 2048 x 2048."""
    import torch

    a = torch.randn(2048, 2048)
    sides = {"torch fp32": a, "torch bf16": a.bfloat16()}
    best = dict.fromkeys(sides, 0.0)
    for _ in range(3 * rounds):
        for name, matrix in sides.items():
            start = time.perf_counter()
            torch.mm(matrix, matrix)
            seconds = time.perf_counter() - start
            best[name] = max(best[name], 2 * 2048**3 / seconds / 1e9)
    ours = Side("gemm", "ours", 2048), Side("gemm", "ours bf16", 2048)
    for side in ours:
        for _ in range(rounds):
            side.take(3)
        seconds = min(time for answer in side.answers for time in answer["times"])
        best[f"{side.name} product"] = 2 * 2048**3 / seconds / 1e9
        side.close()
    return [f"### GEMM peak ({load()})", *(f"- {k}: {v:.0f} GFLOP/s" for k, v in best.items())]


def spread(values: list[float], digits: int = 3) -> str:
    return f"{min(values):.{digits}f}-{max(values):.{digits}f}"


def load() -> str:
    return f"load {os.getloadavg()[0]:.1f}"


def machine() -> list[str]:
    model = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model n")]
    return [
        f"# {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}",
        f"{len(os.sched_getaffinity(0))} cores of {model[0].partition(': ')[2]}, "
        f"Python {platform.python_version()}, numpy {np.__version__}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=("gemm", "train", "forward"))
    parser.add_argument("--batch_size", type=int, nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--sides", nargs="+", help="some of them; the first is compared with")
    args = parser.parse_args()
    lines = machine()
    if args.only in (None, "gemm"):
        lines += gemm_peak(args.rounds)
    for work, batches in {"train": (8, 32), "forward": (1, 8)}.items():
        if args.only in (None, work):
            for batch in args.batch_size or batches:
                names = args.sides or SIDES[work]
                lines += ["", *compare(work, names, batch, args.rounds, args.turns)]
    text = "\n".join(lines) + "\n"
    print(text)
    target = HERE / "results" / f"{lines[0][2:]}.md"
    target.parent.mkdir(exist_ok=True)
    with target.open("a", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    main()
