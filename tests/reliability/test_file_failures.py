"""P2: the n-th file operation fails, n = 1, 2, 3 ... until a clean pass: the checkpoint that was
there loads, the message says what and where, and no traceback comes.
"""

import errno
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from mindformers_vit.checkpoint import files
from mindformers_vit.checkpoint.store import CheckpointStore
from mindformers_vit.checkpoint.weights import write_weights
from mindformers_vit.engine.callbacks.metrics_writer import MetricsWriter
from mindformers_vit.engine.resume import set_aside
from mindformers_vit.engine.saver import Saver
from mindformers_vit.errors import SaveError
from tests.checkpoint.test_store import CONFIG, save, state, tensors, value_of
from tests.checkpoint.test_weights import FailingOs
from tests.engine.lab import checkpoints, command, trained
from tests.engine.test_callbacks import loop_at

ROOT = Path(__file__).parents[2]
ERRORS = [errno.ENOSPC, errno.EIO, errno.EACCES]


class FailingWholeOs(FailingOs):
    """Without the short writes, so that there are fewer operations to go through."""

    def __getattr__(self, name):
        call = super().__getattr__(name)
        if name != "write":
            return call

        def write(handle, data):
            self.calls += 1
            if self.calls == self.fail_at or (self.stays and self.calls > self.fail_at):
                raise OSError(self.number, os.strerror(self.number))
            return os.write(handle, data)

        return write


@pytest.mark.fast
@pytest.mark.parametrize("number", ERRORS)
def test_a_save_and_its_rotation(number, tmp_path, monkeypatch):
    for fail_at in range(1, 300):
        store = CheckpointStore(tmp_path / str(fail_at), keep_max=1)
        save(store, 1, 0)
        fake, said = FailingOs(fail_at, number), ""
        with monkeypatch.context() as patch:
            patch.setattr(files, "os", fake)
            try:
                save(store, 2, 0)
            except SaveError as error:
                said = str(error)
        # the new one may be there, whole, when only its entry could not be forced to the disk
        assert value_of(store) in ((1.0, 2.0) if said else (2.0,))
        assert not said or "mindformers_rank_0-2_0: the checkpoint cannot be saved" in said
        assert not said or os.strerror(number) in said
        if fake.calls < fail_at:
            assert not said
            return
    pytest.fail("no clean pass was reached")


def test_a_start(mae_yaml, run_flags, tmp_path, shared_steps, monkeypatch, capsys):
    """Resumed with nothing left to train: all that a start and an end write."""
    flags = (*run_flags["mae"], "--runner_config.max_steps=1")
    assert command(mae_yaml, tmp_path / "before", *flags) == 0
    (tmp_path / "before" / "finished.json").unlink()
    expected = trained(tmp_path / "before")[0]
    for fail_at in range(1, 200):
        out = tmp_path / str(fail_at)
        shutil.copytree(tmp_path / "before", out)
        number = ERRORS[fail_at % 3]
        fake = FailingWholeOs(fail_at, number)
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(files, "os", fake)
            code = command(mae_yaml, out, *flags)
        said = capsys.readouterr().err
        assert "Traceback" not in said
        failed = code != 0
        assert not failed or (os.strerror(number) in said and str(out) in said), said
        found = trained(out)[0]
        assert all(found[name].tobytes() == expected[name].tobytes() for name in expected)
        if fake.calls < fail_at:
            assert not failed
            return
        shutil.rmtree(out)
    pytest.fail("no clean pass was reached")


@pytest.mark.fast
def test_setting_an_earlier_run_aside(tmp_path, monkeypatch):
    for fail_at in range(1, 100):
        root = tmp_path / str(fail_at)
        save(CheckpointStore(root / "checkpoint" / "rank_0"), 1, 0)
        (root / "metrics.jsonl").write_text("{}\n")
        fake, failed = FailingOs(fail_at), False
        with monkeypatch.context() as patch:
            patch.setattr(files, "os", fake)
            try:
                set_aside(root)
            except OSError:
                failed = True
        places = [root / "checkpoint" / "rank_0", *root.glob("previous_*/checkpoint/rank_0")]
        (held,) = [value_of(CheckpointStore(place)) for place in places if place.exists()]
        assert held == 1.0
        if fake.calls < fail_at:
            assert not failed and (root / "previous_1" / "metrics.jsonl").is_file()
            return
    pytest.fail("no clean pass was reached")


# ---- a disk that stays full


@pytest.mark.fast
@pytest.mark.parametrize("in_background", [False, True])
def test_training_goes_on_while_there_are_older_ones(in_background, tmp_path, monkeypatch, caplog):
    store = CheckpointStore(tmp_path)
    saver = Saver(store, CONFIG, in_background=in_background)
    first = saver.save(tensors(1.0), state(1, 0), best=False) or saver.finish(wait=True)
    assert first == tmp_path / "mindformers_rank_0-1_0"
    with monkeypatch.context() as patch:
        patch.setattr(files, "os", FailingOs(1, stays=True))
        saver.save(tensors(2.0), state(2, 0), best=False)
        assert saver.finish(wait=True) is None
        assert saver.failed
        assert "mindformers_rank_0-2_0: the checkpoint cannot be saved" in caplog.text
        assert "No space left on device; training goes on, the newest is" in caplog.text
        assert value_of(store) == 1.0
        with pytest.raises(SaveError, match="No space left"):
            saver.save(tensors(3.0), state(3, 0), best=False, last=True)
            saver.finish(wait=True, last=True)
    saver.save(tensors(4.0), state(4, 0), best=False)
    saver.finish(wait=True)
    assert not saver.failed and value_of(store) == 4.0
    saver.close()


