"""The optimiser that the configuration names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mindformers_vit.config.schema import OptimizerConfig
from mindformers_vit.optim.adamw import AdamW
from mindformers_vit.optim.groups import ParamRule
from mindformers_vit.optim.lars import Lars


def make_optimizer(
    settings: OptimizerConfig, params: Sequence[Any], rules: Sequence[ParamRule]
) -> AdamW | Lars:
    """Over these parameters, each updated by its rule."""
    if settings.type == "lars":
        return Lars(
            params,
            rules,
            momentum=settings.momentum if settings.momentum is not None else 0.9,
            trust_coefficient=settings.trust_coefficient or 0.001,
        )
    return AdamW(params, rules, betas=(settings.beta1, settings.beta2), eps=settings.eps)
