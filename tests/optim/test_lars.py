"""LARS against its definition in numpy, in one compiled function."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor

from mindformers_vit.config.schema import OptimizerConfig
from mindformers_vit.errors import ConfigError
from mindformers_vit.optim.adamw import AdamW
from mindformers_vit.optim.choose import make_optimizer
from mindformers_vit.optim.groups import ParamRule, parameter_rules
from mindformers_vit.optim.lars import Lars

SHAPES = {"head.weight": (5, 7), "head.bias": (5,), "zero.weight": (3, 4)}
STEPS, LR, DECAY, SCALE = 6, 3.2, 0.1, 0.65


def parameters():
    rng = np.random.default_rng(0)
    values = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    values["zero.weight"][:] = 0  # a norm of 0: no trust ratio
    return [Parameter(Tensor(value), name=name) for name, value in values.items()]


def gradients(step):
    rng = np.random.default_rng(100 + step)
    found = [rng.normal(size=shape).astype(np.float32) for shape in SHAPES.values()]
    if step == 0:
        found[2][:] = 0  # both norms are 0
    return found


def reference(values, rules):
    """facebookresearch/mae's formula, in float64."""
    values = [v.astype(np.float64) for v in values]
    momenta = [np.zeros_like(v) for v in values]
    for step in range(STEPS):
        for i, (gradient, rule) in enumerate(zip(gradients(step), rules, strict=True)):
            update = gradient.astype(np.float64)
            if update.ndim > 1:
                update = update + rule.weight_decay * values[i]
                weight, size = np.linalg.norm(values[i]), np.linalg.norm(update)
                update *= 0.001 * weight / size if weight > 0 and size > 0 else 1.0
            momenta[i] = 0.9 * momenta[i] + update
            values[i] = values[i] - LR * rule.lr_scale * momenta[i]
    return values, momenta


def test_lars_is_its_definition():
    params = parameters()
    start = [p.asnumpy().copy() for p in params]
    rules = parameter_rules(SHAPES, weight_decay=DECAY)
    rules[0] = ParamRule("head.weight", SCALE, DECAY)
    assert [r.weight_decay for r in rules] == [DECAY, 0.0, DECAY]
    optimizer = Lars(params, rules)

    @ms.jit
    def step(grads, lr):
        return optimizer(grads, lr)

    for number in range(STEPS):
        step(tuple(map(Tensor, gradients(number))), Tensor(LR, ms.float32))
    values, momenta = reference(start, rules)
    for param, moment, value, expected in zip(params, optimizer.m, values, momenta, strict=True):
        np.testing.assert_allclose(param.asnumpy(), value, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(moment.asnumpy(), expected, rtol=1e-5, atol=1e-6)
    assert sorted(optimizer.state()) == [f"optimizer.m.{name}" for name in sorted(SHAPES)]
    assert np.abs(params[2].asnumpy()).max() > 0.1


def test_rules_must_be_of_the_parameters():
    with pytest.raises(ConfigError, match="do not name the parameters in their order"):
        Lars(parameters(), parameter_rules({"head.weight": (5, 7)}))


def test_the_configuration_chooses():
    rules = parameter_rules(SHAPES, weight_decay=0.0)
    settings = OptimizerConfig(type="lars", momentum=0.0, trust_coefficient=0.01)
    chosen = make_optimizer(settings, parameters(), rules)
    assert isinstance(chosen, Lars)
    assert (chosen.momentum, chosen.trust_coefficient) == (0.0, 0.01)
    chosen = make_optimizer(OptimizerConfig(type="lars"), parameters(), rules)
    assert (chosen.momentum, chosen.trust_coefficient) == (0.9, 0.001)
    assert isinstance(make_optimizer(OptimizerConfig(), parameters(), rules), AdamW)
