"""One seed, one result: to the last bit, whatever the number of loader workers and the process."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.lab import assert_same, command, metrics, saved_network, trained

pytestmark = pytest.mark.usefixtures("shared_steps")
ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["mae", "vit"])
def kind(request) -> str:
    """The classifier has mixup, drop path, EMA, RandAugment, erasing, accumulation, clipping."""
    return request.param


@pytest.fixture
def train(kind, mae_yaml, vit_yaml, train_dir, tmp_path):
    """A run of two epochs into tmp_path/name."""
    config = mae_yaml if kind == "mae" else vit_yaml

    def run(name: str, *flags: str) -> Path:
        data = ("--train_dataset_dir", str(train_dir))
        assert command(config, tmp_path / name, *data, *flags) == 0
        return tmp_path / name

    run.config = config
    return run


def test_two_runs_are_one(train, kind):
    first, second = train("first", "--seed", "0"), train("second")
    assert_same(first, second)
    tensors, state = trained(first)
    assert state["global_step"] == {"mae": 12, "vit": 6}[kind] == tensors["optimizer.step"]
    assert any(name.startswith("ema.") for name in tensors) == (kind == "vit")


def test_another_number_of_workers_changes_nothing(train):
    first = train("first")
    assert_same(first, train("second", "--train_dataset.num_parallel_workers=2"))


def test_another_seed_changes_everything(train):
    (first, _), (second, _) = trained(train("first")), trained(train("second", "--seed", "1"))
    same = [name for name in first if first[name].tobytes() == second[name].tobytes()]
    fixed = {"optimizer.step", "pos_embed", "decoder_pos_embed"}  # the tables are sines
    assert {name.removeprefix("ema.") for name in same} <= fixed
    assert first["pos_embed"].shape == (1, 17, 48)


def test_the_first_step_depends_on_the_seed_and_training_learns(train, kind):
    first, second = metrics(train("first")), metrics(train("second", "--seed", "1"))
    assert [line["step"] for line in first] == list(range(1, len(first) + 1))
    assert first[0]["loss"] != second[0]["loss"]
    if kind == "mae":
        assert first[-1]["loss"] < first[0]["loss"]


def test_the_seed_is_that_of_the_weights_and_that_of_the_data(train):
    """One update with the rate 0, as a warm-up begins."""
    one = "--runner_config.max_steps=1"
    first = train("first", one)
    assert trained(first)[0]["optimizer.step"] == 1 and metrics(first)[0]["lr"] == 0
    tensors, other = (trained(run)[0] for run in (first, train("second", one, "--seed", "1")))
    weight = "blocks.0.attn.qkv.weight"
    assert tensors[weight].tobytes() != other[weight].tobytes()
    # from the same weights, other images or masks
    start = (one, "--load_checkpoint", str(first))
    third, fourth = train("third", *start), train("fourth", *start, "--seed", "1")
    assert trained(third)[0][weight].tobytes() == trained(fourth)[0][weight].tobytes()
    assert trained(third)[0][weight].tobytes() == saved_network(first)[weight].tobytes()
    losses = [metrics(run)[0]["loss"] for run in (first, third, fourth)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)  # an average differs in the last bit
    assert losses[2] != pytest.approx(losses[0], rel=1e-4)


def test_a_process_of_its_own_does_the_same(train, train_dir, tmp_path):
    """`python run_mindformer.py`, with two loader workers, from another working directory."""
    here = train("here")
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "run_mindformer.py"), "--config", str(train.config)),
            *("--train_dataset_dir", str(train_dir), "--output_dir", "there"),
            "--train_dataset.num_parallel_workers=2",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "" and "[WARNING]" not in done.stderr  # MindSpore's own are kept quiet
    assert_same(here, tmp_path / "there")
