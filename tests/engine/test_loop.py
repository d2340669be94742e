"""The loop without MindSpore: epochs, hooks, stopping, and the guard against skipped updates."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from mindformers_vit.config.schema import ScaleSense
from mindformers_vit.engine import loop as loop_module
from mindformers_vit.engine import parallel
from mindformers_vit.engine.callbacks.base import Callback
from mindformers_vit.engine.callbacks.evaluate import EvaluateCallback
from mindformers_vit.engine.loop import Length, TrainLoop
from mindformers_vit.engine.loss_scale import LossScale
from mindformers_vit.engine.parallel import World
from mindformers_vit.engine.saver import Saver
from mindformers_vit.errors import TrainingError

pytestmark = pytest.mark.fast


class Loader:
    """Batches that are their own place: (epoch, number)."""

    def __init__(self, batches: int) -> None:
        self.batches, self.closed = batches, False

    def epoch(self, epoch, start):
        return iter([(epoch, number) for number in range(start, self.batches)])

    def close(self):
        self.closed = True


class Step:
    """Notes what it is given; `finite(update)` and a loss scale decide how it went."""

    def __init__(self, finite=lambda update: True, loss_scale=None):
        self.seen, self.rates, self._finite, self._scale = [], [], finite, loss_scale

    def __call__(self, batches, lr):
        self.seen.append(list(batches))
        self.rates.append(lr)
        finite, scale = self._finite(len(self.seen)), self._scale.value if self._scale else 1.0
        if self._scale:
            self._scale.update(finite)
        return {
            "loss": 1.0, "images": 8, "finite": finite, "loss_scale": scale, "grad_norm": 1.0,
        }  # fmt: skip

    def tensors(self):
        return {}

    def state(self):
        return {}


class Store:
    def __init__(self):
        self.saved = []

    def save(self, tensors, state, text, *, best):
        self.saved.append(state)
        return SimpleNamespace(path=Path("somewhere"))


class Notes(Callback):
    """Writes every hook down."""

    lines: list = []

    def model_post_init(self, _):
        object.__setattr__(self, "lines", [])

    def __getattribute__(self, name):
        if name.startswith("on_"):
            return lambda loop, *rest: self.lines.append((name, loop.epoch, loop.step))
        return super().__getattribute__(name)


def loop_of(step=None, epochs=2, steps=3, accumulation=2, max_steps=None, callbacks=(), **more):
    return TrainLoop(
        length=Length(epochs, steps, accumulation, max_steps, 4),
        loader=Loader(steps * accumulation + 1),  # one batch is left over
        train_step=step or Step(),
        learning_rate=lambda n: 0.1 * n,
        output_dir=Path("nowhere"),
        saver=Saver(Store(), ""),
        callbacks=callbacks,
        **more,
    )


def test_steps_batches_rates_and_hooks():
    step, notes = Step(), Notes()
    loop = loop_of(step, callbacks=[notes])
    loop.run()
    assert step.seen == [[(e, 2 * n), (e, 2 * n + 1)] for e in (0, 1) for n in range(3)]
    assert step.rates == [0.1 * n for n in range(6)]
    epochs = [
        [
            ("on_epoch_begin", e, 0),
            *[("on_step_end", e, n) for n in (1, 2, 3)],
            ("on_epoch_end", e, 3),
        ]
        for e in (1, 2)
    ]
    assert notes.lines == [
        ("on_train_begin", 1, 0), *epochs[0], *epochs[1], ("on_save", 2, 3), ("on_train_end", 2, 3),
    ]  # fmt: skip
    assert loop._loader.closed
    (state,) = loop._saver._store.saved
    assert state == {
        "epoch": 2, "step": 3, "global_step": 6, "steps_per_epoch": 3, "epochs": 2,
        "batch_size": 4, "accumulation": 2, "images": 0, "best": None, "best_step": -1,
        "evaluated_step": -1, "skipped": 0,
    }  # fmt: skip


@pytest.mark.parametrize("stop", [1, 3, 4])
def test_a_stopped_loop_saves_once_and_goes_on_where_it_was(stop):
    first = loop_of(max_steps=stop)
    first.run()
    (state,) = first._saver._store.saved
    assert state["global_step"] == stop
    step = Step()
    step.load = lambda tensors, state: None
    second = loop_of(step)
    second.restore({}, state, "here")
    second.run()
    whole = loop_of()
    whole.run()
    assert first._train_step.seen + step.seen == whole._train_step.seen
    assert first._train_step.rates + step.rates == whole._train_step.rates


def test_a_callback_may_stop_the_run():
    class Stop(Callback):
        def on_step_end(self, loop):
            loop.stop = loop.global_step == 2

    loop = loop_of(callbacks=[Stop()])
    loop.run()
    assert len(loop._train_step.seen) == 2
    assert loop._saver._store.saved[-1]["global_step"] == 2


def test_everything_is_closed_after_an_error():
    class Fail(Callback):
        def on_step_end(self, loop):
            raise OSError("no space")

    notes = Notes()
    loop = loop_of(callbacks=[notes, Fail()])
    with pytest.raises(OSError, match="no space"):
        loop.run()
    assert loop._loader.closed
    assert notes.lines[-1][0] == "on_train_end"
    assert loop._saver._store.saved == []


def test_a_better_accuracy_is_kept_and_the_checkpoint_of_that_step_knows_it():
    class Evaluate(Callback):
        def on_epoch_end(self, loop):
            loop.save()
            loop.evaluate()

    accuracies, kept = iter([0.5, 0.25, 0.75]), []
    loop = loop_of(
        epochs=3,
        callbacks=[Evaluate()],
        evaluator=lambda: {"Top1 Accuracy": next(accuracies)},
        save_network=lambda name: kept.append((name, loop.epoch)),
    )
    loop.run()
    assert kept == [("best", 1), ("best", 3)]
    last = {state["epoch"]: state["best"] for state in loop._saver._store.saved}
    assert last == {1: 0.5, 2: 0.5, 3: 0.75}


@pytest.mark.parametrize(
    ("settings", "epochs"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"epoch_interval": 2}, [2, 4, 5]),  # the last one always
        ({"start_epoch": 3}, [3, 4, 5]),
        ({"epoch_interval": 9, "start_epoch": 9}, [5]),
    ],
)
def test_when_training_evaluates(settings, epochs):
    found = []
    loop = loop_of(
        epochs=5,
        callbacks=[EvaluateCallback(**settings)],
        evaluator=lambda: found.append(loop.epoch) or {"Loss": 1.0},
    )
    loop.run()
    assert found == epochs


def test_ranks_save_before_they_evaluate(monkeypatch):
    """Told to end, one may leave its part of the evaluation while the first waits for it."""
    monkeypatch.setattr(parallel, "gather", lambda world, own: [own, own])
    found: list[list[tuple[int, int]]] = []

    def evaluate():
        found.append([(s["global_step"], s["evaluated_step"]) for s in loop._saver._store.saved])
        return {"Top1 Accuracy": 0.5}

    loop = loop_of(epochs=1, world=World(0, 2), evaluator=evaluate, callbacks=[EvaluateCallback()])
    loop.run()
    assert found == [[(3, -1)]]
    assert [s["evaluated_step"] for s in loop._saver._store.saved] == [-1, 3]


# ---- updates that are skipped because the gradients are not finite


@pytest.fixture(autouse=True)
def _no_batch_to_keep(monkeypatch):
    monkeypatch.setattr(loop_module, "save_step_batch", lambda *_: "kept")


def run_until_stuck(step) -> int:
    """The update at which the loop gives up; the updates of the run if it does not."""
    loop = loop_of(step, epochs=20, accumulation=1)
    try:
        loop.run()
    except TrainingError as error:
        assert f"(update {loop.global_step} of 60)" in str(error)
        assert "not been finite for 10 updates in a row" in str(error)
        assert f"epoch {loop.epoch}, step {loop.step} " in str(error)
        assert "The last batch is kept." in str(error)
        assert loop.skipped == len(
            [n for n in range(1, loop.global_step + 1) if not step._finite(n)]
        )
        assert loop._loader.closed
        assert loop._saver._store.saved == []
    return loop.global_step


def test_ten_skipped_updates_in_a_row_are_too_many():
    assert run_until_stuck(Step(lambda update: update < 5)) == 4 + 10


def test_nine_in_a_row_are_not():
    assert run_until_stuck(Step(lambda update: update % 10 == 0)) == 60


def dynamic(value: float) -> LossScale:
    return LossScale(ScaleSense(type="DynamicLossScaleUpdateCell", loss_scale_value=value))


def test_a_dynamic_loss_scale_may_first_fall_to_one():
    # 2^20 to 2^1 are skipped updates 1 to 20; with a scale of 1 there are ten more
    assert run_until_stuck(Step(lambda update: False, dynamic(2.0**20))) == 20 + 10


def test_a_dynamic_loss_scale_that_finds_its_value_goes_on():
    assert run_until_stuck(Step(lambda update: update > 15, dynamic(2.0**20))) == 60


def test_a_fixed_loss_scale_cannot_help():
    fixed = LossScale(ScaleSense(type="FixedLossScaleUpdateCell", loss_scale_value=1024))
    assert run_until_stuck(Step(lambda update: False, fixed)) == 10


def test_dynamic_loss_scale():
    scale = LossScale(
        ScaleSense(
            loss_scale_value=16, scale_factor=4, scale_window=3, type="DynamicLossScaleUpdateCell"
        )
    )
    values = []
    for finite in (False, True, True, False, True, True, True, True, False, False):
        scale.update(finite)
        values.append(scale.value)
    assert values == [4, 4, 4, 1, 1, 1, 4, 4, 1, 1]
    scale.update(True)
    again = LossScale(ScaleSense())
    again.load(scale.state())
    assert again.state() == scale.state() == {"value": 1.0, "good_steps": 1}


def test_a_fixed_loss_scale_stays():
    scale = LossScale(ScaleSense(type="FixedLossScaleUpdateCell", loss_scale_value=1024))
    scale.update(False)
    assert scale.value == 1024
