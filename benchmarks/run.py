"""This project beside its peers on CPU, in turn, with the machine's own limit.

    pip install -r requirements.txt torch==2.13.0 "transformers==4.57.6" onnx onnxruntime
    python benchmarks/run.py                    # everything; --only train, --rounds 3 for less

Each side runs in a process of its own; they take turns, never two at once. Ratios and the share of
the machine's peak are taken round by round. The results go to benchmarks/results/<date>.md, images
a second also to JSON files there, which `plot.py` draws.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import itertools
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from plot import RESULTS, keep_result, machine, software
from shares import shares
from sides import BASE, Size
from turns import Peak, Side, middle, take_turns

from mindformers_vit.models.cost import multiply_adds
from mindformers_vit.models.mae.mae_config import FAMILY as MAE
from mindformers_vit.models.vit.vit_config import FAMILY as VIT

# network, and operations of a turn for each multiply-add of a forward pass: a gradient takes as
# many as two of them
COST = {"train": (MAE, 6), "forward": (VIT, 2)}
TITLES = {"train": "MAE ViT-B/16, train step", "forward": "ViT-B/16, forward"}
BATCHES = {"train": (8, 32), "forward": (1, 8)}
# at once in memory; each group is compared with its first
GROUPS = {
    "train": (
        ("ours", "torch", "torch compiled"),
        ("ours bf16", "torch bf16", "torch bf16 compiled"),
        ("ours", "ours plain"),
    ),
    "forward": (
        ("ours", "ours plain", "torch", "torch compiled", "onnxruntime"),
        ("ours bf16", "torch bf16", "torch bf16 compiled"),
    ),
}
SHOWN = {
    "ours": "this project",
    "ours bf16": "this project, bf16",
    "ours plain": "this project, not compiled",
    "torch": "torch, eager",
    "torch compiled": "torch.compile",
    "torch bf16": "torch, eager, bf16 autocast",
    "torch bf16 compiled": "torch.compile, bf16 autocast",
    "onnxruntime": "ONNX Runtime",
}
SWEEPS = {
    "batch": [Size(batch=n) for n in (1, 8, 32)],
    "image": [Size(image=n) for n in (224, 320, 448)],
    "depth": [Size(depth=n) for n in (6, 12, 24)],
}
HEAD = (
    "| side | images/s | s (of rounds) | CPU s | its s / the first's | GFLOP | GFLOP/s "
    "| % of the peak | first turn | memory |\n|---|---|---|---|---|---|---|---|---|---|"
)


def gigaflop(side: Side) -> float:
    """Of a turn: the products alone."""
    family, operations = COST[side.work]
    config = family.config_class(image_size=side.size.image, num_hidden_layers=side.size.depth)
    return operations * multiply_adds(family, config) * side.size.batch / 1e9


def row(label: str, side: Side, first: Side) -> str:
    """Its figures, or what it died of."""
    if side.died:
        return f"| {label} | {side.died.replace('|', '/')} |" + 8 * " |"
    work, seconds = gigaflop(side), side.medians()
    median = statistics.median(seconds)
    pairs = [] if first.died else zip(seconds, first.medians(), strict=True)
    ratios = [its / firsts for its, firsts in pairs]
    peaks = [100 * work / s / limit for s, limit in zip(seconds, side.limits, strict=True)]
    cells = (
        label, f"{side.size.batch / median:.2f}", middle(seconds, 3), f"{side.median('cpu'):.2f}",
        middle(ratios) if ratios else "", f"{work:.0f}", f"{work / median:.0f}", middle(peaks, 0),
        f"{side.first:.1f} s", f"{side.answers[-1]['peak_gib']:.2f} GiB",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def compare(title: str, sides: Mapping[str, Side], peak: Peak, args: Any) -> list[str]:
    """A table of all sides, the first being the one they are compared with."""
    take_turns(sides.values(), peak, args.rounds, args.turns)
    first = next(iter(sides.values()))
    lines = [f"### {title}, {args.rounds} rounds of {args.turns} ({load()})", HEAD]
    lines += [row(label, side, first) for label, side in sides.items()]
    for precision in ("fp32", "bf16"):
        limits = [x for s in sides.values() if s.precision == precision for x in s.limits]
        if limits:
            lines += ["", f"Peak around these turns, {precision}: {middle(limits, 0)} GFLOP/s"]
    for side in sides.values():
        side.close()
    return lines


def peers(work: str, args: Any) -> Iterator[list[str]]:
    """Tables of this project beside others; what they did is kept for the picture."""
    groups = [args.sides] if args.sides else GROUPS[work]
    with contextlib.closing(Peak()) as peak:
        for batch in args.batch_size or BATCHES[work]:
            bars = dict[str, list[float]]()
            title = f"{TITLES[work]}, batch {batch}"
            for names in groups:
                sides = {name: Side(work, name, BASE._replace(batch=batch)) for name in names}
                yield compare(title, sides, peak, args)
                for name, side in sides.items():
                    if not side.died:
                        speeds = [batch / seconds for seconds in side.medians()]
                        bars.setdefault(SHOWN.get(name, name), speeds)
            if bars and not args.sides:
                keep_result(f"{work}_{batch:02d}", title, "images/s", bars)


def size(args: Any) -> Iterator[list[str]]:
    """Whether the cost of our own train step follows the work."""
    with contextlib.closing(Peak()) as peak:
        for name, sizes in SWEEPS.items():
            sides = {f"{name} {getattr(each, name)}": Side("train", "ours", each) for each in sizes}
            yield compare(f"{TITLES['train']}, cost against {name}", sides, peak, args)


def gemm(args: Any) -> Iterator[list[str]]:
    """The machine alone."""
    with contextlib.closing(Peak()) as peak:
        for _ in range(args.rounds):
            peak.measure()
        yield [f"### Products of 2048 x 2048 x 2048 ({load()})", *peak.lines()]


def load() -> str:
    return f"load {os.getloadavg()[0]:.1f}"


SECTIONS: dict[str, Callable[[Any], Iterator[list[str]]]] = {
    "gemm": gemm,
    "train": lambda args: peers("train", args),
    "forward": lambda args: peers("forward", args),
    "size": size,
    "shares": lambda args: iter([shares(args.sides or ("ours", "ours bf16"), args.turns)]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=SECTIONS)
    parser.add_argument("--batch_size", type=int, nargs="+", help="of train and forward")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=3, help="of a side in a round")
    parser.add_argument("--sides", nargs="+", choices=SHOWN, help="the first is compared with")
    args = parser.parse_args()
    date = f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}"
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"{date}.md"
    chosen = [args.only] if args.only else SECTIONS
    blocks = (block for name in chosen for block in SECTIONS[name](args))
    with target.open("a", encoding="utf-8", buffering=1) as file:  # what is measured is kept
        for lines in itertools.chain([[f"# {date}", f"{machine()}; {software()}"]], blocks):
            print(*lines, "", sep="\n", flush=True)
            print(*lines, "", sep="\n", file=file)


if __name__ == "__main__":
    main()
