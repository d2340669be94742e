"""A classifier's evaluation as HTML: accuracy of each class, confusion matrix, worst examples."""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from mindformers_vit.report.confusion import Evaluation
from mindformers_vit.report.html import Markup, long_table, picture, table, text

_MATRIX = 30  # most classes that a matrix is drawn for
_SHOWN = 30  # classes before the rest is folded away
_NUMBERED = 16  # most classes for which the cells show their counts


def per_class(evaluation: Evaluation) -> str:
    """A row a class, the worst first."""
    names = evaluation.names()
    totals: Counter[int] = Counter()
    right: Counter[int] = Counter()
    wrong: dict[int, list[tuple[int, int]]] = {}
    for label, predicted, count in evaluation.counts:
        totals[label] += count
        if predicted == label:
            right[label] += count
        else:
            wrong.setdefault(label, []).append((count, predicted))
    share = {k: right[k] / n for k, n in totals.items()}
    rows = []
    for k in sorted(share, key=lambda k: (share[k], names[k])):
        count, other = max(wrong.get(k, [(0, k)]), key=lambda item: (item[0], -item[1]))
        taken = f"{names[other]} ({count})" if count else ""
        bar = f"<span class=bar><i style='width:{100 * share[k]:.0f}%'></i></span>"
        rows.append((names[k], totals[k], Markup(f"{bar}{100 * share[k]:.1f}\u00a0%"), taken))
    head = ("class", "images", "accuracy", "most often taken for")
    return long_table(head, rows, _SHOWN, kind="classes", more="more classes")


def confusion(evaluation: Evaluation) -> str:
    """The matrix, or of many classes the pairs that are confused most."""
    names = evaluation.names()
    if len(names) > _MATRIX:
        wrong = [(n, a, b) for a, b, n in evaluation.counts if a != b]
        rows = [(names[a], names[b], n) for n, a, b in sorted(wrong)[::-1][:20]]
        return table(("class", "taken for", "images"), rows) if rows else ""
    return _matrix(names, {(a, b): n for a, b, n in evaluation.counts})


def _matrix(names: list[str], pairs: Mapping[tuple[int, int], int]) -> str:
    """Rows are the true classes, columns the predictions; a row's shades add up to one."""
    size, left, top = len(names), 118, 18
    cell = min(40.0, (440 - left) / size)
    parts = []
    for row, name in enumerate(names):
        y = top + row * cell
        total = max(1, sum(pairs.get((row, column), 0) for column in range(size)))
        parts.append(
            f'<text class=name x="{left - 6}" y="{y + cell / 2 + 3.5:.1f}" text-anchor="end">'
            f"{text(_cut(name))} {row + 1}<title>{text(name)}</title></text>"
            f'<text x="{left + (row + 0.5) * cell:.1f}" y="{top - 5}" text-anchor="middle">'
            f"{row + 1}</text>"
        )
        for column in range(size):
            count = pairs.get((row, column), 0)
            parts.append(_square(names, row, column, count, count / total, left, y, cell))
    height = top + size * cell + 4
    width = left + size * cell + 4
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="confusion matrix">'
        f"{''.join(parts)}</svg>"
    )


def _square(
    names: list[str], row: int, column: int, count: int, share: float, left: int, y: float,
    cell: float,
) -> str:  # fmt: skip
    x = left + column * cell
    box = f'x="{x:.1f}" y="{y:.1f}" width="{cell:.1f}" height="{cell:.1f}"'
    parts = [f"<rect class=cell {box}/>"]
    if count:
        kind = "heat" if row == column else "heat miss"
        words = f"{names[row]} taken for {names[column]}: {count}"
        opacity = f"{max(share, 0.06):.3f}"
        parts.append(
            f'<rect class="{kind}" fill-opacity="{opacity}" {box}><title>{text(words)}'
            "</title></rect>"
        )
        if len(names) <= _NUMBERED:
            tone = "on" if share > 0.55 else "name"
            parts.append(
                f'<text class={tone} x="{x + cell / 2:.1f}" y="{y + cell / 2 + 3.5:.1f}" '
                f'text-anchor="middle">{count}</text>'
            )
    return "".join(parts)


def _cut(name: str) -> str:
    return name if len(name) <= 16 else name[:15] + "…"


def worst_examples(evaluation: Evaluation) -> str:
    """Pictures that were given a wrong name, the surest first."""
    names = evaluation.names()
    found = [
        f"<figure>{_decoded(item.picture, Path(item.file).name)}<b>{text(names[item.predicted])}"
        f"</b> {100 * item.confidence:.0f}\u00a0%<br>is {text(names[item.label])}<br>"
        f"<span>{text(Path(item.file).name)}</span></figure>"
        for item in evaluation.worst
    ]
    return f"<div class=worst>{''.join(found)}</div>" if found else ""


def _decoded(encoded: str, name: str) -> str:
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return ""
    return picture(data, name) if data else ""
