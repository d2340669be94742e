import errno
import json
import os
import stat
import struct
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy

from mindformers_vit.checkpoint import files
from mindformers_vit.checkpoint.weights import read_weights, write_weights
from mindformers_vit.errors import CheckpointError

pytestmark = pytest.mark.fast

TENSORS = {
    "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
    "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "scalar": np.array(3, np.float32),
    "half": np.linspace(-1, 1, 4).astype(np.float16),
    "empty": np.zeros((0, 3), np.float32),
    "ints": np.arange(3),
    "flags": np.array([True, False]),
}


def write_raw(path, header: dict, data: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_round_trip(tmp_path):
    path = tmp_path / "new" / "w.safetensors"
    write_weights(path, TENSORS, {"format": "ms"})
    back = read_weights(path)
    assert back.keys() == TENSORS.keys()
    for name, array in TENSORS.items():
        assert back[name].dtype == array.dtype
        assert back[name].shape == array.shape
        assert (back[name] == array).all()
    assert safetensors.numpy.load_file(path)["transposed"].shape == (3, 2)
    with safetensors.safe_open(path, framework="np") as file:
        assert file.metadata() == {"format": "ms"}
    assert os.listdir(path.parent) == ["w.safetensors"]  # noqa: PTH208


def test_mode_follows_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_weights(tmp_path / "w.safetensors", TENSORS)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "w.safetensors").stat().st_mode) == 0o640


def test_safetensors_needs_no_mindspore(tmp_path):
    code = (
        "import sys, numpy\n"
        "from mindformers_vit.checkpoint import merge, store, weights\n"
        f"weights.write_weights({str(tmp_path / 'w.safetensors')!r}, {{'a': numpy.ones(2)}})\n"
        f"weights.read_weights({str(tmp_path / 'w.safetensors')!r})\n"
        "assert 'mindspore' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_bfloat16_comes_as_exact_float32(tmp_path):
    path = tmp_path / "b.safetensors"
    header = {
        "b": {"dtype": "BF16", "shape": [1, 2], "data_offsets": [0, 4]},
        "f": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
    }
    write_raw(path, header, b"\x80\x3f\x20\xc0" + struct.pack("<f", 0.1))
    back = read_weights(path)
    assert back["b"].dtype == np.float32
    assert back["b"].tolist() == [[1.0, -2.5]]
    assert back["f"] == np.float32(0.1)
    assert back["b"].shape == (1, 2)
    assert back["f"].shape == (1,)


def test_types_that_numpy_lacks_are_refused(tmp_path):
    path = tmp_path / "f8.safetensors"
    write_raw(path, {"q": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}, b"ab")
    with pytest.raises(CheckpointError, match=r"f8.safetensors: tensor 'q' has type F8_E4M3"):
        read_weights(path)
    for array in (np.array(["x"]), np.zeros(2, complex), np.zeros(2, np.longdouble)):
        with pytest.raises(CheckpointError, match=r"tensor 't' has type .*, which is not kept"):
            write_weights(tmp_path / "t.safetensors", {"t": array})
    assert not (tmp_path / "t.safetensors").exists()


def test_a_file_cut_at_any_byte_is_refused(tmp_path):
    whole, cut = tmp_path / "w.safetensors", tmp_path / "cut.safetensors"
    write_weights(whole, TENSORS)
    data = whole.read_bytes()
    for length in range(len(data)):
        cut.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=r"cut.safetensors: damaged"):
            read_weights(cut)


def test_foreign_and_missing_files_are_refused(tmp_path):
    foreign = tmp_path / "page.safetensors"
    foreign.write_text("<html>404</html>")
    with pytest.raises(CheckpointError, match=r"page.safetensors: damaged or not a weight file"):
        read_weights(foreign)
    with pytest.raises(CheckpointError, match=r"none.safetensors: no such file"):
        read_weights(tmp_path / "none.safetensors")
    (tmp_path / "d.safetensors").mkdir()
    with pytest.raises(CheckpointError, match=r"d.safetensors: is a directory"):
        read_weights(tmp_path / "d.safetensors")
    for call in (read_weights, lambda p: write_weights(p, {})):
        with pytest.raises(CheckpointError, match=r"w.pth: .* end with .safetensors or .ckpt"):
            call(tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="holds no metadata"):
        write_weights(tmp_path / "w.ckpt", {}, {"a": "b"})


class FailingOs:
    """`os`, of which the n-th writing call fails, or all from it on; short writes besides."""

    def __init__(self, fail_at: int, number: int = errno.ENOSPC, *, stays: bool = False) -> None:
        self.calls, self.fail_at, self.number, self.stays = 0, fail_at, number, stays

    def __getattr__(self, name):
        real = getattr(os, name)
        names = {"open", "write", "fsync", "replace", "mkdir", "unlink", "rmdir", "close"}
        if name not in names:
            return real

        def call(*args, **kwargs):
            self.calls += 1
            if self.calls == self.fail_at or (self.stays and self.calls > self.fail_at):
                if name == "close":
                    real(*args)
                raise OSError(self.number, os.strerror(self.number))
            if name == "write":
                return real(args[0], args[1][: max(1, len(args[1]) // 2)])
            return real(*args, **kwargs)

        return call


def test_whatever_fails_the_old_file_or_the_new_one_is_there(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    old, new = {"a": np.zeros(9, np.float32)}, {"a": np.ones(9, np.float32)}
    for fail_at in range(1, 100):
        write_weights(path, old)
        fake = FailingOs(fail_at)
        with monkeypatch.context() as patch:
            patch.setattr(files, "os", fake)
            failed = False
            try:
                write_weights(path, new)
            except CheckpointError as error:
                failed = True
                assert str(path) in str(error)
                assert "No space left" in str(error)
        assert read_weights(path)["a"][0] in (0.0, 1.0)
        assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]
        if not failed:
            assert fake.calls < fail_at
            assert read_weights(path)["a"][0] == 1.0
            return
    pytest.fail("no clean pass was reached")
