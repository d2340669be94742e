"""What a train step's time goes to, as `perf record` sees it: samples of all threads by function.

perf needs no privileges for one's own processes. Cores without work take no samples: their part is
what the processor's time lacks to the clock's, on all cores.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from turns import Side

OTHER = "compiled operators, by no row above"
# what it is called, pattern of "library function"; the first that is found counts
ROWS = (
    ("products: the tile", r"^kernels.*::(multiply|tile<|block)"),
    ("products: packing of panels", r"^kernels.*::(pack|fill)"),
    ("products of attention's heads", r"^kernels.*few_(rows|columns)"),
    ("products: the rest", r"^kernels.*(gemm|Product)"),
    ("attention", r"^kernels.*(attend|attention)"),
    ("GELU", r"^kernels.*gelu"),
    ("layer norm", r"^kernels.*(norm_row|layer_norm)"),
    ("AdamW", r"^kernels.*adamw"),
    ("bias sums, gradient norm", r"^kernels.*(column_sums|sum_rows|sum_of_squares)"),
    ("waiting for other threads", r"Pool::|sched_yield|futex|^\[kernel.*(schedule|task_switch)"),
    (OTHER, r"^kernels"),
    ("MindSpore's own operators", r"^libmindspore_ops|nnacl|dnnl|^\[JIT\]"),
    ("MindSpore's runtime", r"mindspore|^_c_expression"),
    ("the kernel: memory, scheduling", r"^\[kernel"),
    ("libc, Python, what else there is", r"."),
    ("cores without work, or taken by other processes", r"^$"),
)


def shares(names: Iterable[str], turns: int) -> list[str]:
    """A table with a column for each side, or the line that says why there is none."""
    if shutil.which("perf") is None:
        return ["Shares of a step: not measured, `perf` is not installed (package linux-perf)"]
    columns, notes = dict[str, Counter[str]](), list[str]()
    for name in names:
        try:
            found = functions(Side("train", name), turns)
        except RuntimeError as error:
            notes.append(f"\n{name}: not measured, {error}")
            continue
        columns[name] = by_row(found)
        unknown = [f for f, share in found.items() if row_of(f) == OTHER and share > 0.002]
        notes += [f"\n{name}, {OTHER}: {', '.join(unknown)}"] if unknown else []
    if not columns:
        return notes
    lines = [
        f"### Shares of a train step, MAE ViT-B/16, batch 8, {turns} steps",
        f"| % of the time of all cores | {' | '.join(columns)} |",
        "|---|" + "---|" * len(columns),
    ]
    for what, _ in ROWS:
        cells = (f"{100 * column[what]:.1f}" for column in columns.values())
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return lines + notes


def row_of(function: str) -> str:
    return next(what for what, pattern in ROWS if re.search(pattern, function))


def by_row(found: Counter[str]) -> Counter[str]:
    sums = Counter[str]()
    for function, share in found.items():
        sums[row_of(function)] += share
    return sums


def functions(side: Side, turns: int) -> Counter[str]:
    """Shares of the time of all cores by "library function".

    Raises:
        RuntimeError: the side died or perf failed; the text says of what.
    """
    with tempfile.TemporaryDirectory() as folder:
        samples = Path(folder) / "samples"
        record = ["perf", "record", "-q", "-F", "499", "-p", str(side.process.pid)]
        perf = subprocess.Popen(
            [*record, "-o", str(samples)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        time.sleep(2)  # until it listens; a step's beginning that it misses does not matter
        side.take(turns)
        perf.send_signal(signal.SIGINT)
        _, errors = perf.communicate()
        side.close()
        if side.died or not samples.is_file():
            raise RuntimeError(side.died or f"perf: {errors.decode(errors='replace').strip()}")
        report = ["perf", "report", "-q", "--stdio", "-t", "|", "-F", "period,dso,sym"]
        told = subprocess.run([*report, "-i", str(samples)], capture_output=True, text=True).stdout
    periods = Counter[str]()
    for line in told.splitlines():
        if line.count("|") == 2:
            period, library, function = (cell.strip() for cell in line.split("|"))
            periods[f"{library} {function.partition('] ')[2]}"] += int(period)
    return _of_all_cores(periods, side.answers[-1])


def _of_all_cores(periods: Counter[str], answer: Mapping[str, Any]) -> Counter[str]:
    """Samples are taken of busy cores; the rest of the time is that of "", no function."""
    busy = answer["cpu"] / statistics.mean(answer["times"]) / len(os.sched_getaffinity(0))
    total = sum(periods.values()) or 1
    found = Counter({function: busy * n / total for function, n in periods.items()})
    found[""] = 1 - busy
    return found
