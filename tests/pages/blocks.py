"""The fenced blocks of the pages: READMEs and docs."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ENGLISH = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
CHINESE = [ROOT / "README_CN.md", *sorted((DOCS / "zh").glob("*.md"))]
PAGES = [*ENGLISH, *CHINESE]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: Path
    language: str
    text: str

    @property
    def file(self) -> str:
        """The name that its first line gives it (`# my_run.yaml`), or ""."""
        found = re.match(r"# (\S+\.\w+)$", self.text.split("\n", 1)[0])
        return found[1] if found else ""

    @property
    def code(self) -> list[str]:
        """Its lines without comments, which are translated."""
        lines = (re.sub(r"(^|\s+)#( .*)?$", "", line) for line in self.text.splitlines())
        return [line for line in lines if line.strip()]

    def commands(self) -> list[list[str]]:
        """The words of every command of a shell's block, continued lines joined."""
        lines = self.text.replace("\\\n", " ").splitlines()
        split = (shlex.split(line, comments=True) for line in lines)
        return [words for words in split if words]


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [Block(page, *found) for found in _FENCE.findall(text)]
