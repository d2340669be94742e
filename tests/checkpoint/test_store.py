import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from mindformers_vit.checkpoint import files
from mindformers_vit.checkpoint.manifest import read_manifest
from mindformers_vit.checkpoint.store import CheckpointStore, load_checkpoint
from mindformers_vit.errors import CheckpointError
from tests.checkpoint.test_weights import FailingOs

pytestmark = pytest.mark.fast
FILES = ("mindformers_rank_0-2_7.safetensors", "state.json", "config.yaml", "manifest.json")
CONFIG = "seed: 0\nnamen: Übung\n"


def tensors(value: float = 1.0) -> dict:
    return {
        "blocks.0.w": np.full((2, 3), value, np.float32),
        "optimizer.m.blocks.0.w": np.full((2, 3), value / 2, np.float32),
        "optimizer.step": np.array(7, np.int32),
    }


def state(epoch: int, step: int, **more) -> dict:
    return {"epoch": epoch, "step": step, "global_step": 10 * epoch + step, **more}


def save(store: CheckpointStore, epoch: int, step: int, **more):
    return store.save(tensors(epoch + step / 10), state(epoch, step), CONFIG, **more)


def names(root: Path) -> list[str]:
    return sorted(p.name for p in root.iterdir())


def value_of(store: CheckpointStore) -> float:
    found = store.latest_valid()
    assert found is not None
    return float(load_checkpoint(found.path)[0]["blocks.0.w"][0, 0])


def test_save_and_load(tmp_path):
    store = CheckpointStore(tmp_path / "a" / "b")
    given = state(2, 7, best=0.1 + 0.2, loss_scale=1024.0, skipped=None, note="é")
    saved = store.save(tensors(), given, CONFIG)
    assert saved.path == tmp_path / "a" / "b" / "mindformers_rank_0-2_7"
    assert names(saved.path) == sorted(FILES)
    arrays, loaded, config = load_checkpoint(saved.path)
    assert loaded == given
    assert config == CONFIG
    assert arrays.keys() == tensors().keys()
    for name, array in tensors().items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].tobytes() == array.tobytes()
    assert store.latest_valid() == saved
    assert (saved.manifest.epoch, saved.manifest.step) == (2, 7)
    assert saved.manifest == read_manifest(saved.path)


def test_a_checkpoint_can_be_copied_under_any_name(tmp_path):
    saved = save(CheckpointStore(tmp_path / "run"), 1, 0)
    shutil.copytree(saved.path, tmp_path / "mine")
    assert load_checkpoint(tmp_path / "mine")[1]["epoch"] == 1


def test_order_is_epoch_then_step_whatever_the_clock(tmp_path):
    store = CheckpointStore(tmp_path)
    for epoch, step in [(10, 2), (2, 100), (10, 10), (9, 999)]:
        os.utime(save(store, epoch, step).path, (epoch * 1000 - step,) * 2)
    order = [(c.manifest.epoch, c.manifest.step) for c in store.list()]
    assert order == [(10, 10), (10, 2), (9, 999), (2, 100)]


def test_rotation_keeps_the_newest_and_the_newest_best(tmp_path):
    store = CheckpointStore(tmp_path, keep_max=2)
    for epoch in range(1, 8):
        save(store, epoch, 0, best=epoch in {1, 3})
    assert names(tmp_path) == [f"mindformers_rank_0-{e}_0" for e in (3, 6, 7)]
    assert [c.manifest.epoch for c in store.list() if c.manifest.best] == [3]
    save(store, 8, 0, best=True)
    assert names(tmp_path) == [f"mindformers_rank_0-{e}_0" for e in (7, 8)]


def test_what_was_just_saved_stays_even_behind_newer_ones(tmp_path):
    store = CheckpointStore(tmp_path, keep_max=1)
    save(store, 5, 0)
    save(store, 1, 0)
    assert names(tmp_path) == ["mindformers_rank_0-1_0", "mindformers_rank_0-5_0"]


def test_saving_a_step_again_replaces_it(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(tensors(1.0), state(1, 0), CONFIG)
    store.save(tensors(2.0), state(1, 0), CONFIG, best=True)
    assert names(tmp_path) == ["mindformers_rank_0-1_0"]
    assert value_of(store) == 2.0


def test_killed_while_replacing_a_step_the_one_set_aside_is_found(tmp_path):
    store = CheckpointStore(tmp_path, keep_max=1)
    saved = save(store, 1, 0)
    saved.path.rename(tmp_path / f".old-{saved.path.name}")
    assert value_of(store) == 1.0
    save(store, 1, 0)
    assert names(tmp_path) == ["mindformers_rank_0-1_0"]


def test_stores_of_other_names_do_not_meet(tmp_path):
    ours, other = CheckpointStore(tmp_path, keep_max=1), CheckpointStore(tmp_path, prefix="other")
    longer = CheckpointStore(tmp_path, prefix="mindformers_rank_0-1_0")
    for store in (ours, other, longer):
        save(store, 1, 0)
    (tmp_path / "mindformers_rank_0-notes").mkdir()
    (tmp_path / ".tmp-other_rank_0-2_0-77").mkdir()
    save(ours, 2, 0)
    assert len(ours.list()) == len(other.list()) == len(longer.list()) == 1
    assert len(names(tmp_path)) == 5


def damage_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_first_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


def damage_middle_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)


