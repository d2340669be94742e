"""The mean of gradients over the ranks, inside a compiled train step."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

_BUCKET = 2**20  # elements that travel together: larger sums are slower by the byte on CPU


class GradientMean(nn.Cell):
    """(grads) -> their means over `size` ranks.

    On Ascend each tensor is reduced on its own as soon as it is known, and MindSpore fuses them.
    On CPU a reduction costs half a millisecond whatever its size, so they are joined to buckets.

    Args:
        shapes: of the gradients, in order.
        joined: whether to join them.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]], size: int, *, joined: bool) -> None:
        super().__init__(auto_prefix=False)
        self.size = size
        self.all_reduce = ops.AllReduce()
        if not joined:
            self.all_reduce.add_prim_attr("fusion", 1)
        self.shapes = tuple(shapes)
        self.buckets = _buckets([math.prod(shape) for shape in shapes], _BUCKET if joined else 1)

    def construct(self, grads: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        means = ()
        for first, last in self.buckets:
            if last - first == 1:
                means += (self.all_reduce(grads[first]) / self.size,)
            else:
                flat = ()
                for i in range(first, last):
                    flat += (grads[i].reshape(-1),)
                mean = self.all_reduce(ops.concat(flat)) / self.size
                start = 0
                for i in range(first, last):
                    end = start + grads[i].size
                    means += (mean[start:end].reshape(self.shapes[i]),)
                    start = end
        return means


class StatisticsMean(nn.Cell):
    """Sets batch norm's moving statistics, which follow the batches of a rank, to their means."""

    def __init__(self, statistics: Sequence[Parameter], mean: GradientMean) -> None:
        super().__init__(auto_prefix=False)
        self.statistics = ParameterTuple(statistics)
        self.mean = mean

    def construct(self) -> bool:
        values = ()
        for statistic in self.statistics:
            values += (statistic.value(),)
        means = self.mean(values)
        for i in range(len(self.statistics)):
            ops.assign(self.statistics[i], means[i])
        return True


def _buckets(sizes: Sequence[int], limit: int) -> tuple[tuple[int, int], ...]:
    """(first, after the last) of neighbours with at most `limit` elements; one may have more."""
    found = []
    first = total = 0
    for place, size in enumerate(sizes):
        if place > first and total + size > limit:
            found.append((first, place))
            first, total = place, 0
        total += size
    return (*found, (first, len(sizes)))
