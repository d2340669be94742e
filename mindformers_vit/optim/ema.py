"""Exponential moving average of parameters, updated inside a compiled train step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from mindformers_vit.errors import ConfigError


class Ema(nn.Cell):
    """Copies `ema.<name>` that follow the parameters: ema <- decay * ema + (1 - decay) * p.

    As timm's ModelEmaV2 (https://github.com/huggingface/pytorch-image-models): the decay is
    constant and the copies start as the parameters are. Give it batch norm's moving statistics,
    too. A resumed run loads the copies by name.

    Args:
        params: floating-point parameters to follow.
        decay: in (0, 1), for example 0.9999.
    """

    def __init__(self, params: Sequence[Parameter], decay: float) -> None:
        super().__init__(auto_prefix=False)
        if not 0.0 < decay < 1.0:
            raise ConfigError(f"ema decay must lie in (0, 1), given {decay}")
        self.decay = decay
        self.params = ParameterTuple(params)
        self.copies = ParameterTuple(
            [Parameter(_copy(p), name=f"ema.{p.name}", requires_grad=False) for p in params]
        )

    def construct(self) -> bool:
        """Move every copy towards its parameter, once."""
        for i in range(len(self.params)):
            copy = self.copies[i]
            ops.assign(copy, copy * self.decay + self.params[i] * (1.0 - self.decay))
        return True

    @contextlib.contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Within the block the parameters hold the averages; afterwards what they held before."""
        held = [_copy(p) for p in self.params]
        for param, copy in zip(self.params, self.copies, strict=True):
            ops.assign(param, copy.value())
        try:
            yield
        finally:
            for param, value in zip(self.params, held, strict=True):
                ops.assign(param, value)

    def state(self) -> dict[str, Parameter]:
        """The copies by name ("ema.<name>"), as a checkpoint keeps them."""
        return {p.name: p for p in self.copies}


def _copy(param: Parameter) -> Tensor:
    return Tensor(np.array(param.asnumpy()))
