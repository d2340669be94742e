"""LARS (You et al. 2017, arXiv 1708.03888) as MAE's linear probing uses it.

As `util/lars.py` of https://github.com/facebookresearch/mae: momentum on the scaled gradient, and
parameters of one axis are plain momentum SGD, with neither decay nor trust ratio.
"""

from __future__ import annotations

from collections.abc import Sequence

from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from mindformers_vit.errors import ConfigError
from mindformers_vit.optim.adamw import zero_copies
from mindformers_vit.optim.groups import ParamRule


class Lars(nn.Cell):
    """For each parameter w of two axes or more, with gradient g, decay d and trust coefficient c:

        u = g + d·w,  m <- momentum·m + c·|w|/|u|·u,  w <- w - lr·m

    where the ratio is 1 if a norm is 0; for one of one axis u = g and the ratio is 1.

    Args:
        params: trainable parameters, in the order of the gradients.
        rules: one for each parameter, with its name; they become constants of the graph.
        momentum: in [0, 1).
        trust_coefficient: c, above 0.

    The state is `optimizer.m.<name>` (float32, the parameter's shape).
    """

    def __init__(
        self,
        params: Sequence[Parameter],
        rules: Sequence[ParamRule],
        *,
        momentum: float = 0.9,
        trust_coefficient: float = 0.001,
    ) -> None:
        super().__init__(auto_prefix=False)
        if [p.name for p in params] != [r.name for r in rules]:
            raise ConfigError("the parameter rules do not name the parameters in their order")
        self.params = ParameterTuple(params)
        self.m = zero_copies(params, "optimizer.m")
        self.momentum, self.trust_coefficient = momentum, trust_coefficient
        self.scales = tuple(r.lr_scale for r in rules)
        self.decays = tuple(r.weight_decay for r in rules)
        self.trusted = tuple(p.ndim > 1 for p in params)

    def construct(self, grads: tuple[Tensor, ...], lr: Tensor) -> Tensor:
        """One update from float32 gradients; `lr` is a float32 scalar, and returned."""
        for i in range(len(self.params)):
            p, update = self.params[i], grads[i]
            if self.trusted[i]:
                update = update + p * self.decays[i]
                update = update * self.trust_ratio(p, update)
            moved = self.m[i] * self.momentum + update
            ops.assign(self.m[i], moved)
            ops.assign(p, p - moved * (lr * self.scales[i]))
        return lr

    def trust_ratio(self, p: Tensor, update: Tensor) -> Tensor:
        """float32 scalar."""
        weight, size = ops.sqrt(ops.square(p).sum()), ops.sqrt(ops.square(update).sum())
        known = ops.logical_and(weight > 0, size > 0)
        ratio = self.trust_coefficient * weight / ops.where(known, size, ops.ones_like(size))
        return ops.where(known, ratio, ops.ones_like(ratio))

    def state(self) -> dict[str, Parameter]:
        """The optimiser's own parameters by name, as a checkpoint keeps them."""
        return {p.name: p for p in self.m}
