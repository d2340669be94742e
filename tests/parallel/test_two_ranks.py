"""Two ranks on CPU do what one process does with the same global batch."""

import json

import numpy as np
import pytest

from mindformers_vit.report.facts import read_facts
from tests.engine import lab
from tests.parallel.conftest import RECIPES


def losses(output):
    return np.array([line["loss"] for line in lab.metrics(output) if "lr" in line])


@pytest.mark.parametrize("kind", RECIPES)
def test_the_losses_are_those_of_one_process(pairs, kind):
    one, two = losses(pairs[kind]["one"]), losses(pairs[kind]["two"])
    assert len(one) == len(two) == 20
    np.testing.assert_allclose(two, one, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", RECIPES)
def test_the_weights_are_the_same_on_both_ranks(pairs, kind):
    for rank in (0, 1):
        log = (pairs[kind]["two"] / "log" / f"rank_{rank}" / "info.log").read_text()
        assert "the 2 ranks hold the same weights to the last bit" in log


@pytest.mark.parametrize("kind", RECIPES)
def test_the_weights_are_those_of_one_process(pairs, kind):
    one, two = (lab.saved_network(pairs[kind][name]) for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=0, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("kind", RECIPES)
def test_only_the_first_rank_writes_what_is_common(pairs, kind):
    output = pairs[kind]["two"]
    for folder in ("checkpoint", "checkpoint_network"):
        assert [path.name for path in (output / folder).iterdir()] == ["rank_0"]
    assert {path.name for path in (output / "log").iterdir()} == {
        ".lock", "rank_0", "rank_1", "scheduler.log"
    }  # fmt: skip
    for rank in (0, 1):
        own = output / "log" / f"rank_{rank}"
        assert any("WARNING" in path.name for path in (own / "logs").iterdir())
        assert "[WARNING]" not in (own / "mindformer.log").read_text()
    assert len(losses(output)) == 20
    assert {p.name for p in output.iterdir()} >= {"config_train.yaml", "metrics.jsonl"}


def test_evaluation_of_101_images_is_that_of_one_process(pairs):
    one, two = ([m for m in lab.metrics(pairs["vit"][n]) if "lr" not in m] for n in ("one", "two"))
    assert one == two
    accuracy = one[-1]["Top1 Accuracy"]
    assert round(accuracy * 101) / 101 == accuracy  # of 101 images, not of 104


def test_the_report_of_two_ranks_has_all_101_images(pairs):
    one, two = (read_facts(pairs["vit"][name]).evaluation for name in ("one", "two"))
    assert two.images == sum(n for _, _, n in two.counts) == 101
    hits = sum(n for label, answer, n in two.counts if label == answer)
    assert hits / 101 == two.metrics["Top1 Accuracy"]
    assert two.counts == one.counts
    assert [(w.file, w.predicted) for w in two.worst] == [(w.file, w.predicted) for w in one.worst]
    assert all(item.picture for item in two.worst)


def test_speed_is_that_of_a_device(pairs):
    """MindFormers' samples/s/p is of one device."""
    output = pairs["mae"]["two"]
    lines = (output / "log" / "rank_0" / "info.log").read_text().splitlines()
    said = [float(line.split("| ")[1].split()[0]) for line in lines if "samples/s/p" in line]
    records = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    np.testing.assert_allclose(said, [r["images_per_second"] / 2 for r in records], atol=0.006)
