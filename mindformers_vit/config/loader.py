"""From a yaml file and overrides to one mapping.

Precedence, once: class defaults < `base_config` files < the file < `--options` and
`--section.key=value` < the named flags.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mindformers_vit.errors import ConfigError

PACKAGE = Path(__file__).resolve().parents[1]  # in it configs, in the repository a link
_MAX_BYTES = 1 << 20
_MAX_NODES = 100_000
_MAX_DEPTH = 100


class _Loader(yaml.SafeLoader):
    """Safe yaml that reads 1e-4 as a number and refuses a key given twice."""

    _depth = 0

    def get_event(self) -> Any:
        """Refuse nesting that composing, which is recursive, would fall over."""
        event = super().get_event()  # type: ignore[no-untyped-call]
        self._depth += isinstance(event, yaml.CollectionStartEvent)
        self._depth -= isinstance(event, yaml.CollectionEndEvent)
        if self._depth > _MAX_DEPTH:
            raise ValueError(f"nested more than {_MAX_DEPTH} deep")
        return event

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag != "tag:yaml.org,2002:str":
                continue
            if key_node.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key '{key_node.value}' is given twice",
                    problem_mark=key_node.start_mark,
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def find_config(name: str | Path) -> Path:
    """The file: as given from the working directory, else the one that came with the package."""
    given = Path(name).expanduser()
    tried = [given] if given.is_absolute() else [given, PACKAGE / given]
    for path in tried:
        if path.is_file():
            return path
    looked = " and ".join(str(path.parent.resolve()) for path in tried)
    raise ConfigError(f"--config: no file '{name}' (looked in {looked})")


def load_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a yaml file, its `base_config` files merged below it."""
    return _load_yaml(Path(path), ())


def _load_yaml(path: Path, parents: tuple[Path, ...]) -> dict[str, Any]:
    values = parse_yaml(_read(path), str(path))
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path}: a mapping of sections is expected, given {type(values).__name__}"
        )
    bases = values.pop("base_config", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(f"{path}: base_config: a file or a list of files is expected")
    merged: dict[str, Any] = {}
    for base in bases:
        target = (path.parent / base).resolve()
        if target in (*parents, path.resolve()):
            raise ConfigError(f"{path}: base_config: '{base}' leads back to itself")
        merged = merge(merged, _load_yaml(target, (*parents, path.resolve())))
    return merge(merged, values)


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{path}: larger than {_MAX_BYTES} bytes, not a configuration")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file in UTF-8") from None


def parse_yaml(text: str, where: str) -> Any:
    """One yaml document; tags that build objects, alias bombs and double keys are refused."""
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return None
        _check_size(root)
        return loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f" line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{where}:{line} {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not valid yaml: {str(error).splitlines()[0]}") from None


def _check_size(root: Any) -> None:
    """Count what the aliases would unfold to, without unfolding it; a cycle is refused too."""
    sizes: dict[int, int] = {}

    def size(node: Any) -> int:
        if id(node) in sizes:
            if sizes[id(node)] == 0:
                raise ValueError("an alias contains itself")
            return sizes[id(node)]
        sizes[id(node)] = 0
        children = node.value if isinstance(node.value, list) else []
        flat = [c for child in children for c in (child if isinstance(child, tuple) else (child,))]
        sizes[id(node)] = 1 + sum(map(size, flat))
        if sizes[id(node)] > _MAX_NODES:
            raise ValueError("its aliases unfold to more than 100000 values")
        return sizes[id(node)]

    size(root)


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`: mappings merge, everything else (lists too) is replaced."""
    result = dict(below)
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merge(result[key], value)
        else:
            result[key] = value
    return result


def set_dotted(values: dict[str, Any], dotted: str, value: Any) -> dict[str, Any]:
    """A copy of `values` with `a.b.2.c` set; list places are numbers; sections are created."""
    head, _, rest = dotted.partition(".")
    if not head:
        raise ConfigError(f"override '{dotted}': a dotted name is expected")
    inner: Any = values.get(head)
    result = dict(values)
    result[head] = _set_inner(inner, rest, value, dotted) if rest else value
    return result


def _set_inner(inner: Any, rest: str, value: Any, dotted: str) -> Any:
    if not isinstance(inner, list):
        return set_dotted(dict(inner) if isinstance(inner, Mapping) else {}, rest, value)
    place, _, deeper = rest.partition(".")
    if not place.isdigit() or int(place) >= len(inner):
        raise ConfigError(
            f"override '{dotted}': '{place}' is not a place of its list, which has {len(inner)}"
        )
    copy = list(inner)
    at = int(place)
    copy[at] = _set_inner(copy[at], deeper, value, dotted) if deeper else value
    return copy


def parse_override(text: str) -> tuple[str, Any]:
    """`a.b=value` -> ("a.b", value); the value is read as yaml, so True, 1e-4 and [1, 2] work."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(f"override '{text}': 'section.key=value' is expected")
    return name, parse_yaml(value, f"override '{name}'")
