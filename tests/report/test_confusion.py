"""What a classifier takes for what, and its surest mistakes."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from mindformers_vit.report.classes import confusion
from mindformers_vit.report.confusion import Evaluation, answers, evaluation_of

pytestmark = pytest.mark.fast


def batch(labels, index=None, valid=None):
    count = len(labels)
    return {
        "label": np.array(labels, np.int32),
        "index": np.arange(count) if index is None else np.array(index),
        "valid": np.ones(count, bool) if valid is None else np.array(valid),
    }


def test_counts_and_confidence(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (400, 200), "red").save(path)
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [1, 9, 1]]))
    first = answers(batch([0, 2, 1, 0], valid=[True, True, True, False]), logits)
    last = answers(batch([2], index=[3]), np.log(np.array([[0.1, 0.9, 0.0001]])))
    paths, classes = ["0", str(path), "missing.jpg", "3"], ["a", "b\udcff", "c"]
    more = {"metrics": {"Top1 Accuracy": 0.25}, "epoch": 4}
    result = evaluation_of(np.concatenate([first, last]), paths, classes, **more)
    assert evaluation_of(np.concatenate([last, first]), paths, classes, **more) == result
    assert result.images == 4
    assert result.classes == ["a", "b\\udcff", "c"]
    assert result.counts == [(0, 0, 1), (1, 0, 1), (2, 1, 2)]
    assert [(w.file, w.label, w.predicted) for w in result.worst] == [
        ("3", 2, 1), (str(path), 2, 1), ("missing.jpg", 1, 0),
    ]  # fmt: skip
    assert [w.confidence for w in result.worst] == [0.8999, 0.8, 0.6]
    assert [bool(w.picture) for w in result.worst] == [False, True, False]
    with Image.open(io.BytesIO(base64.b64decode(result.worst[1].picture))) as small:
        assert small.size == (128, 64)
    assert Evaluation.model_validate_json(result.model_dump_json()) == result


def test_only_the_surest_mistakes_are_kept():
    wrong = np.log(np.array([[p, 1 - p] for p in np.linspace(0.6, 0.99, 50)]))
    found = answers(batch([1] * 50), wrong)
    worst = evaluation_of(found, [str(k) for k in range(50)], ["a", "b"]).worst
    assert [w.file for w in worst] == [str(k) for k in range(49, 37, -1)]


def test_the_matrix_of_few_classes_and_the_pairs_of_many():
    counts = [(0, 0, 3), (1, 0, 1), (40, 2, 5)]
    few = Evaluation(images=4, classes=["a", "b"], counts=counts[:2], worst=[])
    assert confusion(few).count("<rect class=cell") == 4
    assert "b taken for a: 1" in confusion(few)
    many = Evaluation(images=9, classes=["a", "b"], counts=counts, worst=[])
    assert "<svg" not in confusion(many)
    assert confusion(many).index("class 40") < confusion(many).index(">b<")
