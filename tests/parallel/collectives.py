"""Run by test_collectives.py as each of two ranks: the collectives as such."""

import json
import sys

import numpy as np

from mindformers_vit import compat
from mindformers_vit.engine import parallel


def main() -> None:
    from mindspore import Parameter, Tensor

    from mindformers_vit.engine.gradient_mean import GradientMean, StatisticsMean

    world = parallel.World(int(sys.argv[1]), 2)
    compat.set_device("CPU")
    parallel.join(world)
    exact = np.array([1 / 3, np.nan, -0.0, 1e300, 5e-324]) * (world.rank + 1)
    told = parallel.gather(world, exact)
    odd = parallel.gather(world, np.array([7 + world.rank], np.uint8))
    rng = np.random.default_rng(world.rank)
    shapes = [(3, 5), (7,), (1, 2, 2), (2**20 + 1,), (4,)]
    grads = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    means = {}
    for joined in (True, False):
        mean = compat.jit(GradientMean(shapes, 2, joined=joined))
        means[joined] = [m.asnumpy() for m in mean(tuple(Tensor(g) for g in grads))]
    other = np.random.default_rng(1 - world.rank)
    wanted = [
        (g + other.standard_normal(s).astype(np.float32)) / 2
        for g, s in zip(grads, shapes, strict=True)
    ]
    statistic = Parameter(Tensor(np.full((3,), 1.0 + 2 * world.rank, np.float32)), name="s")
    StatisticsMean([statistic], GradientMean([(3,)], 2, joined=True))()
    found = {
        "gather": all(t.tobytes() == (exact / (world.rank + 1) * (r + 1)).tobytes()
                      for r, t in enumerate(told)),
        "odd": [int(o[0]) for o in odd],
        "joined": all(np.array_equal(m, w) for m, w in zip(means[True], wanted, strict=True)),
        "single": all(np.array_equal(m, w) for m, w in zip(means[False], wanted, strict=True)),
        "statistic": statistic.asnumpy().tolist(),
        "same": parallel.different_ranks(world, {"a": np.zeros(3)}, 3),
        "different": parallel.different_ranks(world, {"a": grads[0]}, 3),
    }  # fmt: skip
    print("FOUND " + json.dumps(found), flush=True)
    compat.note_end(0)


if __name__ == "__main__":
    main()
