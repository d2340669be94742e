"""What a conversion saw and did, as one screen of text: every tensor of both sides is counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindformers_vit.models.conversion_table import Fit, Layout
from mindformers_vit.models.layers.parameters import ParamSpecs, count

_WIDTH = 80
_LISTED = 16  # differences printed: one screen
_NAME = 46  # columns of a name, at most
_SHOWN = ("image_size", "patch_size", "hidden_size", "num_hidden_layers", "depths")
_HEADS = ("num_attention_heads", "num_labels")


@dataclass(frozen=True)
class Report:
    """A finished conversion.

    Attributes:
        source: what was read, and what of it.
        fit: the layout and what went where.
        network: name of the class, and of the published size if it is one.
        specs: every parameter of the network.
        ours: the names on our side of the conversion.
        written: the files.
    """

    source: tuple[str, ...]
    fit: Fit
    network: str
    specs: ParamSpecs
    ours: frozenset[str]
    written: tuple[str, ...]

    @property
    def layout(self) -> str:
        """The name of the layout that fitted."""
        return self.fit.layout.name

    def __str__(self) -> str:
        new = [name for name in self.specs if name not in self.ours]
        extra = sorted(self.ours - self.specs.keys())
        dropped = sum(n for row, n in self.fit.moved.items() if row.ours is None)
        mapped = sum(self.fit.moved.values()) - dropped
        made = len(self.fit.made)
        counts = [f"{dropped} dropped", *([f"{made} made"] if made else [])]
        lines = [
            *_titled("read", self.source),
            *_titled("layout", [self.layout]),
            *_titled("network", [self.network, *_settings(self.fit.config)]),
            *(_row_line(*group) for group in _groups(self.fit)),
            *(f"  {'made':8}{name} ({n})" for name, n in _grouped(self.fit.made)),
            *(f"  {'new':8}{name} ({n})" for name, n in _grouped(new, _start)),
            *(f"  {'extra':8}{name} ({n})" for name, n in _grouped(extra)),
            *_titled("file", [f"{mapped + dropped + made} tensors: {mapped} mapped", *counts]),
            *_titled("ours", _ours_parts(self.specs, new, extra)),
            *_titled("written", self.written),
        ]
        return "\n".join(lines)


def differences(path: Path, nearest: Fit, layouts: Sequence[Layout]) -> str:
    """The text of the error for a file that no layout fits."""
    lines = [
        f"{line}, in {number} blocks" if number > 1 else line
        for line, number in _by_block(nearest.problems)
    ]
    more = [f"  ... {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
    return (
        f"'{path}': this is none of the layouts known here "
        f"({'; '.join(layout.name for layout in layouts)}); nothing was written. "
        f"Nearest is '{nearest.layout.name}', with these differences:\n"
        + "\n".join(lines[:_LISTED] + more)
    )


def _by_block(problems: Sequence[str]) -> list[tuple[str, int]]:
    """What is the same in several blocks once, with their number; what is not as it is."""
    groups: dict[str, list[str]] = {}
    for line in problems:
        groups.setdefault(re.sub(r"\.\d+\.", ".{i}.", line), []).append(line)
    return [(key if len(lines) > 1 else lines[0], len(lines)) for key, lines in groups.items()]


def _titled(title: str, parts: Iterable[str]) -> list[str]:
    """The parts after one another, wrapped by whole parts, under a title."""
    lines, line = [], ""
    for part in parts:
        if line and len(line) + len(part) + 3 > _WIDTH - 10:
            lines.append(line + ",")
            line = part
        else:
            line = f"{line}, {part}" if line else part
    return [f"{title if i == 0 else '':10}{text}" for i, text in enumerate([*lines, line])]


def _settings(config: Any) -> list[str]:
    return [
        f"{name} {getattr(config, name)}" for name in (*_SHOWN, *_HEADS) if hasattr(config, name)
    ]


def _groups(fit: Fit) -> list[tuple[str, str | None, int, int]]:
    """(theirs, ours, tensors of theirs, tensors of ours), repeated blocks in one."""
    groups: dict[tuple[str, str | None], list[int]] = {}
    names: dict[tuple[str, str | None], tuple[str, str | None]] = {}
    for row in (row for row in fit.layout.rows if row in fit.moved):
        key = (_start(row.parts[0]), _start(row.ours)) if row.ours else (row.parts[0], None)
        names[key] = key if key in groups else (row.parts[0], row.ours)
        sums = groups.setdefault(key, [0, 0])
        sums[0] += fit.moved[row]
        sums[1] += fit.moved[row] // len(row.parts)
    return [(*names[key], sums[0], sums[1]) for key, sums in groups.items()]


def _start(name: str) -> str:
    """A name up to what repeats, or to its last part."""
    stem, hole, _ = name.partition("{")
    if hole:
        return f"{stem}{{i}}.*"
    parent = name.rpartition(".")[0]
    return f"{parent}.*" if parent else name


def _row_line(theirs: str, ours: str | None, number: int, of_ours: int) -> str:
    word = "mapped" if ours else "dropped"
    text = f"  {word:8}{_short(theirs)} ({number})"
    if not ours:
        return text
    target = f"-> {ours} ({of_ours})"
    return f"{text} {target}" if len(text) + len(target) < _WIDTH else f"{text}\n{'':10}{target}"


def _short(name: str) -> str:
    """A name that leaves room for ours beside it."""
    half = _NAME // 2
    return name if len(name) <= _NAME else f"{name[: half - 1]}..{name[1 - half :]}"


def _grouped(
    names: Iterable[str], shorten: Callable[[str], str] = str
) -> Iterable[tuple[str, int]]:
    """Names with the repeated blocks in one, shortened, and how many they are."""
    return Counter(shorten(re.sub(r"\.\d+\.", ".{i}.", name)) for name in names).items()


def _ours_parts(specs: ParamSpecs, new: list[str], extra: list[str]) -> list[str]:
    text = f"{len(specs)} parameters, {count(specs):,} values: {len(specs) - len(new)} mapped"
    unplaced = [f"{len(extra)} that it has no place for"] if extra else []
    return [text, f"{len(new)} new when loaded", *unplaced]
