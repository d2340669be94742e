"""The base of every configuration object, and the one place that words validation problems.

A problem reads: dotted path, what is wrong, the value given, what is allowed, the nearest name.
"""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mindformers_vit.errors import ConfigError
from mindformers_vit.registry import nearest

M = TypeVar("M", bound="StrictModel")


class StrictModel(BaseModel):
    """Frozen; unknown keys, wrong types and non-finite numbers are errors."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        allow_inf_nan=False,
        protected_namespaces=(),
        defer_build=True,
    )

    @classmethod
    def key_names(cls) -> list[str]:
        """The keys a yaml may use for this section."""
        return [field.alias or name for name, field in cls.model_fields.items()]


def validate(cls: type[M], values: Any, path: str = "") -> M:
    """`cls` made from a mapping; raises ConfigError with every problem, each with its path."""
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        raise ConfigError(problems_of(error, cls, path)) from None


def problems_of(error: ValidationError, cls: type[StrictModel], path: str = "") -> list[str]:
    """One line for each problem that pydantic found in a `cls`."""
    return [_word(item, cls, path) for item in error.errors(include_url=False)]


def _word(item: Any, cls: type[StrictModel], path: str) -> str:
    loc = [part for part in item["loc"] if not _is_union_tag(part)]
    if item["type"] == "extra_forbidden" and loc[-1:] != list(item["loc"][-1:]):
        loc.append(item["loc"][-1])  # the user's key only looks like a tag
    where = ".".join([path, *map(str, loc)] if path else map(str, loc)) or "config"
    given = item.get("input")
    if item["type"] == "extra_forbidden":
        known = _keys_at(cls, loc[:-1])
        hint = nearest(str(loc[-1]), known)
        allowed = "" if hint or not known else f"; known here: {', '.join(known)}"
        return f"{where}: unknown key{hint}{allowed}"
    if item["type"] == "missing":
        return f"{where}: missing; it has no default"
    text = item["msg"].removeprefix("Value error, ")
    text = text[:1].lower() + text[1:]
    if item["type"] == "value_error":
        return f"{where}: {text}"
    return f"{where}: {text}, given {_show(given)}"


def _is_union_tag(part: Any) -> bool:
    """Pydantic names the member of a union in the path ("int", "literal['auto']"); users do not."""
    return isinstance(part, str) and (part in {"int", "bool", "str", "float"} or "[" in part)


def _keys_at(cls: type[StrictModel], loc: list[Any]) -> list[str]:
    """The known keys of the section that `loc` leads to, [] if that is not a section."""
    current: Any = cls
    for part in loc:
        fields = {f.alias or n: f for n, f in current.model_fields.items()}
        if part not in fields:
            return []
        inner = fields[part].annotation
        options = [inner, *getattr(inner, "__args__", ())]
        found = [c for c in options if isinstance(c, type) and issubclass(c, StrictModel)]
        if not found:
            return []
        current = found[0]
    return list(current.key_names())


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
