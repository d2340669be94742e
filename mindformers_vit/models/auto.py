"""`AutoConfig`, `AutoModel`, `AutoProcessor`: the right class for a name, a yaml, a directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindformers_vit.errors import ConfigError
from mindformers_vit.models.image_processor import Processor
from mindformers_vit.models.sources import find_source, make_config, make_processor
from mindformers_vit.models.vision_config import VisionConfig
from mindformers_vit.registry import families, find_arch


class _Auto:
    """What the three share: they are called on the class, and they list the names."""

    def __init__(self, *_: Any, **__: Any) -> None:
        name = type(self).__name__
        raise ConfigError(
            f"{name} is not constructed; call {name}.from_pretrained(NAME_OR_PATH), "
            f"for example {name}.from_pretrained('{self.get_support_list()['mae'][0]}')"
        )

    @classmethod
    def get_support_list(cls) -> dict[str, list[str]]:
        """Family -> model names, each family's aliases last."""
        return {f.name: [*f.variants, *f.aliases] for f in families()}

    @classmethod
    def show_support_list(cls) -> None:
        """Print the names that `from_pretrained` knows."""
        for family in families():
            print(f"{family.name} ({family.task}):")
            for name in family.variants:
                aliases = [a for a, target in family.aliases.items() if target == name]
                print(f"  {name}" + (f"  (also {', '.join(aliases)})" if aliases else ""))


class AutoConfig(_Auto):
    """Settings of a network."""

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **overrides: Any) -> VisionConfig:
        """The settings behind a model name, a yaml or a model directory.

        Raises:
            ConfigError: unknown name or wrong settings, with every problem.
            CheckpointError: the path is missing or holds no model.
        """
        return find_source(name_or_path, overrides=overrides).config


class AutoModel(_Auto):
    """Networks."""

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        download_checkpoint: bool = True,
        new_parts: bool = False,
        **overrides: Any,
    ) -> Any:
        """A network with its weights; see `models.model_io.load_model` for arguments and errors."""
        from mindformers_vit.models.model_io import load_model

        return load_model(
            name_or_path,
            download_checkpoint=download_checkpoint,
            new_parts=new_parts,
            overrides=overrides,
        )

    @classmethod
    def from_config(
        cls, config: VisionConfig | Mapping[str, Any] | str | Path, *, seed: int = 0
    ) -> Any:
        """A network with initial weights.

        Args:
            config: a config object, a name, a yaml, or a yaml's `model` section as a mapping.
            seed: of the initial weights.

        Raises:
            ConfigError: no network has such settings, or they are wrong.
        """
        if isinstance(config, (str, Path)):
            config = find_source(config).config
        if isinstance(config, Mapping):
            config = config_of_section(config)
        for family in families():
            if type(config) is family.config_class:
                return family.load_model_class()(config, seed=seed)
        known = ", ".join(family.config_class.__name__ for family in families())
        raise ConfigError(
            f"AutoModel.from_config: {type(config).__name__} given; allowed: {known}, "
            f"a model name or a yaml"
        )


class AutoProcessor(_Auto):
    """Preprocessing."""

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path) -> Processor:
        """The processor that belongs to a model name, a yaml or a model directory.

        Raises:
            ConfigError, CheckpointError: as `AutoConfig.from_pretrained`.
        """
        source = find_source(name_or_path)
        return make_processor(source.family, source.config, source.processor)


def config_of_section(section: Mapping[str, Any]) -> VisionConfig:
    """The settings in a yaml's values, or in its `model` section.

    Raises:
        ConfigError: no network has such settings, or they are wrong.
    """
    section = section.get("model", section)
    arch = section.get("arch", {})
    arch = arch.get("type") if isinstance(arch, Mapping) else arch
    if not isinstance(arch, str):
        raise ConfigError("model.arch.type: missing; it names the network")
    return make_config(find_arch(arch), section.get("model_config") or {})
