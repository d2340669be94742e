"""The loss scale of float16 training: fixed, or halved at an overflow and doubled after a while."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mindformers_vit.config.schema import ScaleSense


class LossScale:
    """A power-of-two factor on the loss that keeps small gradients above float16's smallest."""

    def __init__(self, settings: ScaleSense) -> None:
        self._dynamic = settings.type == "DynamicLossScaleUpdateCell"
        self._factor, self._window = settings.scale_factor, settings.scale_window
        self.value = settings.loss_scale_value
        self._good_steps = 0

    def update(self, finite: bool) -> None:
        """After each step: was it taken?"""
        if not self._dynamic:
            return
        if not finite:
            self.value, self._good_steps = max(1.0, self.value / self._factor), 0
            return
        self._good_steps += 1
        if self._good_steps == self._window:
            self.value, self._good_steps = self.value * self._factor, 0

    def state(self) -> dict[str, Any]:
        return {"value": self.value, "good_steps": self._good_steps}

    def load(self, state: Mapping[str, Any]) -> None:
        self.value, self._good_steps = float(state["value"]), int(state["good_steps"])
