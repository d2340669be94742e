"""AdamW, clipping, EMA and the skipped step, in one compiled function, beside torch."""

import mindspore as ms
import numpy as np
import pytest
import torch
from mindspore import Parameter, Tensor, nn

from mindformers_vit.checkpoint.assign import assign
from mindformers_vit.errors import ConfigError
from mindformers_vit.optim.adamw import AdamW
from mindformers_vit.optim.clip import clip, global_norm
from mindformers_vit.optim.ema import Ema
from mindformers_vit.optim.groups import ParamRule, parameter_rules

STEPS, WIDTH = 20, 16


class Mlp(nn.Cell):
    """Two layers with a mean square loss; its compiled step is what the engine's will be."""

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(0)

        def dense(rows: int, columns: int) -> nn.Dense:
            weight = rng.standard_normal((rows, columns)).astype(np.float32) * 0.3
            bias = rng.standard_normal(rows).astype(np.float32) * 0.1
            return nn.Dense(columns, rows, weight_init=Tensor(weight), bias_init=Tensor(bias))

        self.fc1, self.fc2 = dense(32, WIDTH), dense(4, 32)

    def construct(self, x: Tensor, y: Tensor) -> Tensor:
        diff = self.fc2(ms.ops.relu(self.fc1(x))) - y
        return (diff * diff).mean()


class Run:
    """A compiled train step and everything it changes."""

    def __init__(self, *, max_norm=None, betas=(0.9, 0.999), guarded=True, ema_decay=0.9) -> None:
        net = Mlp()
        params = net.trainable_params()
        shapes = {p.name: p.shape for p in params}
        self.params = params
        self.rules = parameter_rules(
            shapes,
            weight_decay=0.05,
            layer_decay=0.65,
            layer_id=lambda name: 0 if name.startswith("fc1") else 2,
            num_layers=1,
        )
        self.optimizer = AdamW(params, self.rules, betas=betas)
        self.ema = Ema(params, ema_decay)
        optimizer, ema = self.optimizer, self.ema
        value_and_grad = ms.value_and_grad(net, None, ms.ParameterTuple(params))

        @ms.jit
        def step(x, y, lr):
            loss, grads = value_and_grad(x, y)
            norm = global_norm(grads)
            if max_norm is not None:
                grads = clip(grads, norm, max_norm)
            finite = ms.ops.isfinite(norm)
            if not guarded or finite:
                optimizer(grads, lr)
                ema()
            return loss, norm, finite

        self._step = step

    def step(self, x, y, lr):
        out = self._step(Tensor(x), Tensor(y), Tensor(lr, ms.float32))
        return tuple(value.asnumpy() for value in out)

    def state(self) -> dict[str, np.ndarray]:
        own = {p.name: p for p in self.params}
        every = {**own, **self.optimizer.state(), **self.ema.state()}
        return {name: p.asnumpy().copy() for name, p in every.items()}


def batches():
    rng = np.random.default_rng(1)
    for i in range(STEPS):
        x = rng.standard_normal((8, WIDTH)).astype(np.float32)
        y = rng.standard_normal((8, 4)).astype(np.float32)
        yield x, y, 1e-2 * min(i, 5) / 5  # the first rate is 0, as in a warm-up


