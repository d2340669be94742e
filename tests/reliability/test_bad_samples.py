"""P6: strange images in training, evaluation and prediction."""

import json

import numpy as np
import pytest

from mindformers_vit.data.bad_samples import BadSamples
from mindformers_vit.data.loader import Loader
from mindformers_vit.data.sources import open_source
from mindformers_vit.data.transforms import build_transforms
from mindformers_vit.errors import DataError
from tests.engine import lab
from tests.engine.lab import command, metrics, trained
from tests.reliability.strange import BAD, GOOD, planted, strange_folder, without_bad


@pytest.fixture(scope="module")
def strange(tmp_path_factory):
    return strange_folder(tmp_path_factory.mktemp("strange"))


@pytest.fixture(scope="module")
def weights(strange, vit_yaml, tmp_path_factory):
    """A network that was trained on the strange folder, and what the run said."""
    out = tmp_path_factory.mktemp("trained") / "out"
    with pytest.MonkeyPatch.context() as patch, lab.own_process():
        lab.share_compiled(patch)
        flags = ("--train_dataset_dir", str(strange), "--train_dataset.max_bad_samples=0.2")
        assert command(vit_yaml, out, *flags) == 0
    return out


def listed(out) -> list[dict]:
    return [json.loads(line) for line in (out / "bad_samples.jsonl").read_text().splitlines()]


def load(strange, directory, workers=0, shuffle=True):
    source = open_source(strange)
    bad = BadSamples("train_dataset", len(source), 0.2, directory)
    directory.mkdir(parents=True, exist_ok=True)
    loader = Loader(
        source, build_transforms(lab.VIT["train_dataset"]["transforms"]), 6, seed=3,
        shuffle=shuffle, drop_last=shuffle, num_workers=workers, bad_samples=bad,
    )  # fmt: skip
    with loader:
        return [list(loader.epoch(epoch)) for epoch in (0, 1)], bad, source


@pytest.mark.fast
def test_the_next_good_one_stands_in_whatever_the_number_of_workers(strange, tmp_path):
    expected, bad, source = load(strange, tmp_path / "0")
    assert sorted(bad.reasons) == planted(strange)
    for path, reason in bad.reasons.items():
        assert path in reason and BAD[path.rpartition("/")[2]] in reason
    wrong = {i for i, path in enumerate(source.paths) if path in bad.reasons}
    used = np.concatenate([b["index"] for b in expected[1]]).tolist()
    order = [i for i in range(len(source)) if i not in wrong]
    assert set(used) <= set(order) and all("/ant/" in source.paths[i] for i in wrong)
    for workers in (1, 3):
        found, more, _ = load(strange, tmp_path / str(workers), workers)
        assert sorted(more.reasons) == planted(strange)
        for epoch in (0, 1):
            for one, other in zip(expected[epoch], found[epoch], strict=True):
                assert all(np.array_equal(one[key], other[key]) for key in one)


@pytest.mark.fast
def test_every_strange_but_good_image_becomes_pixels(strange, tmp_path):
    (batches, _), _, source = load(strange, tmp_path, shuffle=False)
    seen = {source.paths[i] for b in batches for i in b["index"][b["valid"]]}
    names = {path.rpartition("/")[2] for path in seen}
    assert set(GOOD) <= names and not names & set(BAD)
    assert len(seen) == len(source) - len(BAD)
    assert all(np.isfinite(b["image"]).all() for b in batches)


@pytest.mark.fast
def test_over_the_threshold_the_list_ends_the_run(tmp_path):
    bad = BadSamples("train_dataset", 100, 2, tmp_path)
    bad.add("a", "a: broken")
    bad.add("a", "a: broken")
    bad.add("b", "b: broken")
    with pytest.raises(DataError, match="3 of 100 images cannot be used") as error:
        bad.add("c", "c: broken")
    assert "more than max_bad_samples (2) allows" in str(error.value)
    assert str(error.value).endswith("  a: broken\n  b: broken\n  c: broken")
    with (tmp_path / "bad_samples.jsonl").open("a") as file:
        file.write('{"data": "tr')  # a kill
    again = BadSamples("train_dataset", 100, 0.04, tmp_path)
    for name in "abcd":
        again.add(name, f"{name}: broken")
    lines = (tmp_path / "bad_samples.jsonl").read_text().splitlines()
    assert [json.loads(lines[n])["path"] for n in (0, 1, 2, 4)] == ["a", "b", "c", "d"]
    assert len(lines) == 5


