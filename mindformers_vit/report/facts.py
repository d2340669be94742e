"""What an output directory says about its run. Whatever is missing or damaged is left out."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, TypeGuard

from pydantic import ValidationError

from mindformers_vit.config.loader import parse_yaml
from mindformers_vit.errors import ConfigError
from mindformers_vit.report.confusion import Evaluation

FOLDER = "report"  # inside the output directory: what the page is made from
STARTS, RECIPE, EVALUATION = "starts.jsonl", "recipe.yaml", "evaluation.json"
_STRIP = re.compile(r"epoch_(\d+)\.jpg")
_LOG_LINE = re.compile(r"(\S+ \S+) - mindformers_vit\[.*?\] - (WARNING|ERROR) - (.*)", re.S)
_MOST = 50  # warnings and bad samples that are kept

Points = list[tuple[float, float]]


@dataclass
class Facts:
    """One run, as its files tell it."""

    directory: Path
    steps: dict[str, Points] = field(default_factory=dict)  # name -> (step, value), by update
    evaluations: dict[str, Points] = field(default_factory=dict)  # the same, by evaluation
    last: dict[str, Any] = field(default_factory=dict)  # the last update's line
    skipped: int = 0  # updates whose gradients were not finite
    config: dict[str, Any] = field(default_factory=dict)  # dotted key -> value
    recipe: dict[str, Any] | None = None
    config_text: str = ""
    starts: list[dict[str, Any]] = field(default_factory=list)  # processes of this run and its end
    warnings: dict[str, tuple[int, str]] = field(default_factory=dict)  # text -> times, last time
    bad_samples: list[dict[str, Any]] = field(default_factory=list)
    evaluation: Evaluation | None = None
    strips: list[tuple[str, bytes]] = field(default_factory=list)  # what it shows, JPEG

    @property
    def name(self) -> str:
        return self.directory.resolve().name or str(self.directory)

    @property
    def speed(self) -> str:
        """Median images a second, "" before the first update."""
        values = [value for _, value in self.steps.get("images_per_second", [])]
        return f"{statistics.median(values):.4g}" if values else ""

    @property
    def scores(self) -> dict[str, list[float]]:
        """Metric -> its values, of the evaluations while training or of the one besides."""
        if self.evaluations or self.evaluation is None:
            return {name: [v for _, v in points] for name, points in self.evaluations.items()}
        return {name: [value] for name, value in self.evaluation.metrics.items()}


def read_facts(directory: Path) -> Facts:
    """Everything the page needs."""
    facts = Facts(directory)
    _read_metrics(facts)
    _read_configs(facts)
    folder = directory / FOLDER
    facts.starts = list(_json_lines(folder / STARTS))
    facts.bad_samples = list(_json_lines(directory / "bad_samples.jsonl"))
    _read_log(facts)
    facts.evaluation = _read_evaluation(folder / EVALUATION)
    facts.strips = _strips(folder)
    return facts


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file; a line cut by a kill is passed over."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                yield value


def _read_metrics(facts: Facts) -> None:
    for line in _json_lines(facts.directory / "metrics.jsonl"):
        step = line.get("step")
        if not _is_number(step):
            continue
        by_update = "loss" in line
        series = facts.steps if by_update else facts.evaluations
        if by_update:
            facts.last = line
            facts.skipped += line.get("finite") is False
        for name, value in line.items():
            if name not in ("step", "epoch", "finite") and _is_number(value):
                series.setdefault(name, []).append((step, value))


def _is_number(value: Any) -> TypeGuard[float]:
    is_plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_plain and math.isfinite(value)


def _read_configs(facts: Facts) -> None:
    written = sorted(facts.directory.glob("config_*.yaml"), key=lambda p: p.stat().st_mtime)
    training = [p for p in written if p.stem in ("config_train", "config_finetune")]
    if written:
        path = (training or written)[-1]
        facts.config_text = path.read_text(encoding="utf-8", errors="replace")
        facts.config = _flat_yaml(facts.config_text) or {}
    recipe = facts.directory / FOLDER / RECIPE
    if recipe.is_file():
        facts.recipe = _flat_yaml(recipe.read_text(encoding="utf-8", errors="replace"))


def _flat_yaml(content: str) -> dict[str, Any] | None:
    try:
        return flat(parse_yaml(content, "config"))
    except ConfigError:
        return None


def flat(values: Any, path: str = "") -> dict[str, Any]:
    """Dotted key -> value of everything in a configuration."""
    if isinstance(values, Mapping) and values:
        items: Any = values.items()
    elif isinstance(values, list) and any(isinstance(v, (Mapping, list)) for v in values):
        items = enumerate(values)
    else:
        return {path: values} if path else {}
    found: dict[str, Any] = {}
    for key, value in items:
        found |= flat(value, f"{path}.{key}" if path else str(key))
    return found


def _read_log(facts: Facts) -> None:
    """Warnings and errors, each text once, with the lines that belong to it."""
    path = facts.directory / "log" / "rank_0" / "info.log"
    if not path.is_file():
        return
    entry = ""
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in chain(file, [""]):
            if line.startswith("  "):
                entry += line
                continue
            _note(facts, entry)
            entry = line


def _note(facts: Facts, entry: str) -> None:
    found = _LOG_LINE.match(entry)
    if found is None:
        return
    words = found[3].rstrip()
    if words in facts.warnings or len(facts.warnings) < _MOST:
        times, _ = facts.warnings.get(words, (0, ""))
        facts.warnings[words] = times + 1, found[1].partition(",")[0]


def _read_evaluation(path: Path) -> Evaluation | None:
    try:
        return Evaluation.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _strips(folder: Path) -> list[tuple[str, bytes]]:
    """The pictures in the order of the page: originals, masked, then by epoch."""
    named = [(name, folder / f"{name}.jpg") for name in ("original", "masked")]
    painted = [(int(m[1]), p) for p in folder.glob("epoch_*.jpg") if (m := _STRIP.match(p.name))]
    named += [(f"epoch {number}", path) for number, path in sorted(painted)]
    return [(name, path.read_bytes()) for name, path in named if path.is_file()]
