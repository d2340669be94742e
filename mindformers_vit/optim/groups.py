"""Which learning-rate scale and which weight decay each parameter gets.

Layer-wise decay as in MAE and BEiT fine-tuning (`util/lr_decay.py` of facebookresearch/mae): the
parameters of layer `id` learn at `decay ** (last - id)` of the rate, where the last layer is the
head. Weight decay is left out for 1-D parameters, biases, and the names a model gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from mindformers_vit.errors import ConfigError
from mindformers_vit.registry import nearest


@dataclass(frozen=True)
class ParamRule:
    """How one parameter is updated."""

    name: str
    lr_scale: float  # its learning rate is lr * lr_scale
    weight_decay: float


def parameter_rules(
    shapes: Mapping[str, tuple[int, ...]],
    *,
    weight_decay: float = 0.0,
    no_weight_decay: Iterable[str] = (),
    layer_decay: float = 1.0,
    layer_id: Callable[[str], int] | None = None,
    num_layers: int | None = None,
) -> list[ParamRule]:
    """One rule for each trainable parameter, in the order of `shapes`.

    Args:
        shapes: name -> shape of the trainable parameters.
        weight_decay: of every parameter that is not left out.
        no_weight_decay: names left out besides 1-D parameters and biases; each must exist.
        layer_decay: 1 is off; otherwise `layer_id` and `num_layers` are needed.
        layer_id: name -> 0 for the embeddings, i + 1 for block i, num_layers + 1 for the rest.
        num_layers: blocks of the network.

    Raises:
        ConfigError: for a name that is no parameter, or a layer out of 0 .. num_layers + 1.
    """
    excluded = set(no_weight_decay)
    _check(shapes, excluded, layer_decay, layer_id, num_layers)
    rules = []
    for name, shape in shapes.items():
        free = len(shape) <= 1 or name.endswith(".bias") or name in excluded
        scale = 1.0
        if layer_decay != 1.0 and layer_id is not None and num_layers is not None:
            scale = _layer_scale(name, layer_id(name), layer_decay, num_layers)
        rules.append(ParamRule(name, scale, 0.0 if free else weight_decay))
    return rules


def _layer_scale(name: str, layer: int, layer_decay: float, num_layers: int) -> float:
    last = num_layers + 1
    if not 0 <= layer <= last:
        raise ConfigError(f"parameter '{name}' is put in layer {layer}; there are 0 to {last}")
    return float(layer_decay ** (last - layer))


def _check(
    shapes: Mapping[str, tuple[int, ...]],
    excluded: set[str],
    layer_decay: float,
    layer_id: Callable[[str], int] | None,
    num_layers: int | None,
) -> None:
    problems = [
        f"no_weight_decay: '{name}' is no trainable parameter{nearest(name, shapes)}"
        for name in sorted(excluded - set(shapes))
    ]
    if not 0.0 < layer_decay <= 1.0:
        problems.append(f"layer_decay must be in (0, 1], given {layer_decay}")
    if layer_decay != 1.0 and (layer_id is None or num_layers is None):
        problems.append(f"layer_decay {layer_decay} needs the layers of the network")
    if problems:
        raise ConfigError(problems)