def damage_missing(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    "damage", [damage_cut, damage_empty, damage_first_bit, damage_middle_bit, damage_missing]
)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_checkpoint_is_skipped_and_said_so(tmp_path, caplog, name, damage):
    store = CheckpointStore(tmp_path)
    save(store, 1, 3)
    newest = save(store, 2, 7)
    assert value_of(store) == np.float32(2.7)
    damage(newest.path / name)
    with caplog.at_level(logging.WARNING):
        assert value_of(store) == np.float32(1.3)
    assert name in caplog.text
    assert str(newest.path) in caplog.text
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(newest.path)
    save(store, 2, 7)  # the resumed run comes to the same step and replaces it
    assert value_of(store) == np.float32(2.7)


def test_no_bit_of_a_manifest_can_change_unseen(tmp_path):
    saved = save(CheckpointStore(tmp_path), 2, 7)
    path = saved.path / "manifest.json"
    whole = path.read_bytes()
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 1 << i % 8]) + whole[i + 1 :])
        with pytest.raises(CheckpointError, match=r"manifest\.json: "):
            read_manifest(saved.path)


def test_a_manifest_leads_nowhere_else(tmp_path):
    saved = save(CheckpointStore(tmp_path), 2, 7)
    path = saved.path / "manifest.json"
    path.write_text(path.read_text().replace('"state.json"', '"../state.json"'))
    with pytest.raises(CheckpointError, match="leads out of the directory"):
        load_checkpoint(saved.path)


def test_nothing_there(tmp_path):
    store = CheckpointStore(tmp_path / "none")
    assert store.list() == []
    assert store.latest_valid() is None
    with pytest.raises(CheckpointError, match="no such checkpoint directory"):
        load_checkpoint(tmp_path / "none")


def test_leftovers_of_a_killed_run_are_removed_at_the_next_save(tmp_path):
    store = CheckpointStore(tmp_path)
    leftover = tmp_path / ".tmp-mindformers_rank_0-1_0-99"
    leftover.mkdir()
    (leftover / "state.json").write_text("{")
    assert store.latest_valid() is None
    save(store, 1, 1)
    assert names(tmp_path) == ["mindformers_rank_0-1_1"]


def test_a_state_that_is_no_json_is_refused_and_leaves_nothing(tmp_path):
    store = CheckpointStore(tmp_path)
    with pytest.raises(CheckpointError, match="cannot be saved: Object of type ndarray"):
        store.save(tensors(), state(1, 0, noise=np.zeros(2)), CONFIG)
    assert names(tmp_path) == []


def test_whatever_fails_a_valid_checkpoint_stays(tmp_path, monkeypatch):
    """Every write, fsync, rename, mkdir and unlink of a save fails once, in turn."""
    save(CheckpointStore(tmp_path / "before"), 1, 0)
    for fail_at in range(1, 200):
        root = shutil.copytree(tmp_path / "before", tmp_path / str(fail_at))
        store = CheckpointStore(root, keep_max=1)
        fake = FailingOs(fail_at)
        failed = False
        with monkeypatch.context() as patch:
            patch.setattr(files, "os", fake)
            try:
                save(store, 2, 0)
            except CheckpointError as error:
                failed = True
                assert "mindformers_rank_0-2_0" in str(error)
                assert "No space left" in str(error)
        assert value_of(store) in (1.0, 2.0)
        assert failed or value_of(store) == 2.0
        save(store, 3, 0)
        assert names(root) == ["mindformers_rank_0-3_0"]
        if fake.calls < fail_at:
            return
    pytest.fail("no clean pass was reached")


def test_whatever_fails_while_a_step_is_saved_again(tmp_path, monkeypatch):
    save(CheckpointStore(tmp_path / "before"), 1, 0)
    for fail_at in range(1, 200):
        root = shutil.copytree(tmp_path / "before", tmp_path / str(fail_at))
        store = CheckpointStore(root, keep_max=1)
        fake = FailingOs(fail_at)
        with monkeypatch.context() as patch:
            patch.setattr(files, "os", fake)
            try:
                save(store, 1, 0)
            except CheckpointError as error:
                assert "mindformers_rank_0-1_0" in str(error)
        assert value_of(store) == 1.0
        if fake.calls < fail_at:
            return
    pytest.fail("no clean pass was reached")


def test_wrong_arguments(tmp_path):
    with pytest.raises(CheckpointError, match="keep_max must be at least 1, given 0"):
        CheckpointStore(tmp_path, keep_max=0)
    with pytest.raises(CheckpointError, match="unknown 'pth', allowed: safetensors, ckpt"):
        CheckpointStore(tmp_path, file_format="pth")
