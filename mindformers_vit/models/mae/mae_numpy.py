"""The masked autoencoder's forward pass in numpy, to look at a network while it trains.

A few pictures on the host need neither a second compiled graph nor the device's memory. It is
tested against the network itself (tests/models/test_mae_numpy.py).

Legend: B batch, N patches, K visible patches, T tokens, D width, h heads, d = D / h.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindformers_vit.models.mae.mae_config import ViTMAEConfig

Array = NDArray[np.float32]


class NumpyMAE:
    """`(pixel_values, noise) -> (None, pred, mask)` as `ViTMAEForPreTraining`, without the loss.

    Args:
        config: of the network.
        arrays: its parameters by name.
    """

    def __init__(self, config: ViTMAEConfig, arrays: Mapping[str, Array]) -> None:
        self.config = config
        self._arrays = arrays

    def __call__(self, pixel_values: Array, noise: Array) -> tuple[None, Array, Array]:
        """(B, C, H, W), (B, N) -> pred (B, N, P·P·C), mask (B, N)."""
        config, rows = self.config, np.arange(len(noise))[:, None]
        shuffle = np.argsort(noise, axis=1, kind="stable")  # (B, N)
        restore = np.argsort(shuffle, axis=1)  # (B, N)
        keep = shuffle[:, : config.num_visible]  # (B, K)
        mask = (restore >= config.num_visible).astype(np.float32)  # (B, N)

        x = self._embed(pixel_values)[rows, keep] + self._arrays["pos_embed"][0, 1:][keep]
        first = self._arrays["cls_token"] + self._arrays["pos_embed"][:, :1]  # (1, 1, D)
        x = np.concatenate([np.repeat(first, len(x), axis=0), x], axis=1)  # (B, K + 1, D)
        for i in range(config.num_hidden_layers):
            x = self._block(x, f"blocks.{i}", config.num_attention_heads)  # (B, K + 1, D)
        x = self._linear(self._norm(x, "norm"), "decoder_embed")  # (B, K + 1, E)

        hidden = np.broadcast_to(
            self._arrays["mask_token"], (len(x), config.num_patches - keep.shape[1], x.shape[-1])
        )
        patches = np.concatenate([x[:, 1:], hidden], axis=1)[rows, restore]  # (B, N, E)
        x = np.concatenate([x[:, :1], patches], axis=1) + self._arrays["decoder_pos_embed"]
        for i in range(config.decoder_num_hidden_layers):
            x = self._block(x, f"decoder_blocks.{i}", config.decoder_num_attention_heads)
        pred = self._linear(self._norm(x, "decoder_norm"), "decoder_pred")  # (B, N + 1, P·P·C)
        return None, pred[:, 1:], mask

    def _embed(self, pixel_values: Array) -> Array:
        """(B, C, H, W) -> (B, N, D)."""
        (rows, columns), p = self.config.grid, self.config.patch_size
        b, c = pixel_values.shape[:2]
        cells = pixel_values.reshape(b, c, rows, p, columns, p).transpose(0, 2, 4, 1, 3, 5)
        flat = cells.reshape(b, rows * columns, c * p * p)  # (B, N, C·P·P)
        kernel = self._arrays["patch_embed.proj.weight"]
        return flat @ kernel.reshape(len(kernel), -1).T + self._arrays["patch_embed.proj.bias"]

    def _block(self, x: Array, name: str, heads: int) -> Array:
        """(B, T, D) -> (B, T, D)."""
        x = x + self._attention(self._norm(x, f"{name}.norm1"), f"{name}.attn", heads)
        middle = _gelu(self._linear(self._norm(x, f"{name}.norm2"), f"{name}.mlp.fc1"))
        return x + self._linear(middle, f"{name}.mlp.fc2")

    def _attention(self, x: Array, name: str, heads: int) -> Array:
        b, t, width = x.shape
        qkv = self._linear(x, f"{name}.qkv").reshape(b, t, 3, heads, width // heads)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4)  # (B, h, T, d) each
        scores = q @ k.swapaxes(2, 3) * np.float32((width // heads) ** -0.5)  # (B, h, T, T)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        out = scores / scores.sum(-1, keepdims=True) @ v  # (B, h, T, d)
        return self._linear(out.transpose(0, 2, 1, 3).reshape(b, t, width), f"{name}.proj")

    def _linear(self, x: Array, name: str) -> Array:
        bias: Any = self._arrays.get(f"{name}.bias", np.float32(0))
        return x @ self._arrays[f"{name}.weight"].T + bias

    def _norm(self, x: Array, name: str) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        deviation = np.sqrt(np.square(centred).mean(-1, keepdims=True) + self.config.layer_norm_eps)
        return centred / deviation * self._arrays[f"{name}.gamma"] + self._arrays[f"{name}.beta"]


def _gelu(x: Array) -> Array:
    """x·Φ(x), with erf by formula 7.1.26 of Abramowitz and Stegun (error below 2e-7)."""
    z = np.abs(x) * np.float32(0.5**0.5)
    t = 1 / (1 + np.float32(0.3275911) * z)
    series = np.zeros_like(t)
    for factor in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = (series + np.float32(factor)) * t
    erf = np.copysign(1 - series * np.exp(-z * z), x)
    return np.float32(0.5) * x * (1 + erf)
