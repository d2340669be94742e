"""Checkpoints of MindFormers up to 1.5: its own numbers, and what a run says to its files."""

import mindspore as ms
import numpy as np
import pytest

from mindformers_vit.checkpoint.weights import read_weights, write_weights
from mindformers_vit.engine.weights import read
from mindformers_vit.errors import CheckpointError
from mindformers_vit.models.auto import AutoModel
from mindformers_vit.models.conversion_table import to_theirs
from mindformers_vit.models.mae import convert_weight as mae
from mindformers_vit.models.vit import convert_weight as vit
from tests.models.conftest import GOLDENS, UNTOLD, golden

CHECKPOINT = GOLDENS / "mindformers_vit_mae_tiny" / "weights.ckpt"


def test_golden(tmp_path):
    """To 2e-2, the golden's own bound: MindFormers computes in half precision, with tanh GELU."""
    report = mae.convert_weight(CHECKPOINT, tmp_path / "a.ckpt", settings=UNTOLD["mae"])
    assert report.layout == "MindFormers, ViTMAEForPreTraining"
    network, case = AutoModel.from_pretrained(tmp_path), golden("mindformers_vit_mae_tiny")
    loss, pred, mask = network(ms.Tensor(case["images"]), ms.Tensor(case["noise"]))
    assert abs(float(loss) - case["loss"]) < 2e-2
    patches = pred.asnumpy().reshape(2, 4, 4, 8, 8, 3)  # (B, rows, columns, P, P, C)
    images = patches.transpose(0, 5, 1, 3, 2, 4).reshape(2, 3, 32, 32)
    np.testing.assert_allclose(images, case["reconstruction"], rtol=0, atol=2e-2)
    assert mask.asnumpy().sum() == 24


def test_every_tensor_is_there_to_the_bit(tmp_path):
    mae.convert_weight(CHECKPOINT, tmp_path / "a.safetensors", settings=UNTOLD["mae"])
    ours, theirs = read_weights(tmp_path / "a.safetensors"), read_weights(CHECKPOINT)
    again = renamed(ours, mae.CONVERTER)
    assert again.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(again[name], array, err_msg=name)


def test_the_encoder_alone(tmp_path):
    """What MindFormers' converter made of facebookresearch/mae's pretraining files."""
    encoder = {n: a for n, a in read_weights(CHECKPOINT).items() if n.startswith("vit.")}
    write_weights(tmp_path / "theirs.ckpt", encoder)
    target = tmp_path / "a.safetensors"
    report = mae.convert_weight(tmp_path / "theirs.ckpt", target, settings=UNTOLD["mae"])
    assert report.layout == "MindFormers, encoder only"
    assert "norm.gamma" in read_weights(target)


def renamed(arrays, converter):
    """Our arrays under MindFormers' names."""
    layout = next(layout for layout in converter.layouts if layout.style == "mindformers")
    return to_theirs(arrays, layout, lambda shapes: converter.configure(shapes, {})).arrays


def test_a_training_checkpoint_of_a_classifier(converted, tmp_path):
    ours = read_weights(converted("vit_mean_pool_tiny"))
    theirs = renamed(ours, vit.CONVERTER)
    state = {f"adam_m.{name}": np.zeros_like(array) for name, array in theirs.items()}
    names = ("epoch_num", "step_num", "scale_sense")  # the third of a run with a loss scale
    names += ("current_iterator_step", "last_overflow_iterator_step")
    counters = {name: np.array([3], np.int32) for name in names}
    write_weights(tmp_path / "theirs.ckpt", theirs | state | counters)
    with pytest.raises(
        CheckpointError, match=r"models/vit/convert_weight.py --torch_path .*theirs"
    ):
        read(str(tmp_path / "theirs.ckpt"))
    report = vit.convert_weight(
        tmp_path / "theirs.ckpt", tmp_path / "a.safetensors", settings=UNTOLD["vit"]
    )
    assert f"  dropped adam_m.{{any}} ({len(theirs)})\n" in str(report)
    again = read_weights(tmp_path / "a.safetensors")
    assert again.keys() == ours.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(again[name], array, err_msg=name)


def test_a_run_names_the_command_that_converts():
    with pytest.raises(CheckpointError) as error:
        read(str(CHECKPOINT))
    assert str(error.value) == (
        f"load_checkpoint: '{CHECKPOINT}' has the tensor names of MindFormers 1.5 and before. "
        f"Convert it first:\n  python mindformers_vit/models/mae/convert_weight.py --torch_path "
        f"{CHECKPOINT} --mindspore_path {CHECKPOINT.with_name('weights_converted.ckpt')}"
    )


@pytest.mark.parametrize("name", ["hf_vit_tiny", "vit_mean_pool_tiny/weights.pth"])
def test_a_run_sends_other_files_to_the_page_that_converts(name):
    with pytest.raises(CheckpointError, match=r"converted first: docs/weights.md\)$"):
        read(str(GOLDENS / name))
