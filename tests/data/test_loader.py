"""Which samples, in which batch, with which arrays; nothing here starts a process."""

import dataclasses
import json
import logging
from pathlib import Path

import numpy as np
import pytest

from mindformers_vit.data.bad_samples import BadSamples
from mindformers_vit.data.loader import Loader
from mindformers_vit.data.mixup import Mixup
from mindformers_vit.data.sampling import num_batches, rank_slots
from mindformers_vit.data.sources import open_source
from mindformers_vit.data.transforms import build_transforms
from mindformers_vit.errors import ConfigError, DataError
from tests.data.helpers import EVAL, TRAIN, class_folders, same

pytestmark = pytest.mark.fast
logging.getLogger("PIL").setLevel(logging.WARNING)

MIXUP = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=3)


def training(source, batch_size=4, items=TRAIN, **settings):
    kind = {"seed": 0, "shuffle": True, "drop_last": True, "num_workers": 0, **settings}
    return Loader(source, build_transforms(items), batch_size, **kind)


def evaluation(source, batch_size=4, **settings):
    return training(source, batch_size, EVAL, **{"shuffle": False, "drop_last": False, **settings})


def test_arrays_of_a_training_batch(source):
    loader = training(source, mixup=MIXUP, noise_length=16, drop_noise_length=6, token_grid=(4, 4))
    batch = next(loader.epoch(0))
    assert {key: (a.shape, str(a.dtype)) for key, a in batch.items()} == {
        "image": ((4, 3, 16, 16), "float32"),
        "target": ((4, 3), "float32"),
        "noise": ((4, 16), "float32"),
        "drop_noise": ((4, 6), "float32"),
        "mix_box": ((4, 4), "int32"),
        "index": ((4,), "int64"),
    }
    assert all(array.flags.c_contiguous and array.flags.writeable for array in batch.values())


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        ({}, {"label"}),
        ({"num_classes": 3}, {"label", "target"}),
        ({"num_classes": 3, "label_smoothing": 0.1}, {"target"}),
        ({"with_labels": False, "num_classes": 3}, set()),
        ({"drop_last": False}, {"label", "valid"}),
    ],
)
def test_which_arrays_there_are(source, settings, keys):
    batch = next(training(source, **settings).epoch(0))
    assert set(batch) == keys | {"image", "index"}
    if "label" in batch:
        assert np.array_equal(batch["label"], source.labels[batch["index"]])


def test_smoothed_targets(source):
    batch = next(training(source, num_classes=3, label_smoothing=0.3).epoch(0))
    expected = np.where(np.arange(3) == source.labels[batch["index"]][:, None], 0.8, 0.1)
    assert np.allclose(batch["target"], expected)


def test_mixup_is_applied_with_the_draw_of_the_step(source):
    plain = list(training(source, num_classes=3, label_smoothing=0.1).epoch(2))
    mixed = list(training(source, mixup=MIXUP).epoch(2))
    for step, (a, b) in enumerate(zip(plain, mixed, strict=True)):
        mix = MIXUP.draw(0, 2, step, 16, 16)
        assert np.allclose(
            b["target"], mix.lam * a["target"] + (1 - mix.lam) * a["target"][::-1], atol=1e-6
        )
        flipped = a["image"][::-1]
        if mix.box is None:
            expected = mix.lam * a["image"] + (1 - mix.lam) * flipped
        else:
            top, bottom, left, right = mix.box
            expected = a["image"].copy()
            expected[..., top:bottom, left:right] = flipped[..., top:bottom, left:right]
        assert np.allclose(b["image"], expected, atol=1e-5)


def test_training_epochs(source):
    loader = training(source)
    assert len(loader) == 5
    first, second = list(loader.epoch(0)), list(loader.epoch(1))
    seen = np.concatenate([batch["index"] for batch in first])
    assert len(first) == 5
    assert len(set(seen)) == 20
    assert not np.array_equal(seen, np.concatenate([batch["index"] for batch in second]))
    assert same(first, list(training(source).epoch(0)))
    assert not same(first, list(training(source, seed=1).epoch(0)))


def test_entering_an_epoch_in_the_middle(source):
    loader = training(source, mixup=MIXUP, noise_length=4)
    whole = list(loader.epoch(3))
    for start in range(6):
        assert same(list(loader.epoch(3, start)), whole[start:])
    with pytest.raises(ConfigError, match=r"start_batch must be in 0..5 \(.*\), given 6"):
        loader.epoch(3, 6)


