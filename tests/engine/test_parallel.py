"""Who a process is, what ranks read, and what they tell each other, without MindSpore."""

import os
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from mindformers_vit.data.sampling import batch_positions, num_batches
from mindformers_vit.engine import parallel
from mindformers_vit.engine.bad_batch import save_step_batch
from mindformers_vit.engine.parallel import ONE, World, world_of
from mindformers_vit.errors import ConfigError, TrainingError

pytestmark = pytest.mark.fast
TABLE = {"RANK_ID": "3", "RANK_SIZE": "8", "RANK_TABLE_FILE": "x.json"}
CLUSTER = {"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "2", "MS_NODE_ID": "1"}


def run(use_parallel=True, run_mode="train"):
    return SimpleNamespace(use_parallel=use_parallel, run_mode=run_mode)


def can_be_scheduled():
    try:
        os.sched_setscheduler(0, os.sched_getscheduler(0), os.sched_param(0))
        return os.sched_getscheduler(0) == os.SCHED_OTHER
    except (AttributeError, OSError):
        return False


@pytest.mark.parametrize(
    ("environment", "world"),
    [
        (TABLE, World(3, 8)),
        (CLUSTER, World(1, 2)),
        ({**CLUSTER, "RANK_ID": "1", "RANK_SIZE": "2"}, World(1, 2)),
        ({"RANK_ID": "0", "RANK_SIZE": "1"}, ONE),
        ({**CLUSTER, "MS_ROLE": "MS_SCHED"}, World(is_scheduler=True)),
    ],
)
def test_the_launchers_variables_say_who_we_are(environment, world):
    assert world_of(run(), environment) == world


def test_one_process_does_not_look_at_them():
    assert world_of(run(use_parallel=False), TABLE) == ONE  # left over in somebody's shell


@pytest.mark.parametrize(
    ("settings", "environment", "said"),
    [
        ({}, {}, r"names no rank \(RANK_ID None, RANK_SIZE None\); start the ranks with scripts/"),
        ({}, {"RANK_SIZE": "8"}, r"\(RANK_ID None, RANK_SIZE 8\).*msrun \(on several servers"),
        ({}, {"RANK_ID": "8", "RANK_SIZE": "8"}, "RANK_ID 8, RANK_SIZE 8"),
        ({"use_parallel": False}, CLUSTER, "False given, but this process was started as one of 2"),
        ({"run_mode": "predict"}, TABLE, "True given, but prediction runs in one process"),
    ],
)
def test_what_does_not_fit(settings, environment, said):
    with pytest.raises(ConfigError, match=said):
        world_of(run(**settings), environment)


def test_the_launcher_chooses_the_device(monkeypatch):
    monkeypatch.setenv("DEVICE_ID", "5")
    assert parallel.device_id(World(1, 2), 0) == 5
    assert parallel.device_id(ONE, 2) == 2
    monkeypatch.delenv("DEVICE_ID")
    assert parallel.device_id(World(1, 2), 2) == 2


@pytest.mark.skipif(not can_be_scheduled(), reason="the policy is none of this system's, or fixed")
def test_threads_that_are_started_undisturbed_do_not_interrupt_until_its_end():
    policies = []

    def work():
        policies.append(os.sched_getscheduler(0))
        began.set()
        met.wait()
        policies.append(os.sched_getscheduler(0))

    thread, began, met = threading.Thread(target=work), threading.Event(), threading.Event()
    with parallel.undisturbed():
        thread.start()
        began.wait()
    met.set()
    thread.join()
    assert policies == [os.SCHED_BATCH, os.SCHED_OTHER]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.mark.skipif(not can_be_scheduled(), reason="the policy is none of this system's, or fixed")
def test_a_policy_that_was_chosen_stays():
    policies = []

    def work():
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        with parallel.undisturbed():
            pass
        policies.append(os.sched_getscheduler(0))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert policies == [os.SCHED_BATCH]


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("images", [8, 100, 101])
def test_evaluation_counts_each_image_once(size, images):
    order, batch = np.arange(images), 8
    counted = []
    for rank in range(size):
        for step in range(num_batches(images, batch * size, drop_last=False)):
            positions, valid = batch_positions(order, step, batch, rank, size)
            counted += positions[valid].tolist()
    assert sorted(counted) == list(range(images))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_global_batch_does_not_hang_on_the_number_of_ranks(size):
    order = np.random.default_rng(0).permutation(101)
    for step in range(num_batches(101, 16, drop_last=True)):
        ranks = [batch_positions(order, step, 16 // size, rank, size)[0] for rank in range(size)]
        whole = batch_positions(order, step, 16, 0, 1)[0]
        assert sorted(np.concatenate(ranks)) == sorted(whole)
        partners = {frozenset((a, b)) for a, b in zip(whole, whole[::-1], strict=True)}
        for own in ranks:  # mixup mixes the same pairs
            assert {frozenset((a, b)) for a, b in zip(own, own[::-1], strict=True)} <= partners


@pytest.fixture
def heard(monkeypatch):
    """What the other rank says, in the place of a collective: (own array) -> its array."""
    answers = []
    monkeypatch.setattr(
        parallel, "gather", lambda world, own: [own, np.asarray(answers.pop(0)(own), own.dtype)]
    )
    return answers


def test_ranks_agree_on_the_loss_and_on_stopping(heard):
    heard += [lambda own, n=n: n for n in ([3.0, 0, 0], [3.0, 1, 0], [np.nan, 0, 0], [1.0, 0, 15])]
    world, result = World(0, 2), {"loss": 1.0, "images": 4, "finite": True}
    assert world.agree(result, False) == ({"loss": 2.0, "images": 8, "finite": True}, False, None)
    assert world.agree(result, False)[1] is True  # the other one wants to stop
    merged, stop, _ = world.agree(result, True)
    assert np.isnan(merged["loss"])
    assert stop is True
    assert world.agree(result, False)[2] == 15  # the other one got a SIGTERM
    assert ONE.agree(result, False, 2) == (result, False, 2)


def test_other_weights_are_refused(heard):
    def tensors():
        return {"a": np.zeros(3, np.float32)}

    heard += [lambda own: own, lambda own: own + 1, lambda own: own + 1]
    parallel.check_start(World(0, 2), tensors, 0)
    with pytest.raises(TrainingError, match="rank 1 would start from other weights"):
        parallel.check_start(World(0, 2), tensors, 0)
    with pytest.raises(TrainingError, match="rank 1 are not those of rank 0 any more"):
        parallel.check_end(World(0, 2), tensors, 0)


def test_each_rank_keeps_its_own_part_of_a_batch_that_is_not_finite(tmp_path):
    for rank in (0, 1):
        batch = {"index": np.arange(2) + 10 * rank}
        loader = SimpleNamespace(epoch=lambda *_, b=batch: iter([b]), path_of=lambda i: f"{i}.jpg")
        said = save_step_batch(loader, tmp_path, 1, 2, 1, World(rank, 2))
        assert f"bad_batch_epoch_1_step_2_rank_{rank}.npz ({10 * rank}.jpg, " in said
    paths = [np.load(path)["path"].tolist() for path in sorted(tmp_path.iterdir())]
    assert paths == [["0.jpg", "1.jpg"], ["10.jpg", "11.jpg"]]
