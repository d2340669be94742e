"""The one thin base of every network: settings, initial weights, loading and saving."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mindspore import Parameter, nn

from mindformers_vit.checkpoint.assign import assign, to_arrays
from mindformers_vit.models.layers import parameters
from mindformers_vit.models.layers.parameters import ParamSpecs
from mindformers_vit.models.loading import Array, LoadingRules
from mindformers_vit.models.vision_config import VisionConfig
from mindformers_vit.registry import ModelFamily


class PreTrainedModel(nn.Cell):
    """A network made from one config object.

    A subclass names its `family` and describes its parameters and its loading as data. After
    construction it holds the initial weights of `seed`.

    Attributes:
        config: its settings.
        num_features: width of `forward_features`.
        num_layers: number of blocks, for layer-wise learning-rate decay.
        training_cell: the family's own Cell from a batch to the loss; None: its task's.
    """

    family: ModelFamily
    num_features: int
    num_layers: int
    training_cell: Callable[..., nn.Cell] | None = None  # see engine.train_step.training_forward

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config

    @staticmethod
    def parameter_specs(config: Any) -> ParamSpecs:
        """name -> shape and initial value of every parameter that this config gives."""
        raise NotImplementedError

    @staticmethod
    def loading_rules(config: Any, loaded: Mapping[str, Array], *, new_parts: bool) -> LoadingRules:
        """What a file with these tensors need not fit in; CheckpointError if it will not do."""
        raise NotImplementedError

    def no_weight_decay(self) -> set[str]:
        """Names that weight decay spares, besides the parameters of one axis."""
        return set()

    def moving_statistics(self) -> list[Parameter]:
        """What training changes without a gradient: batch norm's statistics."""
        leaves = (".moving_mean", ".moving_variance")
        return [p for p in self.get_parameters() if p.name.endswith(leaves)]

    def layer_id(self, name: str) -> int:
        """0 before the blocks, i + 1 in block i, `num_layers` + 1 after them."""
        return parameters.layer_id(name, self.num_layers)

    def init_weights(self, seed: int) -> None:
        """Set every parameter to its initial value, a function of (seed, parameter name), and
        freeze what the specs say training does not change.
        """
        specs = self.parameter_specs(self.config)
        named = dict(self.parameters_and_names())
        found = {name: tuple(param.shape) for name, param in named.items()}
        assert parameters.shapes_of(specs) == found, "parameter_specs and network differ"
        for name, spec in specs.items():
            named[name].requires_grad = spec.trainable
            assign({name: named[name]}, {name: parameters.initial_value(name, spec, seed)})

    def state_arrays(self) -> dict[str, Array]:
        """A copy of every parameter: name -> array."""
        return to_arrays(dict(self.parameters_and_names()))

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Copy arrays into the parameters of their names; what is not given stays."""
        assign(dict(self.parameters_and_names()), arrays)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        download_checkpoint: bool = True,
        new_parts: bool = False,
        **overrides: Any,
    ) -> PreTrainedModel:
        """The network behind a name, a directory or a file; see `models.model_io.load_model`."""
        from mindformers_vit.models.model_io import load_model

        return load_model(
            name_or_path,
            family=cls.family,
            download_checkpoint=download_checkpoint,
            new_parts=new_parts,
            overrides=overrides,
        )

    def save_pretrained(
        self,
        save_directory: str | Path = "./checkpoint_save",
        save_name: str = "mindspore_model",
        *,
        processor: Any = None,
        save_format: str = "ckpt",
    ) -> Path:
        """Write settings and weights; see `models.model_io.save_model`."""
        from mindformers_vit.models.model_io import save_model

        return save_model(
            self, save_directory, save_name, processor=processor, save_format=save_format
        )
