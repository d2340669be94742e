"""Label files: one `<file name> <class index>` a line, as `val_label.txt` of ImageNet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mindformers_vit.errors import DataError


@dataclass(frozen=True)
class LabelLine:
    """One line: the name as written, the class index, the line number from 1."""

    name: str
    label: int
    line: int


def image_key(name: str) -> str:
    """What an image and its label have in common: the name without folder, ending and case."""
    path = PurePosixPath(name)
    known = len(path.suffix) <= 5 and path.suffix[1:].isalpha()
    return (path.stem if known else path.name).casefold()


def read_label_file(path: Path) -> dict[str, LabelLine]:
    """The lines by `image_key`; DataError with every malformed or repeated line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"label file {path} cannot be read: {error}") from error
    found: dict[str, LabelLine] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        if not name.strip() or not label.isdecimal():
            problems.append(
                f"{path}:{number}: expected '<file name> <class index>', given {line.strip()!r}"
            )
            continue
        entry = LabelLine(name.strip(), int(label), number)
        first = found.setdefault(image_key(entry.name), entry)
        if first is not entry:
            problems.append(
                f"{path}:{number}: '{entry.name}' is labelled twice, first on line {first.line}"
            )
    if not found and not problems:
        problems.append(f"label file {path} is empty")
    if problems:
        raise DataError("\n".join(problems))
    return found
