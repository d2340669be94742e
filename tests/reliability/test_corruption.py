"""P3: whatever happened to a file of a checkpoint is seen, and the previous valid one is taken."""

import logging
import random
import shutil
from pathlib import Path

import pytest

from mindformers_vit.checkpoint.store import CheckpointStore, load_checkpoint
from mindformers_vit.errors import CheckpointError
from tests.checkpoint.test_store import FILES, save, value_of

pytestmark = pytest.mark.fast
SAMPLES = 120  # positions a file and a kind of damage


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("store")
    store = CheckpointStore(root)
    save(store, 1, 3)
    save(store, 2, 7)
    return root


def positions(size: int, seed: str) -> list[int]:
    """Both ends, and places drawn in between."""
    drawn = random.Random(seed).sample(range(size), min(SAMPLES, size))
    return sorted({0, 1, size - 2, size - 1, *drawn})


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :]


def damages(data: bytes, name: str) -> list[tuple[str, bytes]]:
    found = [(f"bit {at % 8} of byte {at}", flipped(data, at)) for at in positions(len(data), name)]
    found += [(f"cut at {at}", data[:at]) for at in positions(len(data), f"{name} cut")]
    found += [(f"zeros from {n}", data[:n] + bytes(len(data) - n)) for n in (0, len(data) // 2)]
    found += [("twice", data + data), ("one more", data + b"\n")]
    return [(what, damaged) for what, damaged in found if damaged != data]


@pytest.mark.parametrize("name", FILES)
def test_every_damage_is_seen(name, pristine, caplog):
    store = CheckpointStore(pristine)
    newest = store.latest_valid()
    assert newest is not None and newest.path.name == "mindformers_rank_0-2_7"
    path = newest.path / name
    data = path.read_bytes()
    missed, count = [], 0
    for what, damaged in damages(data, name):
        path.write_bytes(damaged)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = store.latest_valid()
        count += 1
        if found is None or found.path.name != "mindformers_rank_0-1_3" or name not in caplog.text:
            missed.append(what)
        try:
            load_checkpoint(newest.path)
            missed.append(f"{what}, loaded")
        except CheckpointError as error:
            assert str(path) in str(error)
    path.write_bytes(data)
    assert missed == [] and count > min(SAMPLES, len(data))
    assert store.latest_valid() == newest


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["missing", "folder", "dangling"])
def test_no_file_there(name, how, pristine, tmp_path):
    shutil.copytree(pristine, tmp_path / "store")
    store = CheckpointStore(tmp_path / "store")
    path = tmp_path / "store" / "mindformers_rank_0-2_7" / name
    path.unlink()
    if how == "folder":
        path.mkdir()
    if how == "dangling":
        path.symlink_to("nowhere")
    assert value_of(store) == pytest.approx(1.3)
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(path.parent)


def test_files_of_another_checkpoint(pristine, tmp_path):
    """Each whole by itself: only together they are not what was saved."""
    for name in ("state.json", FILES[0]):
        root = tmp_path / name
        shutil.copytree(pristine, root)
        old, new = root / "mindformers_rank_0-1_3", root / "mindformers_rank_0-2_7"
        source = old / name.replace("2_7", "1_3")
        shutil.copyfile(source, new / name)
        assert value_of(CheckpointStore(root)) == pytest.approx(1.3)
