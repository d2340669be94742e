"""Words into HTML. Every text that comes from outside goes through `text`."""

from __future__ import annotations

import base64
import html
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn"}  # control, direction marks, lone surrogates, unassigned


def text(value: Any) -> str:
    """`value` as harmless HTML: markup escaped, invisible characters spelled out."""
    shown = "".join(
        c if c == "\n" or unicodedata.category(c) not in _INVISIBLE else f"\\u{ord(c):04x}"
        for c in str(value)
    )
    return html.escape(shown, quote=True)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], *, kind: str = "") -> str:
    """A table of escaped cells; `Markup` cells are taken as they are."""
    cells = "".join(f"<th scope=col>{text(name)}</th>" for name in head)
    lines = ["".join(f"<td>{_cell(value)}</td>" for value in row) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return (
        f'<div class=wide><table class="{kind}"><thead><tr>{cells}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def long_table(
    head: Sequence[str], rows: Sequence[Sequence[Any]], shown: int, *, kind: str = "",
    more: str = "more",
) -> str:  # fmt: skip
    """The first rows as a `table`, the rest folded away below it."""
    made = table(head, rows[:shown], kind=kind)
    if len(rows) > shown:
        made += folded(f"{len(rows) - shown} {more}", table(head, rows[shown:], kind=kind))
    return made


class Markup(str):
    """HTML made by this package."""


def _cell(value: Any) -> str:
    return value if isinstance(value, Markup) else text(value)


def picture(jpeg: bytes, alt: str) -> Markup:
    """An image that carries its own bytes."""
    data = base64.b64encode(jpeg).decode("ascii")
    return Markup(f'<img src="data:image/jpeg;base64,{data}" alt="{text(alt)}">')


def section(title: str, body: str, note: str = "") -> str:
    """A part of the page; nothing without a body."""
    if not body:
        return ""
    words = f"<p class=note>{text(note)}</p>" if note else ""
    return f"<section><h2>{text(title)}</h2>{words}{body}</section>"


def folded(title: str, body: str) -> str:
    """Something long behind a line that opens it."""
    return f"<details><summary>{text(title)}</summary>{body}</details>"


def document(title: str, body: str) -> str:
    """The whole page. The policy forbids every script and everything from elsewhere."""
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{text(title)}</title><style>{style}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )
