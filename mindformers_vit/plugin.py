"""MindFormers knows the vision models again: `import mindformers_vit.plugin`.

What MindFormers is asked about a vision model, by its name, task, yaml or network, is answered by
this package; everything else stays its own. All that is replaced in it, or private, is named here.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, get_args

import numpy as np

from mindformers_vit import registry
from mindformers_vit.config.schema import TASKS, RunConfig
from mindformers_vit.engine.callbacks.base import Callback
from mindformers_vit.errors import ConfigError
from mindformers_vit.losses import SoftTargetCrossEntropy
from mindformers_vit.models.auto import AutoConfig, AutoModel, AutoProcessor
from mindformers_vit.models.recognise import is_ours, is_task
from mindformers_vit.pipelines import pipeline
from mindformers_vit.trainer import Trainer, recipes

# what MindFormers' run_mindformer.py and build_context add to the values of a yaml
_NOT_OF_THE_YAML = {"local_rank", "device_num", "input_data", "predict_batch_size", "adapter_id"}
# what of MindFormers' kinds of these arguments is taken
_TAKEN: dict[str, Any] = {
    "args": (str, Path, Mapping),
    "train_dataset": (str, Path),
    "eval_dataset": (str, Path),
}


def _check_version() -> None:
    try:
        found = importlib.metadata.version("mindformers")
    except importlib.metadata.PackageNotFoundError:
        found = "none"
    major, _, rest = found.partition(".")
    if major != "1" or int(rest.partition(".")[0]) < 9:
        raise ImportError(
            f"mindformers_vit.plugin needs mindformers >=1.9,<2, found: {found}; "
            "pip install 'mindformers_vit[mindformers]'"
        )


def _sifted(values: Mapping[str, Any], section: Any = RunConfig) -> dict[str, Any]:
    """The keys that mean something in a section of ours, as deep as sections go."""
    kept: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        if "dead" in (field.json_schema_extra or ()):
            continue
        key = field.alias or name
        kinds = (field.annotation, *get_args(field.annotation))
        inner = [kind for kind in kinds if hasattr(kind, "key_names")]
        value: Any = values.get(key)
        value = value.to_dict() if hasattr(value, "to_dict") else value
        if inner:
            value = _sifted(value, inner[0]) if isinstance(value, Mapping) else {}
        if key in values and not (inner and not value):
            kept[key] = value
    return kept


def _lenient(method: Callable[..., Any]) -> Any:
    """With MindFormers' second name for the checkpoint, and None for what is not given."""
    checkpoint = list(inspect.signature(method).parameters)[1]

    @wraps(method)
    def call(
        self: Trainer, *args: Any, resume_from_checkpoint: bool | str = False, **options: Any
    ) -> Any:
        given = {key: value for key, value in options.items() if value is not None}
        if resume_from_checkpoint:
            given[checkpoint] = resume_from_checkpoint
        return method(self, *args, **given)

    return call


class VisionTrainer(Trainer):
    """What `mindformers.Trainer(...)` gives for our models: our Trainer, called as MindFormers'.

    Raises:
        ConfigError: an argument that means nothing for vision models here.
    """

    def __init__(self, callbacks: Any = None, **given: Any) -> None:
        known = inspect.signature(Trainer).parameters
        given = {key: value for key, value in given.items() if value not in (None, "", False)}
        hung = callbacks if isinstance(callbacks, list) else [callbacks] if callbacks else []
        wrong = [k for k, v in given.items() if not isinstance(v, _TAKEN.get(k, object))]
        wrong += [key for key in given if key not in known]
        wrong += ["callbacks" for callback in hung if not isinstance(callback, Callback)]
        if wrong:
            names = ", ".join(sorted(set(wrong)))
            raise ConfigError(f"mindformers.Trainer: not for vision models as given: {names}")
        if isinstance(given.get("args"), Mapping):
            given["args"] = {k: v for k, v in given["args"].items() if k not in _NOT_OF_THE_YAML}
        super().__init__(callbacks=hung, **given)

    train = _lenient(Trainer.train)
    finetune = _lenient(Trainer.finetune)
    evaluate = _lenient(Trainer.evaluate)
    predict = _lenient(Trainer.predict)


class VisionTask:
    """The task trainer behind `build_trainer` and a yaml's `auto_register`, which MindFormers' own
    Trainer calls with its config. By then that holds so much of its own that what we do not know
    is dropped.
    """

    def __init__(self, model_name: str | None = None) -> None:
        self.model_name = model_name

    def train(self, config: Any, network: Any = None, callbacks: Any = None, **_: Any) -> None:
        trainer = VisionTrainer(callbacks, args=_sifted(config), model=network)
        trainer.train(_checkpoint(config), resume_training=config.get("resume_training"))

    def evaluate(self, config: Any, network: Any = None, **_: Any) -> dict[str, float]:
        trainer = VisionTrainer(args=_sifted(config), model=network)
        metrics: dict[str, float] = trainer.evaluate(_checkpoint(config))
        return metrics

    def predict(
        self, config: Any, input_data: Any = None, network: Any = None, **options: Any
    ) -> list[Any]:
        trainer = VisionTrainer(args=_sifted(config), model=network)
        taken = {key: options.get(key) for key in ("batch_size", "top_k")}
        results: list[Any] = trainer.predict(_checkpoint(config), input_data=input_data, **taken)
        return results


def _checkpoint(config: Mapping[str, Any]) -> Any:
    """What MindFormers' Trainer has been told to load, wherever it has moved it."""
    return (config.get("checkpoint") or {}).get("load_path") or config.get("load_checkpoint")


