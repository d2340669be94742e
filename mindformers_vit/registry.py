"""Names to things. A plug-in registers itself where it is defined; nobody keeps a central list.

`Registry` holds one kind of thing (transforms, callbacks, ...) and refuses duplicates.
`families` holds the model families: one `ModelFamily` per folder under `models/`, registered by
its `<name>_config.py`, which imports no MindSpore, so that configurations are checked without it.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from mindformers_vit.errors import ConfigError

T = TypeVar("T")


def nearest(name: str, known: Iterable[str]) -> str:
    """ " (did you mean 'x'?)" for the closest known name, or ""."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean '{found[0]}'?)" if found else ""


class Registry(Generic[T]):
    """One kind of thing by name; `module` is imported on the first look-up, to fill it."""

    def __init__(self, kind: str, module: str | None = None) -> None:
        self.kind = kind
        self._module = module
        self._items: dict[str, T] = {}

    def register(self, *names: str) -> Callable[[T], T]:
        """Decorator: file the thing under every name given; a name is taken once."""

        def add(item: T) -> T:
            for name in names:
                if name in self._items:
                    raise ValueError(f"{self.kind} '{name}' is registered twice")
                self._items[name] = item
            return item

        return add

    def names(self) -> list[str]:
        self._fill()
        return sorted(self._items)

    def get(self, name: str) -> T:
        """The thing of that name; a miss raises ConfigError with the names there are."""
        self._fill()
        if name not in self._items:
            raise ConfigError(
                f"unknown {self.kind} '{name}'{nearest(name, self._items)}; "
                f"known: {', '.join(sorted(self._items))}"
            )
        return self._items[name]

    def _fill(self) -> None:
        if self._module is not None:
            module, self._module = self._module, None
            importlib.import_module(module)


transforms: Registry[Any] = Registry("transform", "mindformers_vit.data.transforms")
callbacks: Registry[Any] = Registry("callback", "mindformers_vit.engine.callbacks")


@dataclass(frozen=True)
class ModelFamily:
    """What the rest of the project has to know about one folder under `models/`."""

    name: str  # folder name: "mae", "vit"
    task: str  # "masked_image_modeling" | "image_classification"
    config_class: type  # frozen pydantic model, e.g. ViTMAEConfig
    model: str  # "package.module:Class", imported only when a network is built
    processor: str  # "package.module:Class"
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)  # public name -> config
    aliases: dict[str, str] = field(default_factory=dict)  # other name -> public name

    @property
    def arch(self) -> str:
        """The network's class name, as `model.arch.type` in a yaml: "ViTMAEForPreTraining"."""
        return self.model.rpartition(":")[2]

    def load_model_class(self) -> Any:
        return _load(self.model)

    def load_processor_class(self) -> Any:
        return _load(self.processor)


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


_families: dict[str, ModelFamily] = {}


def register_family(family: ModelFamily) -> ModelFamily:
    """Add a model family; a family or a model name is taken once."""
    taken = {n for f in _families.values() for n in (*f.variants, *f.aliases)}
    clash = taken.intersection((*family.variants, *family.aliases))
    if family.name in _families or clash:
        raise ValueError(f"model family '{family.name}' or names {sorted(clash)} registered twice")
    _families[family.name] = family
    return family


def families() -> list[ModelFamily]:
    """Every family, found by importing `models/<name>/<name>_config.py` of every folder."""
    models = importlib.import_module("mindformers_vit.models")
    for info in pkgutil.iter_modules(models.__path__):
        if info.ispkg and info.name != "layers":
            importlib.import_module(f"{models.__name__}.{info.name}.{info.name}_config")
    return [_families[name] for name in sorted(_families)]


def find_model(name: str) -> tuple[ModelFamily, str]:
    """The family and the public name behind a model name or alias ("mindspore/" is dropped)."""
    bare = name.removeprefix("mindspore/")
    known: list[str] = []
    for family in families():
        known += [*family.variants, *family.aliases]
        canonical = family.aliases.get(bare, bare)
        if canonical in family.variants:
            return family, canonical
    raise ConfigError(
        f"unknown model '{name}'{nearest(bare, known)}; known: {', '.join(sorted(known))}"
    )


def find_arch(arch: str) -> ModelFamily:
    """The family whose network class is `arch` (`model.arch.type`)."""
    found = {family.arch: family for family in families()}
    if arch not in found:
        raise ConfigError(
            f"model.arch.type: unknown network '{arch}'{nearest(arch, found)}; "
            f"known: {', '.join(sorted(found))}"
        )
    return found[arch]
