"""Networks on the compiled operators, one after another in one process."""

import mindspore as ms
import numpy as np
from mindspore import nn

from mindformers_vit import compat
from mindformers_vit.engine.train_step import TrainStep
from mindformers_vit.kernels import library
from mindformers_vit.models.layers.batch_norm import BatchNorm
from mindformers_vit.models.layers.gelu import Gelu
from mindformers_vit.models.layers.linear import Linear
from mindformers_vit.models.layers.norm import LayerNorm
from mindformers_vit.optim.adamw import AdamW
from mindformers_vit.optim.groups import parameter_rules

X = np.random.default_rng(0).standard_normal((12, 8)).astype(np.float32)


class Small(nn.Cell):
    """Statistics that move in the forward pass, among layers that have a compiled operator."""

    inputs = ("image",)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.bn, self.act = Linear(8, 6), BatchNorm(6), Gelu()
        self.norm, self.last = LayerNorm(6, eps=1e-6), Linear(6, 4)
        rng = np.random.default_rng(1)
        for param in self.trainable_params():
            param.set_data(ms.Tensor(rng.standard_normal(param.shape).astype(np.float32)))

    def construct(self, x):
        return (self.last(self.norm(self.act(self.bn(self.first(x))))) ** 2).mean()


def trained() -> dict[str, np.ndarray]:
    network = Small()
    params = network.trainable_params()
    rules = parameter_rules({p.name: tuple(p.shape) for p in params}, weight_decay=0.1)
    step = TrainStep(network, AdamW(params, rules))
    for _ in range(2):
        step([{"image": X}], 0.01)
    return step.tensors()


def test_every_network_of_a_process_compiles_and_has_the_same_bits():
    """A `None` in a differentiated graph made MindSpore compile the rest of the second network's
    graph while it ran, where operators of Python are lost ("The prim is not a PrimitivePy").
    """
    compat.set_device("CPU")
    assert library.path() is not None
    first = trained()
    assert np.abs(first["bn.moving_mean"]).max() > 0.01
    for _ in range(3):
        again = trained()
        assert {k: v.tobytes() for k, v in again.items()} == {
            k: v.tobytes() for k, v in first.items()
        }
