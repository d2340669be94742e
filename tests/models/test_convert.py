"""Converters: both directions, and nothing is written when something does not fit."""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mindformers_vit.checkpoint.weights import read_weights
from mindformers_vit.errors import CheckpointError, ConfigError
from mindformers_vit.models.beit import convert_weight as beit
from mindformers_vit.models.mae import convert_weight as mae
from mindformers_vit.models.vit import convert_weight as vit
from tests.models.conftest import GOLDENS, UNTOLD

pytestmark = pytest.mark.fast

CASES = [
    (mae, "mae_pretrain_tiny/weights.pth", "facebookresearch/mae, encoder and decoder"),
    (mae, "mae_pretrain_tiny/encoder_only.pth", "facebookresearch/mae, encoder only"),
    (vit, "vit_mean_pool_tiny/weights.pth", "facebookresearch/mae, mean pooling"),
    (vit, "vit_cls_token_tiny/weights.pth", "facebookresearch/mae, class token"),
]


def load(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


@pytest.mark.parametrize(("module", "file", "layout"), CASES)
def test_there_and_back(module, file, layout, tmp_path):
    ours, theirs = tmp_path / "a.safetensors", tmp_path / "b.pth"
    settings = UNTOLD[file.partition("_")[0]]
    assert module.convert_weight(GOLDENS / file, ours, settings=settings).layout == layout
    assert module.convert_weight(theirs, ours, reversed=True).layout == layout
    original, again = load(GOLDENS / file), load(theirs)
    assert original.keys() == again.keys()
    for name in original:
        assert torch.equal(original[name], again[name]), name


def test_safetensors_with_pytorch_names(tmp_path):
    """Written by the ending, and read."""
    source, ours = GOLDENS / "beit_tiny/weights.pth", tmp_path / "a.safetensors"
    beit.convert_weight(source, ours)
    beit.convert_weight(tmp_path / "b.safetensors", ours, reversed=True)
    original, again = load(source), load_file(tmp_path / "b.safetensors")
    assert original.keys() == again.keys()
    assert all(torch.equal(original[name], again[name]) for name in original)
    report = beit.convert_weight(tmp_path / "b.safetensors", tmp_path / "c.safetensors")
    assert report.layout == "BEiT, mean pooling"
    for wrong in ({"torch_path": ours}, {"container": "model"}, {"layout": "tf"}):
        arguments = {"torch_path": tmp_path / "d.pth", "mindspore_path": ours} | wrong
        with pytest.raises(ConfigError, match=r"--(torch_path|container|layout): "):
            beit.convert_weight(**arguments, reversed=True)
    assert not (tmp_path / "d.pth").exists()


def test_only_the_leaf_of_a_norm_changes(tmp_path):
    target = tmp_path / "a.safetensors"
    source = GOLDENS / "vit_mean_pool_tiny/weights.pth"
    vit.convert_weight(source, target, settings=UNTOLD["vit"])
    names = set(read_weights(target))
    assert {"fc_norm.gamma", "blocks.2.norm1.beta", "blocks.0.attn.qkv.weight"} <= names
    assert not any(n.endswith(("norm.weight", "norm1.weight", "norm2.bias")) for n in names)


def test_a_file_of_a_training_run_with_half_precision(tmp_path):
    source, target = tmp_path / "run.pth", tmp_path / "a.safetensors"
    model = {k: v.half() for k, v in load(GOLDENS / "mae_pretrain_tiny/weights.pth").items()}
    extra = {"optimizer": {"state": {}}, "epoch": 3, "args": argparse.Namespace(lr=1e-3)}
    torch.save({"model": model, **extra}, source)
    mae.convert_weight(source, target, settings=UNTOLD["mae"])
    assert all(array.dtype == np.float32 for array in read_weights(target).values())


def _changed(tmp_path, **changes):
    model = load(GOLDENS / "mae_pretrain_tiny/weights.pth")
    for name, value in changes.items():
        name = name.replace("__", ".")
        model = {k: v for k, v in model.items() if k != name}
        model |= {} if value is None else {name: value}
    path = tmp_path / "changed.pth"
    torch.save({"model": model}, path)
    return path


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"extra__weight": torch.ones(2)}, r"\+ extra.weight \(2,\): not in the table"),
        ({"decoder_norm__bias": None}, r"- decoder_norm.beta \(32,\)"),
        (
            {"norm__weight": torch.ones(47)},
            r"~ norm.gamma: \(47,\) found, \(48,\) expected",
        ),
        ({"cls_token": None}, "'cls_token' is missing, which every such network has"),
        ({"pos_embed": torch.ones(1, 16, 48)}, "pos_embed is not one row and a square grid"),
        ({"blocks__1__attn__qkv__weight": None}, r"- blocks.1.attn.qkv.weight \(144, 48\)"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_written(changes, text, tmp_path):
    target = tmp_path / "out.safetensors"
    with pytest.raises(CheckpointError, match=text):
        mae.convert_weight(_changed(tmp_path, **changes), target)
    assert not target.exists()


def test_pretraining_files_are_sent_to_the_other_converter(tmp_path):
    with pytest.raises(CheckpointError, match=r"models/mae/convert_weight.py"):
        vit.convert_weight(GOLDENS / "mae_pretrain_tiny/encoder_only.pth", tmp_path / "a.ckpt")


def test_files_that_are_something_else(tmp_path):
    target, source = tmp_path / "a.safetensors", tmp_path / "a.pth"
    with pytest.raises(CheckpointError, match="no such file"):
        mae.convert_weight(source, target)
    source.write_bytes(b"\x80\x02garbage")
    with pytest.raises(CheckpointError, match="cannot be read as a PyTorch file"):
        mae.convert_weight(source, target)
    torch.save([1, 2], source)
    with pytest.raises(CheckpointError, match="holds no dictionary of tensors"):
        mae.convert_weight(source, target)


def test_the_command_line_from_the_repository(tmp_path):
    root = Path(__file__).parents[2]
    script = "mindformers_vit/models/mae/convert_weight.py"
    source = "tests/goldens/mae_pretrain_tiny/weights.pth"
    target = tmp_path / "a.safetensors"

    def run(source: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, script, "--torch_path", source, "--mindspore_path", str(target)]
        command += ["--num_attention_heads", "4", "--decoder_num_attention_heads", "4"]
        return subprocess.run(command, cwd=root, capture_output=True, text=True)

    done = run(source)
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout
        == f"""\
read      {source}, PyTorch file,
          tensors under 'model'
layout    facebookresearch/mae, encoder and decoder
network   ViTMAEForPreTraining, image_size 32, patch_size 8, hidden_size 48,
          num_hidden_layers 2, num_attention_heads 4
  mapped  cls_token (1) -> cls_token (1)
  mapped  pos_embed (1) -> pos_embed (1)
  mapped  patch_embed.proj.* (2) -> patch_embed.proj.* (2)
  mapped  blocks.{{i}}.* (24) -> blocks.{{i}}.* (24)
  mapped  norm.* (2) -> norm.* (2)
  mapped  mask_token (1) -> mask_token (1)
  mapped  decoder_pos_embed (1) -> decoder_pos_embed (1)
  mapped  decoder_embed.* (2) -> decoder_embed.* (2)
  mapped  decoder_blocks.{{i}}.* (24) -> decoder_blocks.{{i}}.* (24)
  mapped  decoder_norm.* (2) -> decoder_norm.* (2)
  mapped  decoder_pred.* (2) -> decoder_pred.* (2)
file      62 tensors: 62 mapped, 0 dropped
ours      62 parameters, 100,720 values: 62 mapped, 0 new when loaded
written   {target},
          {target.with_suffix(".yaml")}
"""
    )
    failed = run("missing.pth")
    assert failed.returncode == 1
    assert failed.stderr == "error: 'missing.pth': no such file\n"
