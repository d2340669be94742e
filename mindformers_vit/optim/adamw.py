"""AdamW with torch's arithmetic, for use inside a compiled train step.

Decoupled weight decay (Loshchilov and Hutter, https://arxiv.org/abs/1711.05101) and bias
correction as in `torch.optim.AdamW`:

    p <- p * (1 - lr * decay)
    p <- p - lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)

The second line is MindSpore's fused `ops.Adam` when it is given lr * sqrt(1 - b2^t) / (1 - b1^t)
as its rate, eps * sqrt(1 - b2^t) as its epsilon, and 0 for b1^t and b2^t. On CPU that kernel is
four times as fast as `ops.AdamWeightDecay`, which has no bias correction besides. The compiled
kernel takes both lines in one pass over the memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from mindformers_vit.errors import ConfigError
from mindformers_vit.kernels import cells
from mindformers_vit.optim.groups import ParamRule


class AdamW(nn.Cell):
    """AdamW over float32 parameters, each with its own rate scale and weight decay.

    Args:
        params: trainable parameters, in the order of the gradients.
        rules: one for each parameter, with its name; they become constants of the graph.
        betas: decay rates of the two moments.
        eps: added to the root of the second moment.

    The state is `optimizer.m.<name>` and `optimizer.v.<name>` (float32, the parameter's shape) and
    `optimizer.step` (int32, updates done). A step that is skipped does not count.
    """

    def __init__(
        self,
        params: Sequence[Parameter],
        rules: Sequence[ParamRule],
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(auto_prefix=False)
        _check(params, rules, betas, eps)
        self.params = ParameterTuple(params)
        self.m = zero_copies(params, "optimizer.m")
        self.v = zero_copies(params, "optimizer.v")
        self.step = Parameter(Tensor(0, ms.int32), name="optimizer.step", requires_grad=False)
        self.beta1, self.beta2 = betas
        self.eps = eps
        # log of what the kernel will use: the float32 nearest to beta
        self.log_beta1, self.log_beta2 = (math.log(float(np.float32(b))) for b in betas)
        # (lr_scale, weight_decay), each once; the update of a parameter names its group
        self.groups = tuple(sorted({(r.lr_scale, r.weight_decay) for r in rules}))
        self.group_of = tuple(self.groups.index((r.lr_scale, r.weight_decay)) for r in rules)
        self.decays = tuple(r.weight_decay != 0.0 for r in rules)
        self.adam = ops.Adam()
        self.kernel = cells.adamw()
        self.has_kernel = self.kernel is not None
        self.betas = Tensor(betas, ms.float32)
        self.lr_scales = Tensor([r.lr_scale for r in rules], ms.float32)
        self.lr_decays = Tensor([r.lr_scale * r.weight_decay for r in rules], ms.float32)

    def construct(self, grads: tuple[Tensor, ...], lr: Tensor) -> Tensor:
        """One update from float32 gradients; `lr` is a float32 scalar. Returns updates done."""
        step = self.step + 1
        ops.assign(self.step, step)
        t = step.astype(ms.float32)
        bias1 = -ops.expm1(t * self.log_beta1)  # 1 - b1^t, without cancellation
        bias2 = ops.sqrt(-ops.expm1(t * self.log_beta2))
        eps = bias2 * self.eps
        if self.has_kernel:
            rates = lr * self.lr_scales * bias2 / bias1  # (n,)
            kept = 1.0 - lr * self.lr_decays  # (n,)
            common = ops.cat((self.betas, eps.reshape(1)))  # (3,)
            self.kernel(*self.params, *self.m, *self.v, *grads, rates, kept, common)
        else:
            self._update_each(grads, lr, bias1, bias2, eps)
        return step

    def _update_each(self, grads, lr, bias1, bias2, eps):
        rates: tuple[Tensor, ...] = ()
        kept: tuple[Tensor, ...] = ()
        for scale, decay in self.groups:
            rates += (lr * scale * bias2 / bias1,)
            kept += (1.0 - lr * (scale * decay),)
        for i in range(len(self.params)):
            p, group = self.params[i], self.group_of[i]
            if self.decays[i]:
                ops.assign(p, p * kept[group])
            self.adam(
                p, self.m[i], self.v[i], 0.0, 0.0,
                rates[group], self.beta1, self.beta2, eps, grads[i],
            )  # fmt: skip

    def state(self) -> dict[str, Parameter]:
        """The optimiser's own parameters by name, as a checkpoint keeps them."""
        return {p.name: p for p in (self.step, *self.m, *self.v)}


def zero_copies(params: Iterable[Parameter], prefix: str) -> ParameterTuple:
    """A float32 state of zeros, `<prefix>.<name>`, for each parameter."""
    return ParameterTuple(
        [
            Parameter(
                Tensor(np.zeros(p.shape, np.float32)),
                name=f"{prefix}.{p.name}",
                requires_grad=False,
            )
            for p in params
        ]
    )


def _check(
    params: Sequence[Parameter],
    rules: Sequence[ParamRule],
    betas: tuple[float, float],
    eps: float,
) -> None:
    problems = [
        f"AdamW keeps float32 parameters; '{p.name}' is {p.dtype}"
        for p in params
        if p.dtype != ms.float32
    ]
    if [p.name for p in params] != [r.name for r in rules]:
        problems.append("the parameter rules do not name the parameters in their order")
    if not all(0.0 < b < 1.0 for b in betas):
        problems.append(f"betas must lie in (0, 1), given {betas}")
    if eps <= 0.0:
        problems.append(f"eps must be above 0, given {eps}")
    if problems:
        raise ConfigError(problems)
