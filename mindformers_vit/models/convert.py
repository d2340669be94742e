"""Converting weight files: PyTorch's, Hugging Face's and MindFormers' to ours, and back.

A family's `convert_weight.py` describes itself as a `Converter`. Needs torch for PyTorch files, and
MindSpore only when a `.ckpt` is written or read.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mindformers_vit.checkpoint.weights import FORMATS, read_weights, write_weights
from mindformers_vit.config.loader import load_yaml
from mindformers_vit.config.strict import validate
from mindformers_vit.errors import CheckpointError, ConfigError
from mindformers_vit.models import hugging_face
from mindformers_vit.models.auto import config_of_section
from mindformers_vit.models.conversion_report import Report, differences
from mindformers_vit.models.conversion_table import Array, Fit, Layout, Shapes, to_ours, to_theirs
from mindformers_vit.models.infer_config import complete, published
from mindformers_vit.models.layers.parameters import ParamSpecs
from mindformers_vit.models.model_files import write_model, yaml_sections
from mindformers_vit.models.sources import make_processor
from mindformers_vit.models.torch_files import CONTAINERS, write_torch
from mindformers_vit.models.weight_source import CONFIG, TENSORS, WeightSource, read_source
from mindformers_vit.registry import ModelFamily, families, find_model

logger = logging.getLogger(__name__)

STYLES = ("torch", "huggingface")  # of what can be written
_Direction = Callable[[Mapping[str, Array], Layout, Callable[[Shapes], Any]], Fit]


@dataclass(frozen=True)
class Converter:
    """What converting has to know about a family.

    Attributes:
        layouts: to try, in order.
        tell: the settings that our shapes tell; CheckpointError if they are not the family's.
        specs: config -> every parameter of the network.
        needed: settings that shapes do not tell and that have no safe default.
        options: further settings that shapes do not tell.
        containers: keys that a file may hold its tensors under; the first one found counts.
        written_under: the key that a PyTorch file is written with.
        model_type: what transformers calls such networks, "" if it has none.
    """

    family: ModelFamily
    layouts: Sequence[Layout]
    tell: Callable[[Shapes], dict[str, Any]]
    specs: Callable[[Any], ParamSpecs]
    needed: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    containers: tuple[str, ...] = CONTAINERS
    written_under: str = "model"
    model_type: str = ""

    def convert_weight(
        self,
        torch_path: str | Path,
        mindspore_path: str | Path,
        *,
        reversed: bool = False,
        layout: str | None = None,
        container: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Report:
        """Convert a file to ours, or ours to theirs if `reversed`.

        Args:
            torch_path: a PyTorch file, a `.safetensors`, a Hugging Face folder or MindFormers'
                `.ckpt`; reversed: one of the first two or, without an ending, such a folder.
            mindspore_path: `.ckpt` or `.safetensors`; a yaml of the same stem lies beside.
            layout: what to write reversed, "torch" or "huggingface", instead of by the ending.
            container: the key that holds the tensors, instead of the first known one.
            settings: the network's settings that the file does not tell, `num_attention_heads`.

        Returns:
            What was seen and done; its text is a table.

        Raises:
            ConfigError: an argument is wrong or missing.
            CheckpointError: no layout fits (with what is unmapped, missing or of a wrong shape), or
                a file cannot be read or written. Nothing is written then.
        """
        theirs, ours = Path(torch_path).expanduser(), Path(mindspore_path).expanduser()
        given = dict(settings or {})
        if ours.suffix.removeprefix(".") not in FORMATS or ours.is_dir():
            raise ConfigError(
                f"--mindspore_path: '{ours}' given; a file that ends with "
                f".{' or .'.join(FORMATS)} is expected"
            )
        if layout is not None and (not reversed or layout not in STYLES):
            raise ConfigError(
                f"--layout: '{layout}' given; allowed: {', '.join(STYLES)}, and only with "
                f"--reversed (what is read shows by itself)"
            )
        if container is not None and reversed:
            raise ConfigError("--container: only for what is read, not with --reversed")
        self._check_given(given)
        if reversed:
            report = self._to_theirs(theirs, ours, layout, given)
        else:
            report = self._to_ours(theirs, ours, container, given)
        logger.info("%s", report)
        return report

    def configure(self, shapes: Shapes, given: Mapping[str, Any]) -> Any:
        """The config of a network with these tensors; 1 for settings that nothing tells.

        Raises:
            CheckpointError: there is none.
        """
        values, _ = complete(self.family, self.tell(shapes), given, self.needed)
        try:
            return validate(self.family.config_class, values)
        except ConfigError as error:
            raise CheckpointError(f"no {self.family.arch} has these settings: {error}") from error

    def _check_given(self, given: Mapping[str, Any]) -> None:
        """A setting must be possible by itself; whether it fits the tensors is seen later."""
        try:
            validate(self.family.config_class, given)
        except ConfigError as error:
            own = [text for text in error.problems if text.split(":")[0] in given]
            if own:
                raise ConfigError([f"--{text}" for text in own]) from None

    def _to_ours(
        self, path: Path, target: Path, container: str | None, settings: dict[str, Any]
    ) -> Report:
        _check_target(target, path)
        source = read_source(path, self.containers, container=container)
        _check_architecture(source)
        given = self._settings_in(source) | settings
        fit = self._best(source.arrays, self.layouts, given, path, to_ours)
        self._check_known(_shapes(fit.arrays), given, path)
        preprocessing = hugging_face.timm_processor_settings(source.config)
        preprocessing |= hugging_face.processor_settings(source.preprocessor)
        processor = make_processor(self.family, fit.config, {"image_processor": preprocessing})
        if source.config and "mean" not in preprocessing:
            used = processor.image_processor
            logger.info(
                "nothing in '%s' tells mean and std: %s and %s are taken",
                path, list(used.mean), list(used.std),
            )  # fmt: skip
        write_model(target, fit.arrays, yaml_sections(self.family, fit.config, processor))
        written = (str(target), str(target.with_suffix(".yaml")))
        return self._report(fit, (str(path), *source.seen), fit.arrays, written)

    def _to_theirs(
        self, target: Path, path: Path, style: str | None, settings: dict[str, Any]
    ) -> Report:
        if style is None:
            style = STYLES[0] if target.suffix and not target.is_dir() else STYLES[1]
        layouts = [layout for layout in self.layouts if layout.style == style]
        if not layouts:
            raise ConfigError(
                f"--torch_path: '{target}' means a Hugging Face folder, and transformers has no "
                f"such network; give a file with an ending (.pth)"
            )
        arrays, beside = read_weights(path), path.with_suffix(".yaml")
        values = load_yaml(beside) if beside.is_file() else {}
        given = (self._settings_saved(values, path) if values else {}) | settings
        fit = self._best(arrays, layouts, given, path, to_theirs)
        if target.exists() and target.samefile(path):
            raise ConfigError(f"--torch_path: '{target}' is what is to be read; give another name")
        if style == "torch" and target.suffix == ".safetensors":
            write_weights(target, fit.arrays, {"format": "pt"})
        elif style == "torch":
            write_torch(target, fit.arrays, self.written_under)
        else:
            self._check_known(_shapes(arrays), given, path)
            processor = make_processor(self.family, fit.config, values.get("processor"))
            hugging_face.write_folder(
                target,
                fit.arrays,
                hugging_face.config_of(fit.config, fit.layout.architecture, self.model_type),
                hugging_face.preprocessor_of(processor.image_processor),
            )
        return self._report(fit, (str(path),), arrays, (str(target),))

    def _best(
        self,
        arrays: Mapping[str, Array],
        layouts: Sequence[Layout],
        given: Mapping[str, Any],
        path: Path,
        convert: _Direction,
    ) -> Fit:
        """The first layout that fits; else an error with the differences to the nearest."""
        fit = _nearest(arrays, layouts, convert, partial(self.configure, given=given))
        if not fit.problems:
            return fit
        for other in _converters():
            if (
                other.family is not self.family
                and not _nearest(
                    arrays, other.layouts, convert, partial(other.configure, given={})
                ).problems
            ):
                raise CheckpointError(
                    f"'{path}': this is a file of another family ({other.family.name}); nothing "
                    f"was written. It is converted by {_script(other.family)}"
                )
        raise CheckpointError(differences(path, fit, layouts))

    def _settings_in(self, source: WeightSource) -> dict[str, Any]:
        """What the arguments of a training run or a Hugging Face `config.json` tell."""
        config_class, args = self.family.config_class, source.args
        found = {key: args[key] for key in (*self.needed, *self.options) if key in args}
        try:
            family, name = find_model(str(args.get("model")))
        except ConfigError:  # no name of ours
            family = None
        if family is self.family:
            config = config_class(**family.variants[name])
            found = {key: getattr(config, key) for key in self.needed} | found
        return found | hugging_face.settings_of(config_class, source.config)

    def _settings_saved(self, values: Mapping[str, Any], path: Path) -> dict[str, Any]:
        """The settings in the yaml beside our weights."""
        config = config_of_section(values)
        if type(config) is not self.family.config_class:
            family = next(f for f in families() if f.config_class is type(config))
            raise CheckpointError(
                f"'{path}' is a {family.arch} by its yaml; it is converted by {_script(family)}"
            )
        return config.settings()

    def _check_known(self, shapes: Shapes, given: Mapping[str, Any], path: Path) -> None:
        """Every needed setting must be told by something."""
        told = self.tell(shapes)
        _, missing = complete(self.family, told, given, self.needed)
        if missing:
            size = f"hidden_size {told['hidden_size']}, {told['num_hidden_layers']} blocks"
            raise ConfigError(
                [
                    f"--{name}: missing. The tensors of '{path}' do not tell it ({size}: no "
                    f"published network); give --{name} N as it was in training"
                    for name in missing
                ]
            )

    def _report(
        self, fit: Fit, source: tuple[str, ...], ours: Mapping[str, Array], written: tuple[str, ...]
    ) -> Report:
        name = published(self.family, self.tell(_shapes(ours)))
        network = f"{self.family.arch} {name}" if name else self.family.arch
        return Report(source, fit, network, self.specs(fit.config), frozenset(ours), written)


def _nearest(
    arrays: Mapping[str, Array],
    layouts: Sequence[Layout],
    convert: _Direction,
    configure: Callable[[Shapes], Any],
) -> Fit:
    """The first layout that fits, else the one with the fewest problems."""
    fits = []
    for layout in layouts:
        fits.append(convert(arrays, layout, configure))
        if not fits[-1].problems:
            break
    return min(fits, key=lambda fit: len(fit.problems))


def _check_target(target: Path, path: Path) -> None:
    """Neither the file that is read nor the yaml of a run may be written over."""
    read = [path, *(path / name for name in TENSORS)]
    if target.exists() and any(one.exists() and one.samefile(target) for one in read):
        raise ConfigError(f"--mindspore_path: '{target}' is what is to be read; give another name")
    beside = target.with_suffix(".yaml")
    if beside.is_file() and not set(load_yaml(beside)) <= {"model", "processor"}:
        raise ConfigError(
            f"--mindspore_path: the model's settings would be written over '{beside}', which is "
            f"more than that; give another name"
        )


def _check_architecture(source: WeightSource) -> None:
    """What a `config.json` names must be a network that is read here."""
    named = source.config.get("architectures")
    if not isinstance(named, list) or not named:
        return
    layouts = [layout for other in _converters() for layout in other.layouts]
    known = {layout.architecture for layout in layouts if layout.style == "huggingface"}
    if not any(name in known for name in map(str, named)):
        raise CheckpointError(
            f"'{source.path}': {CONFIG} says {', '.join(map(str, named))}, not read here; of "
            f"transformers these are: {', '.join(sorted(known))}"
        )


def _converters() -> Iterator[Converter]:
    """Every family's."""
    for family in families():
        package = family.config_class.__module__.rpartition(".")[0]
        converter: Converter = importlib.import_module(f"{package}.convert_weight").CONVERTER
        yield converter


def _script(family: ModelFamily) -> str:
    return f"mindformers_vit/models/{family.name}/convert_weight.py"


def _shapes(arrays: Mapping[str, Array]) -> Shapes:
    return {name: array.shape for name, array in arrays.items()}