def test_augmentation_changes_with_the_epoch_and_not_with_the_place(source):
    rows = {}
    for batch_size in (4, 6):
        for batch in training(source, batch_size).epoch(0):
            for index, image in zip(batch["index"].tolist(), batch["image"], strict=True):
                rows.setdefault(index, []).append(image)
    twice = [found for found in rows.values() if len(found) == 2]
    assert len(twice) > 10
    assert all(np.array_equal(*found) for found in twice)
    fixed = {"shuffle": False, "seed": 0}
    first, second = (next(training(source, **fixed).epoch(epoch)) for epoch in (0, 1))
    assert np.array_equal(first["index"], second["index"])
    assert not np.array_equal(first["image"], second["image"])


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 7, 8, 12, 23])
@pytest.mark.parametrize("batch_size", [3, 4])
def test_evaluation_sees_every_sample_once(source, world_size, size, batch_size):
    part = source.take(list(range(size)))
    seen, lengths = [], set()
    for rank in range(world_size):
        loader = evaluation(part, batch_size, rank=rank, world_size=world_size)
        batches = list(loader.epoch(0))
        assert len(batches) == len(loader)
        lengths.add(len(batches))
        for batch in batches:
            assert batch["image"].shape == (batch_size, 3, 16, 16)
            seen += batch["index"][batch["valid"]].tolist()
            assert (batch["index"][~batch["valid"]] == size - 1).all()
    assert sorted(seen) == list(range(size))
    assert lengths == {-(-size // (batch_size * world_size))}


def test_padding_repeats_the_last_sample_wholly(source):
    last = list(evaluation(source, 5, noise_length=3).epoch(0))[-1]
    assert last["valid"].tolist() == [True, True, True, False, False]
    for key in ("image", "label", "index", "noise"):
        assert np.array_equal(last[key][2], last[key][3])
        assert np.array_equal(last[key][2], last[key][4])
    assert last["label"].tolist() == source.labels[[20, 21, 22, 22, 22]].tolist()


@pytest.mark.parametrize("copies", [1, 3])
@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_together_make_the_same_global_batches(source, world_size, copies):
    """Same samples, same pixels, same mixup partners, whatever the number of ranks."""
    options = {"mixup": MIXUP, "noise_length": 4, "repeated_augmentation": copies}
    one = list(training(source, 8, **options).epoch(0))
    local = 8 // world_size
    ranks = [
        list(training(source, local, rank=rank, world_size=world_size, **options).epoch(0))
        for rank in range(world_size)
    ]
    for step, whole in enumerate(one):
        joined = {key: np.empty_like(array) for key, array in whole.items()}
        for rank in range(world_size):
            slots = rank_slots(local, rank, world_size)
            for key, array in ranks[rank][step].items():
                joined[key][slots] = array
        assert same([joined], [whole])


def test_rank_slots():
    assert rank_slots(4, 1, 3).tolist() == [2, 3, 8, 9]
    for batch_size, world_size in [(4, 3), (3, 2), (2, 1), (6, 4)]:
        slots = [rank_slots(batch_size, rank, world_size) for rank in range(world_size)]
        total = batch_size * world_size
        assert sorted(np.concatenate(slots)) == list(range(total))
        if batch_size % 2 == 0:
            assert all((s + s[::-1] == total - 1).all() for s in slots)
    assert num_batches(23, 8, drop_last=True) == 2
    assert num_batches(23, 8, drop_last=False) == 3


def test_kept_batches_are_never_overwritten(source):
    loader = training(source)
    kept = list(loader.epoch(0))
    copies = [{key: array.copy() for key, array in batch.items()} for batch in kept]
    for _ in range(3):
        list(loader.epoch(1))
    assert same(kept, copies)


def test_memory_is_used_again(source):
    places = [batch["image"].ctypes.data for batch in training(source, 2).epoch(0)]
    assert len(places) == 11
    assert len(set(places)) <= 3


def test_settings_errors_come_together(source):
    with pytest.raises(ConfigError) as error:
        training(source, 3, num_workers=-1, rank=2, world_size=2, mixup=Mixup(), noise_length=-1)
    assert error.value.problems == [
        "num_parallel_workers must be 0 or more, given -1",
        "rank must be in 0..1, given 2",
        "noise_length must be 0 or more, given -1",
        "mixup_op needs an even batch_size, given 3",
        "num_classes is needed for mixup_op and label_smoothing",
    ]
    bare = dataclasses.replace(source, labels=None)
    with pytest.raises(ConfigError) as error:
        training(bare, 0, with_labels=True, label_smoothing=1.0, num_classes=3)
    assert error.value.problems == [
        "batch_size must be at least 1, given 0",
        "with_labels is True but the data set has no labels",
        "label_smoothing must be in [0, 1), given 1.0",
    ]
    with pytest.raises(ConfigError, match="mixup_op needs a labelled data set"):
        training(bare, mixup=MIXUP)


def test_data_errors(source):
    with pytest.raises(DataError, match=r"has 23 samples, fewer than one batch of 24 .*12 x 2"):
        training(source, 12, world_size=2)
    with pytest.raises(DataError, match=r"dog/0\.png has class 2, but num_classes is 2 \(classes"):
        training(source, num_classes=2)


@pytest.fixture
def broken(tmp_path):
    root = class_folders(tmp_path, {"a": 4, "b": 4})
    (root / "b" / "1.png").write_bytes(b"not an image")
    return open_source(root)


def test_a_bad_sample_is_named(broken):
    with pytest.raises(DataError, match=r"b/1\.png: cannot be read as an image"):
        list(evaluation(broken).epoch(0))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_sample_is_listed_and_does_not_count(broken, workers, tmp_path):
    bad = BadSamples("eval_dataset", len(broken), 1, tmp_path)
    with evaluation(broken, bad_samples=bad, num_workers=workers) as loader:
        for _ in range(2):
            batch = list(loader.epoch(0))[1]
            assert batch["index"].tolist() == [4, 6, 6, 7]
            assert batch["valid"].tolist() == [True, False, True, True]
    assert Path(broken.paths[5]).name == "1.png"
    assert list(bad.reasons) == [broken.paths[5]]
    (line,) = (tmp_path / "bad_samples.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "data": "eval_dataset", "path": broken.paths[5], "reason": bad.reasons[broken.paths[5]],
    }  # fmt: skip


def test_an_image_that_the_transforms_cannot_take_is_named(source, monkeypatch):
    loader = training(source)
    monkeypatch.setattr(
        type(loader._recipe.transforms), "into", lambda *_: (_ for _ in ()).throw(ValueError("no"))
    )
    with pytest.raises(DataError, match=r"\.png: transforms failed on this \d+x\d+ image: no"):
        next(loader.epoch(0))
