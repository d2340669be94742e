"""`Trainer`: the command line's work from Python, with MindFormers' arguments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindformers_vit.config.loader import PACKAGE, find_config, load_yaml, set_dotted
from mindformers_vit.errors import ConfigError
from mindformers_vit.registry import ModelFamily, find_model


def recipes(family: ModelFamily) -> dict[str, Path]:
    """Public model name -> the first yaml under `configs/` whose `trainer.model_name` it is."""
    found: dict[str, Path] = {}
    for path in sorted((PACKAGE / "configs" / family.name).glob("*.yaml")):
        name = load_yaml(path).get("trainer", {}).get("model_name")
        if name is not None:
            found.setdefault(name, path)
    return found


def recipe_of(name: str) -> Path:
    """The yaml under `configs/` of a model name or alias."""
    family, canonical = find_model(name)
    found = recipes(family)
    if canonical not in found:
        raise ConfigError(f"model '{name}': no yaml under configs/{family.name} names it")
    return found[canonical]


class Trainer:
    """Train, fine-tune, evaluate, predict and export.

    Args:
        args: yaml path or a mapping with the same keys; without it the recipe of `model` is taken.
        task: "masked_image_modeling" or "image_classification"; "general" takes the recipe's.
        model: a model name, or a network instance.
        model_name: the recipe's name where `model` is an instance.
        train_dataset, eval_dataset: directories of images.
        save_config: kept for MindFormers' users; the configuration is always written.
    """

    def __init__(
        self,
        args: str | Path | Mapping[str, Any] | None = None,
        task: str = "general",
        model: Any = None,
        model_name: str | None = None,
        train_dataset: str | None = None,
        eval_dataset: str | None = None,
        image_processor: Any = None,
        callbacks: list[Any] | None = None,
        save_config: bool = False,
    ) -> None:
        name = model if isinstance(model, str) else model_name
        self._values = self._read(args, name)
        self._network = None if isinstance(model, str) else model
        self._processor, self._callbacks = image_processor, callbacks or []
        if task != "general":
            self._set("trainer.type", task.replace("-", "_"))
        if self._network is not None:
            settings = self._network.config.model_dump(mode="json", exclude_none=True)
            kind = type(self._network.config).__name__
            self._set("model.model_config", {"type": kind} | settings)
        if train_dataset is not None:
            self._set("train_dataset.data_loader.dataset_dir", str(train_dataset))
        if eval_dataset is not None:
            self._set("eval_dataset.data_loader.dataset_dir", str(eval_dataset))

    @staticmethod
    def _read(args: Any, name: str | None) -> dict[str, Any]:
        if args is None:
            if name is None:
                raise ConfigError("Trainer: give args (a yaml) or model (a model name)")
            return load_yaml(recipe_of(name))
        values = dict(args) if isinstance(args, Mapping) else load_yaml(find_config(args))
        named = (values.get("trainer") or {}).get("model_name")
        if name and named:
            family, canonical = find_model(name)
            if family.aliases.get(named, named) != canonical:
                raise ConfigError(f"Trainer: model '{name}' given, but args is of '{named}'")
        return values

    def _set(self, key: str, value: Any) -> None:
        self._values = set_dotted(self._values, key, value)

    def train(
        self,
        train_checkpoint: bool | str = False,
        resume_training: bool | str | None = None,
        do_eval: bool | None = None,
    ) -> None:
        """Train from scratch, or from `train_checkpoint` (True: the newest one written)."""
        self._train("train", train_checkpoint, resume_training, do_eval)

    def finetune(
        self,
        finetune_checkpoint: bool | str = False,
        resume_training: bool | str | None = None,
        do_eval: bool | None = None,
    ) -> None:
        """Train from the weights of `finetune_checkpoint`."""
        self._train("finetune", finetune_checkpoint, resume_training, do_eval)

    def _train(
        self, mode: str, checkpoint: bool | str, resume: bool | str | None, do_eval: bool | None
    ) -> None:
        self._run(mode, checkpoint, {"resume_training": resume, "do_eval": do_eval})

    def evaluate(self, eval_checkpoint: bool | str = False) -> dict[str, float]:
        """Metrics over the evaluation images, as fractions."""
        metrics: dict[str, float] = self._run("eval", eval_checkpoint)
        return metrics

    def predict(
        self,
        predict_checkpoint: bool | str | None = None,
        input_data: Any = None,
        batch_size: int | None = None,
        top_k: int | None = None,
    ) -> list[Any]:
        """Results for a path, URL, PIL image, array, or a list of them."""
        settings = {"predict.batch_size": batch_size, "predict.top_k": top_k}
        results: list[Any] = self._run("predict", predict_checkpoint or False, settings, input_data)
        return results

    def export(
        self,
        predict_checkpoint: bool | str | None = None,
        export_format: str | None = None,
        batch_size: int | str | None = None,
        opset: int | None = None,
    ) -> Path:
        """The classifier as a checked file for another runtime; see `docs/deploy.md`.

        Args:
            predict_checkpoint: weights, as in `predict`.
            export_format: "onnx", "mindir" or "air".
            batch_size: images of a run, or "dynamic".
            opset: of ONNX.
        """
        settings = {
            "export.export_format": export_format,
            "export.batch_size": batch_size,
            "export.opset": opset,
        }
        path: Path = self._run("export", predict_checkpoint or False, settings)
        return path

    def _run(
        self,
        mode: str,
        checkpoint: bool | str,
        settings: Mapping[str, Any] | None = None,
        inputs: Any = None,
    ) -> Any:
        """One run; `settings` (those that are not None) are for this one only."""
        from mindformers_vit.engine.plan import make_plan
        from mindformers_vit.engine.run import run

        values = set_dotted(self._values, "run_mode", mode)
        for key, value in (settings or {}).items():
            if value is not None:
                values = set_dotted(values, key, value)
        if checkpoint is True:
            output = values.get("output_dir", "./output")
            values = set_dotted(values, "load_checkpoint", str(Path(output) / "checkpoint"))
        elif checkpoint:
            values = set_dotted(values, "load_checkpoint", str(checkpoint))
        extra = {"network": self._network, "processor": self._processor}
        return run(make_plan(values), inputs=inputs, callbacks=self._callbacks, **extra)
