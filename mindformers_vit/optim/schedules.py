"""Learning rates as pure functions of the step: nothing to save, nothing to resume.

Cosine with warm-up is the schedule of facebookresearch/mae (`util/lr_sched.py`), counted in steps:
https://github.com/facebookresearch/mae. Step 0 is the first update.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from mindformers_vit.errors import ConfigError


def scaled_lr(base_lr: float, effective_batch: int, factor: int = 256) -> float:
    """The linear scaling rule: `base_lr` is meant for a batch of `factor` images.

    `effective_batch` is images an update: batch size, ranks and accumulation multiplied.
    """
    if effective_batch < 1 or factor < 1:
        raise ConfigError(
            f"batch size and scaling factor must be at least 1, given {effective_batch}, {factor}"
        )
    return base_lr * effective_batch / factor


def _falling(
    share: Callable[[float], float],
    step: int,
    *,
    learning_rate: float,
    total_steps: int,
    warmup_steps: int = 0,
    warmup_lr_init: float = 0.0,
    lr_end: float = 0.0,
) -> float:
    """Linear from `warmup_lr_init` over `warmup_steps`, then down to `lr_end`.

    `share` is what is left of the way down after a part in [0, 1) of the steps. From `total_steps`
    on the rate stays at `lr_end`.
    """
    _check(total_steps, warmup_steps)
    if step < warmup_steps:
        return _warmup(step, learning_rate, warmup_steps, warmup_lr_init)
    if step >= total_steps:
        return lr_end
    done = (step - warmup_steps) / (total_steps - warmup_steps)
    return lr_end + (learning_rate - lr_end) * share(done)


def _half_cosine(angle: float) -> float:
    """From 1 at 0 down to 0 at pi."""
    return 0.5 * (1.0 + math.cos(angle))


cosine = partial(_falling, lambda done: _half_cosine(math.pi * done))
"""Linear from `warmup_lr_init` over `warmup_steps`, then half a cosine down to `lr_end`."""
linear = partial(_falling, lambda done: 1.0 - done)
"""Linear from `warmup_lr_init` over `warmup_steps`, then linear down to `lr_end`."""


def cosine_by_epoch(
    step: int,
    *,
    learning_rate: float,
    steps_per_epoch: int,
    epochs: int,
    warmup_epochs: float = 0.0,
    cooldown_epochs: int = 0,
    warmup_lr_init: float = 0.0,
    lr_end: float = 0.0,
) -> float:
    """timm's cosine: one rate an epoch, for the recipes that were made with it.

    Epoch e < `warmup_epochs` is on the line from `warmup_lr_init` to `learning_rate`; the cosine
    is counted from epoch 0, so it is joined where it already is; the last `cooldown_epochs` of the
    `epochs`, and all after, are at `lr_end`. (timm `scheduler/cosine_lr.py`, one cycle, no prefix.)
    """
    falling = epochs - cooldown_epochs
    _check(falling, warmup_epochs, "epochs")
    epoch = step // steps_per_epoch
    if epoch < warmup_epochs:
        return _warmup(epoch, learning_rate, warmup_epochs, warmup_lr_init)
    if epoch >= falling:
        return lr_end
    return lr_end + (learning_rate - lr_end) * _half_cosine(math.pi * epoch / falling)


def constant(
    step: int,
    *,
    learning_rate: float,
    warmup_steps: int = 0,
    warmup_lr_init: float = 0.0,
) -> float:
    """Linear from `warmup_lr_init` over `warmup_steps`, then `learning_rate` for ever."""
    if step < warmup_steps:
        return _warmup(step, learning_rate, warmup_steps, warmup_lr_init)
    return learning_rate


def _warmup(step: int, learning_rate: float, warmup_steps: float, warmup_lr_init: float) -> float:
    return warmup_lr_init + (learning_rate - warmup_lr_init) * step / warmup_steps


def _check(total_steps: int, warmup_steps: float, unit: str = "steps") -> None:
    if total_steps < 1 or not 0 <= warmup_steps <= total_steps:
        raise ConfigError(
            f"warm-up must lie within the run: {warmup_steps:g} warm-up "
            f"{unit}, {total_steps} {unit}"
        )
