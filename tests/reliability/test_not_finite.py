"""P11: what is not finite is skipped, counted, named, and never kept."""

import numpy as np
import pytest

from mindformers_vit.checkpoint.store import load_checkpoint
from mindformers_vit.data.loader import Loader
from mindformers_vit.engine.saver import Saver
from mindformers_vit.errors import TrainingError
from tests.engine.lab import assert_same, checkpoints, command, metrics, saved_network, trained

pytestmark = pytest.mark.usefixtures("shared_steps")


@pytest.fixture
def run(vit_yaml, run_flags, tmp_path):
    def call(name: str, *more: str) -> int:
        return command(vit_yaml, tmp_path / name, *run_flags["vit"], *more)

    return call


def inject(monkeypatch, bad: set[tuple[int, int]], value: float = float("nan")) -> None:
    """One pixel of the second batch of these steps (epoch, step from 1) is not finite."""
    original = Loader.epoch

    def epoch(self, number, start_batch=0):
        place = start_batch
        for batch in original(self, number, start_batch):
            if self._recipe.mixup and place % 2 and (number + 1, place // 2 + 1) in bad:
                batch["image"][1, 0, 5, 7] = value
            yield batch
            place += 1

    monkeypatch.setattr(Loader, "epoch", epoch)


def finite(tensors) -> bool:
    return all(np.isfinite(array).all() for array in tensors.values())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_is_skipped_and_counted_and_nothing_of_it_is_kept(
    value, run, monkeypatch, tmp_path, capsys
):
    inject(monkeypatch, {(1, 2), (2, 3)}, value)
    assert run("out", "--callbacks.2.save_checkpoint_steps=1") == 0
    said = capsys.readouterr().err
    assert "epoch 1, step 2 (update 2 of 6): not finite, skipped; 1 so far" in said
    assert "epoch 2, step 3 (update 6 of 6): not finite, skipped; 2 so far" in said
    assert [s["step"] for s in metrics(tmp_path / "out") if s.get("finite") is False] == [2, 6]
    assert trained(tmp_path / "out")[1]["skipped"] == 2
    assert finite(trained(tmp_path / "out")[0]) and finite(saved_network(tmp_path / "out"))
    # and a run that was stopped in between counts the same
    assert run("broken", "--runner_config.max_steps=4") == 0
    assert run("broken") == 0
    assert_same(tmp_path / "out", tmp_path / "broken")


def test_after_so_many_in_a_row_the_run_ends_with_the_batch(run, monkeypatch, tmp_path, capsys):
    inject(monkeypatch, {(1, 2), (2, 1), (2, 2), (2, 3)})
    most = "--runner_config.max_skipped_steps=3"
    assert run("out", most, "--callbacks.2.save_checkpoint_steps=1") == 1
    said = capsys.readouterr().err
    last = said.strip().splitlines()[-1]
    assert (
        "error: epoch 2, step 3 (update 6 of 6): the gradients have not been finite for 3" in last
    )
    assert "Traceback" not in said
    path = tmp_path / "out" / "bad_batch_epoch_2_step_3.npz"
    assert f"The last batch is in {path} (" in last
    kept = np.load(path)
    assert kept["image"].shape == (8, 3, 32, 32) and kept["target"].shape == (8, 3)
    (where,) = np.argwhere(~np.isfinite(kept["image"])).tolist()
    assert where == [5, 0, 5, 7]  # the second image of the second batch of four
    assert str(kept["path"][0]) in last and len(set(kept["path"])) == 8
    assert finite(trained(tmp_path / "out")[0])


def test_weights_that_are_not_finite_are_not_saved():
    with pytest.raises(TrainingError, match=r"b\.w: not finite, so no checkpoint is written"):
        tensors = {"a": np.ones(3, np.int32), "b.w": np.array([1, np.inf], np.float32)}
        Saver(None, "").save(tensors, {}, best=True)


def test_an_accuracy_of_weights_that_diverge_is_no_best(run, tmp_path, capsys):
    """An absurd rate makes infinite weights; the network that is kept as the best is finite."""
    code = run("out", "--lr_schedule.learning_rate=1e38", "--lr_schedule.warmup_steps=4")
    assert code == 1
    assert "not finite" in capsys.readouterr().err
    for path in checkpoints(tmp_path / "out"):
        assert finite(load_checkpoint(path)[0])
