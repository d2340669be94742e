"""Processes of `sides.py` that take turns, never two at once, so that a drift of the machine meets
all; and the machine's own limit, measured before and after every turn, for the same reason.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sides import BASE, PRODUCT, WORK, Size

SERVER = Path(__file__).resolve().parent / "sides.py"


class Side:
    """One process. When it dies, `died` says of what and it takes no more turns."""

    def __init__(self, work: str, name: str, size: Size = BASE) -> None:
        self.work, self.name, self.size = work, name, size
        self.answers, self.limits = list[dict[str, Any]](), list[float]()
        self.died, self.first = "", math.nan
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - lives on
        self.process = subprocess.Popen(
            [sys.executable, str(SERVER), work, name, *map(str, size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        if answer := self._answer():
            self.first = float(answer["first"])

    @property
    def precision(self) -> str:
        return "bf16" if "bf16" in self.name else "fp32"

    def take(self, turns: int) -> None:
        """So many turns, whose figures go to `answers`."""
        assert self.process.stdin
        if self.process.poll() is None:
            self.process.stdin.write(f"{turns}\n")
            self.process.stdin.flush()
        if answer := self._answer():
            self.answers.append(answer)

    def medians(self) -> list[float]:
        """Seconds of a turn, one for each round."""
        return [statistics.median(answer["times"]) for answer in self.answers]

    def median(self, key: str) -> float:
        return statistics.median(answer[key] for answer in self.answers)

    def _answer(self) -> dict[str, Any]:
        """Its next line of JSON; of a dead process {}."""
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        self._errors.seek(0)
        last = self._errors.read().strip().rpartition("\n")[2] or "no last words"
        self.died = self.died or f"died with code {self.process.wait()}: {last[:200]}"
        return {}

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


class Peak:
    """Products that take turns too: the best of them is what the machine can do at the moment."""

    def __init__(self) -> None:
        self.sides = [Side("gemm", name) for name in WORK["gemm"]]
        self.found: dict[str, list[float]] = {side.name: [] for side in self.sides}

    def measure(self) -> dict[str, float]:
        """GFLOP/s by precision, of the fastest of all turns now."""
        best = {"fp32": math.nan, "bf16": math.nan}
        for side in self.sides:
            side.take(3)
            if not side.died:
                speed = 2 * PRODUCT**3 / min(side.answers[-1]["times"]) / 1e9
                self.found[side.name].append(speed)
                best[side.precision] = max(speed, best[side.precision])
        return best

    def lines(self) -> list[str]:
        return [
            f"- {side.name}: {side.died or middle(self.found[side.name], 0) + ' GFLOP/s'}"
            for side in self.sides
        ]

    def close(self) -> None:
        for side in self.sides:
            side.close()


def take_turns(sides: Iterable[Side], peak: Peak, rounds: int, turns: int) -> None:
    """Fill the sides' answers, and their limits with the best of the peaks around each turn."""
    before = peak.measure()
    for _ in range(rounds):
        for side in sides:
            side.take(turns)
            after = peak.measure()
            side.limits.append(max(before[side.precision], after[side.precision]))
            before = after


def middle(values: list[float], digits: int = 2) -> str:
    """Median and spread."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"
