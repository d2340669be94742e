"""The reference of a yaml's keys, docs/configuration.md, made from the schema.

Types, limits and defaults are pydantic's; what a key means is the comment beside its field, or
the text below it, in the source.
"""

from __future__ import annotations

import ast
import inspect
import io
import json
import textwrap
import tokenize
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from mindformers_vit import registry
from mindformers_vit.config import schema
from mindformers_vit.config.loader import load_yaml
from mindformers_vit.config.strict import StrictModel
from mindformers_vit.data.mixup import Mixup
from mindformers_vit.models.transformer_config import TransformerConfig
from mindformers_vit.models.vision_config import VisionConfig
from mindformers_vit.tools.page_words import translated

_HEAD = """\
# The yaml of a run

Every key, its values, its default. A key that is not here is an error. All can be given on the
command line (`--optimizer.weight_decay=0.1`), which overrides the file; `base_config: other.yaml`
(or a list of files) is read before it. `python -m mindformers_vit validate FILE` checks a file;
`config_<run_mode>.yaml` in the output directory is what a run was resolved to. Keys that
MindFormers does not have are marked *new*.

```yaml
# own.yaml
base_config: configs/vit/run_vit_base_p16_224_100ep.yaml
runner_config:
  epochs: 50
  batch_size: 64
  num_classes: 10
model:
  model_config:
    num_labels: 10
callbacks:
  - type: MFLossMonitor
    per_print_times: 100
  - type: CheckpointMonitor
    save_checkpoint_epochs: 5
```

This list is made from the source: `python tools/list_settings.py > docs/configuration.md`; a test
compares.
"""
_DOCS = Path(__file__).resolve().parents[2] / "docs"
_LIMITS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
_HUGE = 2**62  # a limit that no one meets
_TYPES = {"integer": "int", "number": "float", "string": "text", "boolean": "True, False"}
_LISTS = (
    ("callbacks", "`callbacks` is a list of these", registry.callbacks),
    ("transforms", "`train_dataset.transforms` is a list of these", registry.transforms),
)


def page(language: str = "") -> str:
    """docs/configuration.md, or docs/<language>/configuration.md by the words beside it."""
    if language:
        return translated(page(), load_yaml(_DOCS / language / "configuration.yaml"))
    parts = [_HEAD, *_sections()]
    for title, words, entries in _LISTS:
        parts.append(f"\n## {title}\n\n{words}, by `type`.\n")
        parts += [_entry(entries, name) for name in _first_names(entries)]
    parts.append("\n## train_dataset.mixup_op\n\n" + _table(_rows(Mixup)))
    return "".join([*parts, *_networks(), _dead()])


def _networks() -> Iterator[str]:
    """What all networks have, what all transformers have, and what each has besides."""
    shared = _rows(VisionConfig)
    yield "\n## model.model_config\n\nOf every network:\n\n" + _table(shared)
    trunk = [row for row in _rows(TransformerConfig) if row not in shared]
    yield "\nOf ViT, MAE, BEiT and LV-ViT besides:\n\n" + _table(trunk)
    for family in registry.families():
        kind = family.config_class
        known = shared + (trunk if issubclass(kind, TransformerConfig) else [])
        own = [row for row in _rows(kind) if row not in known]
        yield f"\n**{family.arch}**\n\n" + _table(own)


def _sections() -> Iterator[str]:
    """The schema from the top down, a section of several names once."""
    places: dict[type[StrictModel], list[str]] = {}
    for path, kind in _models(schema.RunConfig, ""):
        places.setdefault(kind, []).append(path)
    for kind, paths in places.items():
        title = ", ".join(path for path in paths if path) or "At the top"
        words = " ".join((kind.__doc__ or "").split())
        said = "" if kind.__doc__ == StrictModel.__doc__ else f"{words}\n\n"
        yield f"\n## {title}\n\n{said}{_table(_rows(kind))}"


def _models(kind: type[StrictModel], path: str) -> Iterator[tuple[str, type[StrictModel]]]:
    yield path, kind
    for name, info in kind.model_fields.items():
        for part in (info.annotation, *getattr(info.annotation, "__args__", ())):
            if isinstance(part, type) and issubclass(part, StrictModel):
                yield from _models(part, f"{path}.{name}" if path else name)


def _first_names(entries: registry.Registry[Any]) -> list[str]:
    """A name for each class; others of the same class are its aliases."""
    found: dict[Any, str] = {}
    for name in entries.names():
        found.setdefault(entries.get(name), name)
    return list(found.values())


