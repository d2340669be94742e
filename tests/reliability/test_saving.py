"""Which checkpoints stay, and writing in the background."""

import pytest

from mindformers_vit.checkpoint import files
from mindformers_vit.checkpoint.store import CheckpointStore
from mindformers_vit.engine.callbacks.base import Callback
from tests.checkpoint.test_store import names, save
from tests.checkpoint.test_weights import FailingOs
from tests.engine.lab import assert_same, checkpoints, command, trained

ASYNC = ("--callbacks.2.async_save=True", "--callbacks.2.save_checkpoint_steps=1")


@pytest.mark.fast
def test_the_newest_of_every_third_epoch_stays(tmp_path):
    store = CheckpointStore(tmp_path, keep_max=1, keep_every_n_epochs=3)
    for epoch in range(1, 9):
        for step in (4, 8):
            save(store, epoch, step, best=epoch == 2 and step == 4)
    kept = [name.removeprefix("mindformers_rank_0-") for name in names(tmp_path)]
    assert kept == ["2_4", "3_8", "6_8", "8_8"]


@pytest.fixture
def run(vit_yaml, run_flags, tmp_path, shared_steps):
    def call(name: str, *more: str) -> int:
        return command(vit_yaml, tmp_path / name, *run_flags["vit"], *more)

    return call


def test_the_best_one_stays(run, tmp_path):
    """Its accuracy is that of metrics.jsonl's best line, whatever came after."""
    assert run("out", "--callbacks.2.keep_checkpoint_max=1", "--epochs", "4") == 0
    kept = checkpoints(tmp_path / "out")
    state = trained(tmp_path / "out")[1]
    places = {3 * (int(e) - 1) + int(s) for e, s in (p.name.split("-")[1].split("_") for p in kept)}
    assert places == {state["best_step"], 12}


def test_in_the_background_it_is_the_same_run(run, unbroken, tmp_path):
    assert run("out", *ASYNC) == 0
    assert_same(unbroken["vit"], tmp_path / "out")
    assert len(checkpoints(tmp_path / "out")) in (5, 6)  # the newest, and the best
    assert run("broken", *ASYNC, "--runner_config.max_steps=4") == 0
    assert run("broken", *ASYNC) == 0
    assert_same(unbroken["vit"], tmp_path / "broken")


def test_in_the_background_as_ckpt(run, unbroken, tmp_path):
    assert run("out", *ASYNC, "--callbacks.2.checkpoint_format=ckpt") == 0
    assert_same(unbroken["vit"], tmp_path / "out")


def test_an_error_in_the_background_comes_up(run, tmp_path, monkeypatch, capsys):
    """Without an older checkpoint it ends the run, before many steps have gone by."""
    fake = FailingOs(10**9, stays=True)

    def full(self, loop):
        fake.fail_at = 0

    monkeypatch.setattr(files, "os", fake)
    monkeypatch.setattr(Callback, "on_epoch_begin", full)
    assert run("out", *ASYNC) == 1
    said = capsys.readouterr().err
    assert "vit_rank_0-1_1: the checkpoint cannot be saved: [Errno 28]" in said.splitlines()[-1]
    assert "Epoch:[2/2]" not in said and "Traceback" not in said