def torch_run(run: Run, *, max_norm=None, betas=(0.9, 0.999)):
    """The same training in torch; returns losses, norms, final parameters, EMA (decay 0.9)."""
    params = {p.name: torch.tensor(run.state()[p.name], requires_grad=True) for p in run.params}
    groups = [
        {"params": [params[r.name]], "lr_scale": r.lr_scale, "weight_decay": r.weight_decay}
        for r in run.rules
    ]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=betas)
    ema = {name: p.detach().clone() for name, p in params.items()}
    losses, norms = [], []
    for x, y, lr in batches():
        hidden = torch.relu(torch.tensor(x) @ params["fc1.weight"].T + params["fc1.bias"])
        out = hidden @ params["fc2.weight"].T + params["fc2.bias"]
        loss = ((out - torch.tensor(y)) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        limit = max_norm if max_norm is not None else float("inf")
        norms.append(float(torch.nn.utils.clip_grad_norm_(params.values(), limit)))
        for group in optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        optimizer.step()
        with torch.no_grad():
            for name, p in params.items():
                ema[name].mul_(0.9).add_(p, alpha=0.1)
        losses.append(float(loss.detach()))
    return losses, norms, {n: p.detach().numpy() for n, p in params.items()}, ema, optimizer


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.9, 0.95)])
@pytest.mark.parametrize("max_norm", [None, 4.0])
def test_training_equals_torch(max_norm, betas):
    run = Run(max_norm=max_norm, betas=betas)
    losses, norms, params, ema, torch_adamw = torch_run(run, max_norm=max_norm, betas=betas)
    ours = [run.step(*batch) for batch in batches()]
    np.testing.assert_allclose([o[0] for o in ours], losses, rtol=0, atol=1e-6)
    np.testing.assert_allclose([o[1] for o in ours], norms, rtol=1e-6)
    assert max(norms) > 4.0 > min(norms)  # where it clips, it clips some steps
    state = run.state()
    for name, value in params.items():
        np.testing.assert_allclose(state[name], value, rtol=0, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(state[f"ema.{name}"], ema[name], rtol=0, atol=1e-6)
    for group in torch_adamw.param_groups:
        name = next(n for n, p in params.items() if group["params"][0].shape == p.shape)
        moments = torch_adamw.state[group["params"][0]]
        np.testing.assert_allclose(state[f"optimizer.m.{name}"], moments["exp_avg"], atol=1e-6)
        np.testing.assert_allclose(state[f"optimizer.v.{name}"], moments["exp_avg_sq"], atol=1e-6)
    assert state["optimizer.step"] == STEPS


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_a_step_with_gradients_that_are_not_finite_changes_nothing(bad):
    run = Run(max_norm=1.0)
    data = list(batches())
    for batch in data[:3]:
        run.step(*batch)
    before = run.state()
    x, y, lr = data[3]
    poisoned = y.copy()
    poisoned[0, 0] = bad
    _, _, finite = run.step(x, poisoned, lr)
    assert not finite
    after = run.state()
    assert before.keys() == after.keys()
    for name in before:
        assert before[name].tobytes() == after[name].tobytes(), name
    assert after["optimizer.step"] == 3


def test_training_goes_on_after_a_skipped_step_as_if_it_had_not_been():
    clean, hit = Run(), Run()
    for i, (x, y, lr) in enumerate(batches()):
        clean.step(x, y, lr)
        if i == 7:
            hit.step(x, np.full_like(y, np.nan), lr)
        hit.step(x, y, lr)
    for name, value in clean.state().items():
        assert value.tobytes() == hit.state()[name].tobytes(), name


def test_the_guard_itself_moves_no_bit():
    guarded, plain = Run(guarded=True), Run(guarded=False)
    for batch in batches():
        guarded.step(*batch)
        plain.step(*batch)
    for name, value in guarded.state().items():
        assert value.tobytes() == plain.state()[name].tobytes(), name


def test_state_names_and_restart_from_them():
    run, again = Run(), Run()
    data = list(batches())
    for batch in data[:10]:
        run.step(*batch)
    names = {p.name for p in run.params}
    assert set(run.optimizer.state()) == (
        {f"optimizer.{k}.{n}" for k in "mv" for n in names} | {"optimizer.step"}
    )
    assert set(run.ema.state()) == {f"ema.{n}" for n in names}
    saved = run.state()
    every = {p.name: p for p in again.params} | again.optimizer.state() | again.ema.state()
    again.step(*data[0])  # compiled before the values are put in
    assign(every, saved)
    for batch in data[10:]:
        run.step(*batch)
        again.step(*batch)
    for name, value in run.state().items():
        assert value.tobytes() == again.state()[name].tobytes(), name


def test_clip_leaves_small_gradients_alone():
    grads = (Tensor([[3.0, 0.0]], ms.float32), Tensor([4.0], ms.float32))
    norm = global_norm(grads)
    assert norm.asnumpy() == 5.0
    for grad, clipped in zip(grads, clip(grads, norm, 6.0), strict=True):
        assert (grad.asnumpy() == clipped.asnumpy()).all()
    halved = clip(grads, norm, 2.5)
    np.testing.assert_allclose(halved[1].asnumpy(), [2.0], rtol=1e-6)


def test_global_norm_takes_every_shape():
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in [(), (5,), (2, 3), (4, 3, 2, 2)]]
    norm = float(global_norm(tuple(Tensor(a) for a in arrays)).asnumpy())
    wide = np.sqrt(sum((a.astype(np.float64) ** 2).sum() for a in arrays))
    assert norm == pytest.approx(wide, rel=1e-6)


def test_global_norm_does_not_lose_digits_in_a_large_tensor():
    """Here torch's own norm is 4e-5 off (float32, one after the other)."""
    grad = np.random.default_rng(0).standard_normal((3072, 768)).astype(np.float32)
    norm = float(global_norm((Tensor(grad),)).asnumpy())
    assert norm == pytest.approx(np.sqrt((grad.astype(np.float64) ** 2).sum()), rel=1e-6)


def rule(name="w"):
    return ParamRule(name, 1.0, 0.0)


def test_wrong_arguments_are_refused():
    weight = Parameter(Tensor([1.0], ms.float32), name="w")
    half = Parameter(Tensor([1.0], ms.float16), name="w")
    with pytest.raises(ConfigError, match="keeps float32 parameters; 'w' is Float16"):
        AdamW([half], [rule()])
    with pytest.raises(ConfigError, match="do not name the parameters in their order"):
        AdamW([weight], [rule("other")])
    with pytest.raises(ConfigError, match=r"betas must lie in \(0, 1\)"):
        AdamW([weight], [rule()], betas=(0.9, 1.0))
    with pytest.raises(ConfigError, match="eps must be above 0"):
        AdamW([weight], [rule()], eps=0.0)
    with pytest.raises(ConfigError, match="ema decay"):
        Ema([weight], 1.0)
