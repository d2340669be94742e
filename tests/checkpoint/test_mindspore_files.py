"""What needs MindSpore: the `.ckpt` format, and putting arrays into parameters."""

import contextlib
import stat
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, ops

from mindformers_vit.checkpoint.assign import assign, to_arrays
from mindformers_vit.checkpoint.store import CheckpointStore, load_checkpoint
from mindformers_vit.checkpoint.weights import read_weights, write_weights
from mindformers_vit.errors import CheckpointError

GOLDENS = Path(__file__).parents[1] / "goldens"
TENSORS = {
    "w": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "scalar": np.array(3, np.int32),
    "half": np.linspace(-1, 1, 4).astype(np.float16),
    "flags": np.array([True, False]),
}


def test_ckpt_round_trip(tmp_path):
    path = tmp_path / "w.ckpt"
    write_weights(path, {"old": np.zeros(2)})
    write_weights(path, TENSORS)
    back = read_weights(path)
    assert back.keys() == TENSORS.keys()
    for name, array in TENSORS.items():
        assert back[name].dtype == array.dtype
        assert back[name].shape == array.shape
        assert (back[name] == array).all()
    assert stat.S_IMODE(path.stat().st_mode) & 0o600 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["w.ckpt"]


def test_ckpt_of_mindspore_and_of_mindformers(tmp_path):
    bf16 = Parameter(Tensor([1.0, -2.5], ms.bfloat16), name="b")
    ms.save_checkpoint([bf16], str(tmp_path / "b.ckpt"))
    back = read_weights(tmp_path / "b.ckpt")["b"]
    assert back.dtype == np.float32
    assert back.tolist() == [1.0, -2.5]
    golden = read_weights(GOLDENS / "mindformers_vit_mae_tiny" / "weights.ckpt")
    assert golden
    assert all(a.dtype == np.float32 for a in golden.values())


@pytest.mark.parametrize("kind", ["cut", "bit", "foreign"])
def test_damaged_ckpt_is_refused(tmp_path, kind):
    path = tmp_path / "w.ckpt"
    write_weights(path, TENSORS)
    data = bytearray(path.read_bytes())
    if kind == "cut":
        data = data[: len(data) // 2 + 3]
    elif kind == "bit":
        data[len(data) // 2] ^= 1
    else:
        data = bytearray(b"<html>404</html>")
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"w\.ckpt: damaged or not a weight file"):
        read_weights(path)


def test_a_ckpt_cut_between_two_records_lacks_names(tmp_path):
    """The format cannot tell; a strict merge and a checkpoint's manifest can."""
    path = tmp_path / "w.ckpt"
    write_weights(path, TENSORS)
    data, readable = path.read_bytes(), []
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with contextlib.suppress(CheckpointError):
            readable.append(len(read_weights(path)))
    assert readable == [1, 2, 3, 4]  # the last has lost its checksum only


def test_what_a_ckpt_cannot_hold_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="'e' is empty"):
        write_weights(tmp_path / "w.ckpt", {"e": np.zeros((0, 2))})
    ms.save_checkpoint(
        [Parameter(Tensor([1.0]), name="w")], str(tmp_path / "t.ckpt"), append_dict={"note": "text"}
    )
    with pytest.raises(CheckpointError, match="entry 'note' is a text"):
        read_weights(tmp_path / "t.ckpt")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.ckpt"]


def test_store_in_ckpt_format(tmp_path):
    store = CheckpointStore(tmp_path, file_format="ckpt")
    saved = store.save(TENSORS, {"epoch": 1, "step": 2}, "a: 1\n")
    assert (saved.path / "mindformers_rank_0-1_2.ckpt").is_file()
    arrays, _, _ = load_checkpoint(saved.path)
    assert (arrays["w"] == TENSORS["w"]).all()
    assert store.latest_valid() == saved


def test_assigned_values_are_seen_by_a_compiled_function():
    weight = Parameter(Tensor([1.0, 2.0], ms.float32), name="w")

    @ms.jit
    def grow(x):
        ops.assign(weight, weight + x)
        return weight.sum()

    grow(Tensor(1.0))
    assign({"w": weight}, {"w": np.array([10.0, 20.0], np.float16)})
    assert grow(Tensor(1.0)).asnumpy() == 32.0
    assert to_arrays({"w": weight})["w"].tolist() == [11.0, 21.0]
    assert weight.dtype == ms.float32


def test_arrays_taken_out_do_not_change_later():
    weight = Parameter(Tensor([1.0], ms.float32), name="w")
    brain = Parameter(Tensor([1.5], ms.bfloat16), name="b")
    taken = to_arrays({"w": weight, "b": brain})
    assign({"w": weight}, {"w": np.array([5.0])})
    assert taken["w"].tolist() == [1.0]
    assert taken["b"].dtype == np.float32
    assert taken["b"].tolist() == [1.5]


def test_assign_is_strict_and_checks_before_it_copies():
    weight = Parameter(Tensor([1.0], ms.float32), name="w")
    with pytest.raises(CheckpointError, match="no parameter 'x'"):
        assign({"w": weight}, {"w": np.array([2.0]), "x": np.array([2.0])})
    with pytest.raises(CheckpointError, match=r"'w': loaded \(2,\), the parameter has \(1,\)"):
        assign({"w": weight}, {"w": np.zeros(2)})
    assert weight.asnumpy().tolist() == [1.0]
