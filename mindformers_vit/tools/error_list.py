"""The list of error messages, docs/errors.md, read out of the source.

Taken are the texts of `raise SomeError(...)` of this package's errors, of `ValueError` in the
validation of settings, and of the problems that checking functions (`-> list[str]`) collect.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mindformers_vit import errors
from mindformers_vit.data.pool import WorkerError
from mindformers_vit.web import WebError

PACKAGE = Path(__file__).resolve().parents[1]
CLASSES = {
    kind.__name__: kind
    for kind in (
        errors.ConfigError, errors.DataError, WebError, errors.CheckpointError,
        errors.SaveError, errors.ExportError, errors.TrainingError, WorkerError,
    )
}  # fmt: skip
CARRIERS = {"BadSample"}  # hold the text of another error
_COLLECTED = {"problems", "found"}  # names of the lists that checks fill
_SHORTEST = 12  # characters of a text that says something
_HEAD = """\
# Error messages

Every message says what was wrong, what was given, what is allowed and where. The command line
prints it without a traceback; the exit code is that of its class. Several problems of one
configuration are reported together. `‹...›` stands for what was given.

This list is made from the source: `python tools/list_errors.py > docs/errors.md`; a test compares.
"""
_TITLES = {
    "ConfigError": "the configuration or the command line",
    "DataError": "data sets, images, label files",
    "WebError": "what is fetched from the network",
    "CheckpointError": "checkpoints and weights",
    "SaveError": "checkpoints that cannot be written",
    "ExportError": "exported networks",
    "TrainingError": "training that cannot go on",
    "WorkerError": "the processes that read the data",
}


@dataclass(frozen=True, order=True)
class Message:
    """One text, where it is said, and the class that carries it."""

    kind: str
    module: str
    text: str


def messages() -> list[Message]:
    """Every message of the package, sorted."""
    found: set[Message] = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        module = str(path.relative_to(PACKAGE))
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for kind, text in (*_raised(tree), *_collected(tree)):
            if len(text.replace("‹...›", "").strip()) >= _SHORTEST:
                found.add(Message(kind, module, " ".join(text.split())))
    return sorted(found)


def _raised(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        kind = "ConfigError" if node.func.id == "ValueError" else node.func.id
        if kind in CLASSES and node.args:
            yield from ((kind, text) for text in _texts(node.args[0]))


def _collected(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Problems that are returned or appended, to be raised together."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        checks = function.returns is not None and ast.unparse(function.returns) == "list[str]"
        for node in ast.walk(function):
            if isinstance(node, ast.Return) and checks and isinstance(node.value, ast.List):
                yield from (("ConfigError", t) for item in node.value.elts for t in _texts(item))
            elif _is_append(node, checks):
                yield from (("ConfigError", text) for text in _texts(node.args[0]))  # type: ignore[attr-defined]


def _is_append(node: ast.AST, checks: bool) -> bool:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    owner = node.func.value
    names = _COLLECTED if checks else {"problems"}
    return node.func.attr == "append" and isinstance(owner, ast.Name) and owner.id in names


def _texts(node: ast.AST) -> list[str]:
    """What an expression may say; [] if it is built elsewhere."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        return ["".join(_part(value) for value in node.values)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _texts(node.left) or ["‹...›"], _texts(node.right) or ["‹...›"]
        return [a + b for a in left for b in right]
    if isinstance(node, ast.IfExp):
        return _texts(node.body) + _texts(node.orelse)
    if isinstance(node, ast.List):
        return [text for item in node.elts for text in _texts(item)]
    return []


def _part(node: ast.AST) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    value = node.value if isinstance(node, ast.FormattedValue) else node
    return f"‹{value.id}›" if isinstance(value, ast.Name) else "‹...›"


def page() -> str:
    """docs/errors.md."""
    parts, found = [_HEAD], messages()
    for kind, title in _TITLES.items():
        parts.append(f"\n## {kind}: {title} (exit code {CLASSES[kind].exit_code})\n")
        module = ""
        for message in (m for m in found if m.kind == kind):
            if message.module != module:
                module = message.module
                parts.append(f"\n`{module}`\n\n")
            parts.append(f"- {_escaped(message.text)}\n")
    return "".join(parts)


def _escaped(text: str) -> str:
    """As Markdown prints it: a code span, whatever it holds."""
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}"