@pytest.mark.fast
def test_without_an_older_one_the_run_ends(tmp_path, monkeypatch):
    saver = Saver(CheckpointStore(tmp_path), CONFIG)
    monkeypatch.setattr(files, "os", FailingOs(1, stays=True))
    with pytest.raises(SaveError, match="mindformers_rank_0-1_0: the checkpoint cannot be saved"):
        saver.save(tensors(), state(1, 0), best=False)


def test_a_full_disk_under_a_whole_run(mae_yaml, run_flags, tmp_path, shared_steps, capsys):
    """The last checkpoint is no warning: the code says that the run has not come to its end."""
    out, every = tmp_path / "out", "--callbacks.2.save_checkpoint_steps=3"
    assert command(mae_yaml, out, *run_flags["mae"], every, "--runner_config.max_steps=4") == 0
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        fake = FailingOs(10**9, stays=True)
        patch.setattr(files, "os", fake)
        original = MetricsWriter.on_train_begin

        def full(self, loop):
            original(self, loop)
            fake.fail_at = 0

        patch.setattr(MetricsWriter, "on_train_begin", full)
        assert command(mae_yaml, out, *run_flags["mae"], every) == 1
    said = capsys.readouterr().err
    assert said.count("training goes on, the newest is") == 3  # after steps 6, 9 and 12
    assert "No space left" in said.strip().splitlines()[-1] and "Traceback" not in said
    assert [path.name for path in checkpoints(out)] == ["mae_rank_0-1_3", "mae_rank_0-1_4"]
    assert command(mae_yaml, out, *run_flags["mae"], every) == 0


def test_the_network_alone_cannot_be_written(vit_yaml, run_flags, tmp_path, shared_steps, capsys):
    """The best one is a warning, the last one an error of its own; the checkpoints are there."""
    networks = tmp_path / "out" / "checkpoint_network" / "rank_0"
    networks.mkdir(parents=True)
    (networks / "best").write_text("in the way")
    assert command(vit_yaml, tmp_path / "out", *run_flags["vit"]) == 0
    said = capsys.readouterr().err
    assert "the best network stays the one before, training goes on" in said
    state = trained(tmp_path / "out")[1]
    assert (state["best"], state["best_step"], state["global_step"]) == (None, -1, 6)
    shutil.rmtree(networks)
    networks.write_text("in the way")
    assert command(vit_yaml, tmp_path / "out", *run_flags["vit"]) == 1
    said = capsys.readouterr().err
    (last,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "the network cannot be saved: " in last and str(networks) in last
    assert "Traceback" not in said


def test_no_file_may_grow(mae_yaml, run_flags, tmp_path):
    """The system itself refuses, also the logs, metrics and TensorBoard's thread."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # noqa: E731
    flags = ("--config", str(mae_yaml), "--output_dir", str(tmp_path / "out"))
    flags += (*run_flags["mae"], "--callbacks.1.tensorboard=True")
    done = subprocess.run(
        [sys.executable, str(ROOT / "run_mindformer.py"), *flags],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, preexec_fn=limit,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "mae_rank_0-1_6: the checkpoint cannot be saved" in last and "File too large" in last


@pytest.mark.fast
def test_metrics_that_cannot_be_written_end_nothing(tmp_path, caplog):
    writer = MetricsWriter(tensorboard=False)
    writer.on_train_begin(loop_at(0, tmp_path))
    writer._file.close()
    writer._file = open("/dev/full", "ab", buffering=0)  # noqa: PTH123, SIM115
    writer.on_step_end(loop_at(1, tmp_path))
    writer.on_train_end(loop_at(1, tmp_path))
    assert "the numbers of a step are lost: [Errno 28] No space left on device" in caplog.text


@pytest.mark.fast
def test_tensors_are_written_as_the_library_writes_them(tmp_path):
    arrays = {
        "z": np.arange(5, dtype=np.int8),
        "b": np.arange(6, dtype=">f4").reshape(2, 3),
        "a": np.ones((2, 0, 3), np.float64),
        "half": np.float16([[1.5]]),
        "c": np.array(7, np.int32),
        "flag": np.array([True, False]),
    }
    write_weights(tmp_path / "x.safetensors", arrays, {"format": "np"})
    ours = safetensors.numpy.load((tmp_path / "x.safetensors").read_bytes())
    assert ours.keys() == arrays.keys()
    for name, array in arrays.items():
        assert ours[name].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(ours[name], array)
