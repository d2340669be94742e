"""One update of the weights, compiled: forward, gradients, clipping, overflow check, AdamW, EMA.

With accumulation the forward and backward pass of a batch is one compiled function that adds to
sums kept on the device, and the update a second one; so neither is compiled twice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from mindformers_vit import compat
from mindformers_vit.checkpoint.assign import assign, to_arrays
from mindformers_vit.checkpoint.merge import merge
from mindformers_vit.engine.loss_scale import LossScale
from mindformers_vit.errors import TrainingError
from mindformers_vit.kernels import cells, library
from mindformers_vit.losses import soft_target_cross_entropy
from mindformers_vit.models.shared_graphs import shared_graphs
from mindformers_vit.optim.adamw import AdamW, zero_copies
from mindformers_vit.optim.clip import clip, global_norm
from mindformers_vit.optim.ema import Ema
from mindformers_vit.optim.lars import Lars

logger = logging.getLogger(__name__)


class PretrainForward(nn.Cell):
    """Images (B, C, H, W) and noise (B, L) to the reconstruction loss."""

    inputs = ("image", "noise")

    def __init__(self, network: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, image: Tensor, noise: Tensor) -> Tensor:
        loss, _, _ = self.network(image, noise)
        return loss


class ClassifyForward(nn.Cell):
    """Images (B, C, H, W), soft targets (B, classes), drop-path noise, to the cross entropy."""

    def __init__(self, network: nn.Cell, *, drop_path: bool) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.inputs = ("image", "target", "drop_noise") if drop_path else ("image", "target")

    def construct(self, image: Tensor, target: Tensor, drop_noise: Any = None) -> Tensor:
        return soft_target_cross_entropy(self.network(image, drop_noise), target)


def training_forward(network: Any, *, drop_path: bool) -> nn.Cell:
    """The Cell from a batch to the loss.

    A family with losses of its own names the class as its network's `training_cell`: called with
    the network and `drop_path`, it gives a Cell as `TrainStep` takes it.
    """
    if network.training_cell is not None:
        return network.training_cell(network, drop_path=drop_path)
    if network.family.task == "masked_image_modeling":
        return PretrainForward(network)
    return ClassifyForward(network, drop_path=drop_path)


class TrainStep:
    """Call it with the batches of a step and the learning rate.

    Args:
        forward: Cell with `inputs` (batch keys) and `construct(*inputs) -> loss`.
        optimizer: over the trainable parameters of `forward`.
        accumulation: batches of a step; the gradients are their mean.
        max_grad_norm: clip the gradients to this global norm; None: do not.
        ema: average to move after each update.
        loss_scale: where the matmuls are float16; None: no scaling.
        reduce: gradients of this rank -> their mean over all ranks; None: one process.
        average: call it to make batch norm's statistics the same on all ranks; None: nothing to do.
    """

    def __init__(
        self,
        forward: nn.Cell,
        optimizer: AdamW | Lars,
        *,
        accumulation: int = 1,
        max_grad_norm: float | None = None,
        ema: Ema | None = None,
        loss_scale: LossScale | None = None,
        reduce: nn.Cell | None = None,
        average: nn.Cell | None = None,
    ) -> None:
        self.forward, self.optimizer, self.ema = forward, optimizer, ema
        self.accumulation, self.loss_scale = accumulation, loss_scale
        self._compiled = False
        forward.set_train(True)
        update = _update_function(optimizer, ema, max_grad_norm, reduce, average)
        gradients = _gradient_function(forward, scaled=loss_scale is not None)
        if accumulation == 1:
            self._step = compat.jit(_fused(gradients, update))
        else:
            self._sums = zero_copies(optimizer.params, "grad_sum")
            self._accumulate = compat.jit(_accumulating(gradients, self._sums))
            self._apply = compat.jit(_applying(update, self._sums, accumulation))

    def __call__(self, batches: Iterable[Mapping[str, Any]], lr: float) -> dict[str, Any]:
        """Update once; returns loss, images, finite, loss_scale and grad_norm."""
        if self._compiled:
            return self._update(batches, lr)
        with shared_graphs(self.forward):
            result = self._update(batches, lr)
        self._compiled = True
        return result

    def _update(self, batches: Iterable[Mapping[str, Any]], lr: float) -> dict[str, Any]:
        scale = self.loss_scale.value if self.loss_scale else 1.0
        scale_tensor, lr_tensor = Tensor(scale, ms.float32), Tensor(lr, ms.float32)
        losses, images = [], 0
        for batch in batches:
            inputs = [Tensor(batch[name]) for name in self.forward.inputs]
            images += len(batch["image"])
            if self.accumulation == 1:
                loss, norm, finite = self._step(lr_tensor, scale_tensor, *inputs)
            else:
                loss = self._accumulate(scale_tensor, *inputs)
            losses.append(float(loss.asnumpy()))
        if len(losses) != self.accumulation:
            raise TrainingError(f"{len(losses)} batches for a step of {self.accumulation}")
        if self.accumulation > 1:
            norm, finite = self._apply(lr_tensor)
        is_ok = bool(finite.asnumpy())
        if self.loss_scale is not None:
            self.loss_scale.update(is_ok)
        return {
            "loss": float(np.mean(losses)),
            "images": images,
            "finite": is_ok,
            "loss_scale": scale,
            "grad_norm": float(norm.asnumpy()),
        }

    def parameters(self) -> dict[str, Parameter]:
        """Everything a resumed run needs: network, optimiser, average, by name."""
        found = {p.name: p for p in self.forward.get_parameters()}
        found |= self.optimizer.state()
        return found | (self.ema.state() if self.ema is not None else {})

    def tensors(self) -> dict[str, np.ndarray]:
        """The values of `parameters()`."""
        return to_arrays(self.parameters())

    def state(self) -> dict[str, Any]:
        """What is not a tensor."""
        scale = self.loss_scale.state() if self.loss_scale else None
        return {"loss_scale": scale, "numerics": library.numerics()}

    def load(self, tensors: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        """Take over `tensors()` and `state()` of another run of the same settings, exactly."""
        before, here = state.get("numerics", "plain"), library.numerics()
        if before != here:
            logger.warning("computed with %s so far, from here on with %s", before, here)
        targets = self.parameters()
        arrays, _ = merge(tensors, {name: tuple(p.shape) for name, p in targets.items()})
        assign(targets, arrays)
        if self.loss_scale is not None and state.get("loss_scale"):
            self.loss_scale.load(state["loss_scale"])


def _gradient_function(forward: nn.Cell, *, scaled: bool) -> Any:
    """(scale, *inputs) -> loss and the unscaled gradients."""

    def loss_of(scale, *inputs):
        loss = forward(*inputs)
        return (loss * scale if scaled else loss), loss

    params = ParameterTuple(forward.trainable_params())
    value_and_grad = ms.value_and_grad(loss_of, None, params, has_aux=True)

    def gradients(scale, *inputs):
        losses, grads = value_and_grad(scale, *inputs)
        loss = losses[1]
        if scaled:
            unscaled = ()
            for grad in grads:
                unscaled += (grad / scale,)
            grads = unscaled
        return loss, grads

    return gradients


def _update_function(
    optimizer: AdamW | Lars,
    ema: Ema | None,
    max_grad_norm: float | None,
    reduce: nn.Cell | None,
    average: nn.Cell | None,
) -> Any:
    """(grads, lr) -> norm, finite; where the norm is not finite nothing at all is changed.

    (Batch norm's moving statistics have moved before, in the forward pass, as in PyTorch.)
    """

    squares = cells.sum_of_squares()

    def update(grads, lr):
        if reduce is not None:
            grads = reduce(grads)
        if average is not None:
            average()
        norm = global_norm(grads, squares)
        if max_grad_norm is not None:
            grads = clip(grads, norm, max_grad_norm)
        finite = ops.isfinite(norm)
        if finite:
            optimizer(grads, lr)
            if ema is not None:
                ema()
        return norm, finite

    return update


def _fused(gradients: Any, update: Any) -> Any:
    def step(lr, scale, *inputs):
        loss, grads = gradients(scale, *inputs)
        norm, finite = update(grads, lr)
        return loss, norm, finite

    return step


def _accumulating(gradients: Any, sums: ParameterTuple) -> Any:
    def accumulate(scale, *inputs):
        loss, grads = gradients(scale, *inputs)
        for i in range(len(sums)):
            ops.assign_add(sums[i], grads[i])
        return loss

    return accumulate


def _applying(update: Any, sums: ParameterTuple, accumulation: int) -> Any:
    def apply(lr):
        grads = ()
        for i in range(len(sums)):
            grads += (sums[i] / accumulation,)
        norm, finite = update(grads, lr)
        for i in range(len(sums)):
            ops.assign(sums[i], ops.zeros_like(sums[i]))
        return norm, finite

    return apply