def _vision_pipeline(
    task: str,
    model: Any = None,
    tokenizer: Any = None,
    image_processor: Any = None,
    audio_processor: Any = None,
    feature_extractor: Any = None,
    **options: Any,
) -> Any:
    """Our pipeline, with the arguments in the order of MindFormers' two builders."""
    extra = {"tokenizer": tokenizer, "audio_processor": audio_processor or feature_extractor}
    return pipeline(task, model, image_processor, **extra, **options)


def _drawing(step: type) -> Callable[..., Any]:
    """A transform for MindFormers' data sets, which call it with an image alone; it draws from a
    generator that NumPy's global state seeds.
    """

    def build(**settings: Any) -> Callable[[Any], Any]:
        transform, rng = step(**settings), np.random.default_rng(np.random.randint(2**31))
        return lambda image: transform(image, rng)

    return build


def _task_pipeline(task: str) -> Callable[..., Any]:
    def build(model: Any = None, **options: Any) -> Any:
        return _vision_pipeline(task, model, **options)

    return build


def _register_names() -> None:
    """Every name of ours in MindFormerRegister; those that MindFormers has itself stay its own."""
    from mindformers.tools.register import MindFormerModuleType as Kind
    from mindformers.tools.register import MindFormerRegister

    def add(kind: str, name: str, item: Any) -> None:
        if not MindFormerRegister.is_exist(kind, name):
            MindFormerRegister.register_cls(item, kind, alias=name)

    for family in registry.families():
        processor = family.load_processor_class()
        add(Kind.CONFIG, family.config_class.__name__, family.config_class)
        add(Kind.MODELS, family.arch, family.load_model_class())
        for item in (processor, processor.image_processor_class()):
            add(Kind.PROCESSOR, item.__name__, item)
    for task in TASKS:
        add(Kind.TRAINER, task, VisionTask)
        add(Kind.PIPELINE, task, _task_pipeline(task))
    for name in registry.transforms.names():
        add(Kind.TRANSFORMS, name, _drawing(registry.transforms.get(name)))
    for name in registry.callbacks.names():
        add(Kind.CALLBACK, name, registry.callbacks.get(name))
    add(Kind.LOSS, "SoftTargetCrossEntropy", SoftTargetCrossEntropy)


def _list_names() -> None:
    """Every model name in MindFormerBook, which `show_support_list` and the like print."""
    from mindformers.mindformer_book import MindFormerBook as Book

    for family in registry.families():
        names = [*family.variants, *family.aliases]
        for kind in ("CONFIG", "MODEL", "PROCESSOR"):
            getattr(Book, f"_{kind}_SUPPORT_LIST")[family.name] = names
        found = recipes(family)
        yamls = {name: str(found[family.aliases.get(name, name)]) for name in names}
        for task in (family.task, family.task.replace("_", "-")):
            for listed in (Book._TRAINER_SUPPORT_TASKS_LIST, Book._PIPELINE_SUPPORT_TASK_LIST):
                listed.setdefault(task, OrderedDict()).update(yamls)


def _answer(owner: Any, name: str, ours: Callable[..., Any], asked: Callable[[Any], bool]) -> None:
    """Replace a function or class method by one that asks `ours` where its first argument is."""
    theirs = getattr(owner, name)
    first = next(iter(inspect.signature(theirs).parameters))

    @wraps(theirs)
    def answer(*args: Any, **kwargs: Any) -> Any:
        given = args[0] if args else kwargs.get(first)
        if not asked(given):
            return theirs(*args, **kwargs)
        kwargs.pop(first, None)
        return ours(given, *args[1:], **kwargs)

    setattr(owner, name, staticmethod(answer) if inspect.isclass(owner) else answer)


def _answer_trainer(theirs: Any) -> None:
    """`Trainer(...)` of MindFormers makes a VisionTrainer where task, yaml or model is ours."""
    signature = inspect.signature(theirs.__init__)

    def new(cls: type, *args: Any, **kwargs: Any) -> Any:
        given = signature.bind_partial(None, *args, **kwargs).arguments
        given.pop("self")
        asked = [given.get(key) for key in ("args", "model", "model_name")]
        if is_task(given.get("task")) or any(is_ours(thing) for thing in asked):
            return VisionTrainer(**given)
        return object.__new__(cls)

    theirs.__new__ = staticmethod(new)


def _install() -> None:
    _check_version()
    import mindformers
    from mindformers.tools.register.template import ConfigTemplate

    if any(is_task(task) for task in mindformers.MindFormerBook.get_trainer_support_task_list()):
        return
    _register_names()
    _list_names()
    _answer(mindformers.AutoConfig, "from_pretrained", AutoConfig.from_pretrained, is_ours)
    _answer(mindformers.AutoModel, "from_pretrained", AutoModel.from_pretrained, is_ours)
    _answer(mindformers.AutoModel, "from_config", AutoModel.from_config, is_ours)
    _answer(mindformers.AutoProcessor, "from_pretrained", AutoProcessor.from_pretrained, is_ours)
    _answer_trainer(mindformers.Trainer)
    # MindFormers' template knows no image_size and fills in its own defaults
    _answer(ConfigTemplate, "apply_template", lambda config: None, is_ours)
    builders = sys.modules["mindformers.pipeline.pipeline"]
    for name in ("get_ms_pipeline", "get_ms_experimental_pipeline"):
        _answer(builders, name, _vision_pipeline, is_task)


_install()
