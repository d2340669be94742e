"""A page made of headings, paragraphs and tables, in another language."""

from __future__ import annotations

import re
from collections.abc import Mapping


def translated(content: str, words: Mapping[str, str]) -> str:
    """The page in another language; KeyError names a text that `words` lacks."""
    parts = re.split(r"(```.*?```\n)", content, flags=re.S)
    return "".join(part if part.startswith("```") else _paragraphs(part, words) for part in parts)


def _paragraphs(content: str, words: Mapping[str, str]) -> str:
    found = [_paragraph(part, words) for part in content.strip("\n").split("\n\n") if part]
    return "\n\n".join(found).join(re.fullmatch(r"(\n*).*?(\n*)", content, re.S).groups())  # type: ignore[union-attr]


def _paragraph(content: str, words: Mapping[str, str]) -> str:
    if content.startswith("|"):
        return "\n".join(_row(line, words) for line in content.split("\n"))
    if content.startswith("#"):
        signs, _, title = content.partition(" ")
        return f"{signs} {words.get(title, title)}"
    entry = re.match(r"(\*\*\w+\*\*(?: \(also .*?\))?\.?)( |$)", content)
    start = entry[0] if entry else ""
    text = " ".join(content[len(start) :].split())
    return start + words[text] if text else content


def _row(line: str, words: Mapping[str, str]) -> str:
    """Only the last cell is words."""
    *cells, last, end = re.split(r"(?<!\\)\|", line)
    new, text = "*new* " if "*new*" in last else "", last.replace("*new*", "").strip()
    if not text.strip("-") or text == "because":
        return line
    return "|".join([*cells, f" {new.replace('new', '新增')}{words[text]} ", end])
