"""The names that MindFormers up to 1.5 gave its MAE's and ViT's tensors. No MindSpore here.

Its attention has three linear layers for q, k and v, and those of the MLP and the attention's last
keep their weights as (in, out).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mindformers_vit.models.conversion_table import Row, dropped, linear_rows, same

# what its training checkpoints hold besides: moments and counters
TRAINING_ROWS = [
    *dropped("adam_m.{any}", "adam_v.{any}"),
    *dropped("epoch_num", "step_num", "global_step", "loss_scale", "scale_sense"),
    *dropped("current_iterator_step", "last_overflow_iterator_step"),
]


def block_rows(theirs: str, ours: str) -> list[Row]:
    """A transformer block."""
    rows = [
        *leaf_rows(f"{theirs}.layernorm1", f"{ours}.norm1"),
        *leaf_rows(f"{theirs}.layernorm2", f"{ours}.norm2"),
    ]
    for leaf in ("weight", "bias"):
        dense = tuple(f"{theirs}.attention.dense{number}.{leaf}" for number in (1, 2, 3))
        rows.append(Row(dense, f"{ours}.attn.qkv.{leaf}"))
    for name, target in (
        ("attention.projection", "attn.proj"),
        ("output.mapping", "mlp.fc1"),
        ("output.projection", "mlp.fc2"),
    ):
        rows.append(Row(f"{theirs}.{name}.weight", f"{ours}.{target}.weight", transposed=True))
        rows.append(Row(f"{theirs}.{name}.bias", f"{ours}.{target}.bias"))
    return rows


def encoder_rows() -> list[Row]:
    """Everything under `vit.` but its last norm."""
    return [
        Row("vit.cls_tokens", "cls_token"),
        Row("vit.pos_embed", "pos_embed"),
        *linear_rows("vit.patch_embed.proj", "patch_embed.proj"),
        *block_rows("vit.blocks.{i}", "blocks.{i}"),
    ]


def leaf_rows(theirs: str, ours: str) -> list[Row]:
    """A norm, whose leaves have MindSpore's names already."""
    return [Row(f"{theirs}.{leaf}", f"{ours}.{leaf}") for leaf in ("gamma", "beta")]


def decoder_rows() -> list[Row]:
    """The masked autoencoder's decoder."""
    return [
        Row("mask_tokens", "mask_token"),
        *same("decoder_pos_embed", "decoder_norm.gamma", "decoder_norm.beta"),
        *linear_rows("decoder_embed"),
        *block_rows("decoder_blocks.{i}", "decoder_blocks.{i}"),
        *linear_rows("decoder_pred"),
    ]


def conversion_hint(path: Path, names: Iterable[str]) -> str | None:
    """What to do with a `.ckpt` whose tensors have these names; None if they are not MindFormers'.

    Without a head it is a masked autoencoder's.
    """
    found = set(names)
    if "vit.cls_tokens" not in found:
        return None
    family = "vit" if "head.weight" in found else "mae"
    return (
        f"'{path}' has the tensor names of MindFormers 1.5 and before. Convert it first:\n"
        f"  python mindformers_vit/models/{family}/convert_weight.py --torch_path {path} "
        f"--mindspore_path {path.with_name(path.stem + '_converted.ckpt')}"
    )