def _entry(entries: registry.Registry[Any], name: str) -> str:
    kind = entries.get(name)
    others = [other for other in entries.names() if entries.get(other) is kind and other != name]
    also = f" (also {', '.join(others)})" if others else ""
    words = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
    table = _table(_rows(kind))
    return f"\n**{name}**{also}. {words}\n" + (f"\n{table}" if table else "")


def _table(rows: list[str]) -> str:
    head = "| key | values | default | |\n|---|---|---|---|\n"
    return head + "".join(rows) if rows else ""


def _rows(kind: type[StrictModel]) -> list[str]:
    """A line for each of a section's keys that do something."""
    whole, meanings, rows = kind.model_json_schema(by_alias=True), _meanings(kind), []
    for name, info in kind.model_fields.items():
        if isinstance(info.json_schema_extra, dict) and "dead" in info.json_schema_extra:
            continue
        key = info.alias or name
        given = whole["properties"][key]
        if "$ref" in given or any("$ref" in option for option in given.get("anyOf", [])):
            continue  # a section of its own
        value = info.get_default(call_default_factory=True)
        default = "" if key in whole.get("required", []) else _word(given.get("default", value))
        rows.append(f"| `{key}` | {_values(given)} | {default} | {meanings.get(name, '')} |\n")
    return rows


def _values(given: dict[str, Any]) -> str:
    """What is allowed, in a few words."""
    if "anyOf" in given:
        options = dict.fromkeys(_values(option) for option in given["anyOf"])
        return " or ".join(options)
    if "enum" in given or "const" in given:
        return ", ".join(f"`{value}`" for value in given.get("enum", [given.get("const")]))
    kind = given.get("type", "")
    signs = {key: sign for key, sign in _LIMITS.items() if abs(given.get(key, _HUGE)) < _HUGE}
    limits = " and ".join(f"{sign} {given[key]:g}" for key, sign in signs.items())
    if kind == "array":
        inner = given.get("items") or {}
        return f"list of {_values(inner)}" if inner.get("type") in _TYPES else "list"
    words = {"null": "null", "object": "mapping", "": "any"}.get(kind, _TYPES.get(kind, kind))
    return f"{words} {limits}".strip()


def _word(value: Any) -> str:
    if value is None:
        return "null"
    return f"`{json.dumps(value)}`" if isinstance(value, (list, dict, str)) else f"`{value}`"


def _meanings(kind: type[StrictModel]) -> dict[str, str]:
    """Field -> what the source says about it, of the class and of those it is made from."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if issubclass(base, StrictModel) and base is not StrictModel:
            found |= _said_of(base)
    return found


def _said_of(kind: type[StrictModel]) -> dict[str, str]:
    """Field -> the comments above and beside it, and the text below it."""
    source = textwrap.dedent(inspect.getsource(kind))
    lines, comments = source.splitlines(), _comments(source)
    found: dict[str, str] = {}
    body = ast.parse(source).body[0].body  # type: ignore[attr-defined]
    for node, following in zip_longest(body, body[1:]):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        first, last = node.lineno, node.end_lineno or node.lineno
        while lines[first - 2].lstrip().startswith("#"):
            first -= 1
        words = [comments[number] for number in range(first, last + 1) if number in comments]
        match following:
            case ast.Expr(value=ast.Constant(value=str(text))):
                words.append(text)
        found[node.target.id] = _marked(" ".join(" ".join(words).split()))
    return found


def _comments(source: str) -> dict[int, str]:
    """Line -> its comment, but for those that speak to a tool."""
    return {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and not token.string.startswith(("# noqa", "# fmt"))
    }


def _marked(words: str) -> str:
    new, _, rest = words.partition(":")
    words = f"*new* {rest.strip()}" if new == "new" else words
    return words.replace("|", r"\|")


def _dead() -> str:
    """Keys of MindFormers' yamls that do nothing here."""
    reasons: dict[str, list[str]] = {}
    for path, kind in _models(schema.RunConfig, ""):
        for name, info in kind.model_fields.items():
            extra = info.json_schema_extra
            if isinstance(extra, dict) and "dead" in extra:
                key = f"`{path}.{name}`" if path else f"`{name}`"
                if not path.startswith("eval_"):  # as of train_
                    reasons.setdefault(str(extra["dead"]), []).append(key)
    lines = [f"| {', '.join(keys)} | {why} |\n" for why, keys in reasons.items()]
    head = "Accepted, because MindFormers' yamls have them, and named in one warning.\n\n"
    return f"\n## Keys that do nothing\n\n{head}| keys | because |\n|---|---|\n{''.join(lines)}"