@pytest.mark.fast
@pytest.mark.parametrize("code", [0xDCFF, 0x2028, 0x0A, 0x732B])
def test_a_bad_image_may_have_any_name(code, tmp_path, caplog):
    """Bytes that are no UTF-8 among them: Python reads such a byte as a surrogate."""
    caplog.set_level("CRITICAL", logger="mindformers_vit")  # two pytests cannot pass that byte on
    name = chr(code)
    for _ in range(2):  # and the run after a kill
        BadSamples("train_dataset", 100, 2, tmp_path).add(f"{name}.jpg", f"{name}.jpg: broken")
    (line,) = listed(tmp_path)
    assert line["path"] == f"{name}.jpg"
    (tmp_path / "bad_samples.jsonl").write_bytes(b'{"data": "\xe7\x8c')  # cut in a character
    BadSamples("train_dataset", 100, 2, tmp_path).add("a", "a: broken")
    assert (tmp_path / "bad_samples.jsonl").read_bytes().count(b"\n") == 2


def test_training(weights, strange):
    assert sorted(line["path"] for line in listed(weights)) == planted(strange)
    assert {line["data"] for line in listed(weights)} == {"train_dataset"}
    assert len(metrics(weights)) == 2 * (43 // 8)
    assert all(np.isfinite(a).all() for a in trained(weights)[0].values())


def test_too_many(strange, vit_yaml, tmp_path, shared_steps, capsys):
    assert command(vit_yaml, tmp_path, "--train_dataset_dir", str(strange)) == 2
    said = capsys.readouterr().err
    assert "error: train_dataset: 1 of 42 images cannot be used, more than max_bad_samples" in said
    assert "(0.01) allows" in said and "Traceback" not in said


def test_evaluation_does_not_replace(weights, strange, vit_yaml, tmp_path, capsys):
    flags = ("--run_mode", "eval", "--load_checkpoint", str(weights))
    results = []
    for name, data, more in (
        ("strange", strange, ("--eval_dataset.max_bad_samples=0.2",)),
        ("clean", without_bad(strange, tmp_path / "data"), ()),
    ):
        capsys.readouterr()
        out = tmp_path / name
        assert command(vit_yaml, out, *flags, "--eval_dataset_dir", str(data), *more) == 0
        results.append(json.loads((out / "eval_result.json").read_text()))
        said = capsys.readouterr().err
        notice = f"{len(BAD)} of 42 images could not be read and do NOT count"
        assert (notice in said) == (name == "strange")
    assert sorted(line["path"] for line in listed(tmp_path / "strange")) == planted(strange)
    assert results[0]["metrics"] == results[1]["metrics"]
    assert results[0]["images"] == results[1]["images"] == 42 - len(BAD)
    assert [result["bad_samples"] for result in results] == [len(BAD), 0]


def test_prediction_keeps_the_other_results(weights, strange, vit_yaml, tmp_path, capsys):
    there = [path for path in planted(strange) if not path.endswith("nowhere.jpg")]
    given = [str(strange / "bee" / GOOD[0]), *there, str(strange / "bee" / GOOD[1])]
    flags = ("--run_mode", "predict", "--load_checkpoint", str(weights), "--predict_data")
    assert command(vit_yaml, tmp_path / "out", *flags, *given) == 0
    said = capsys.readouterr().err
    assert f"{len(there)} of {len(given)} images could not be read and have NO result" in said
    assert sorted(line["path"] for line in listed(tmp_path / "out")) == there
    results = json.loads((tmp_path / "out" / "image_classification_result.json").read_text())
    assert [record["file"] for record in results] == [given[0], given[-1]]
    assert command(vit_yaml, tmp_path / "none", *flags, *there) == 2
    assert f"{len(there)} of {len(there)} images cannot be used" in capsys.readouterr().err
