"""The MAE document's three examples, through this package and through MindFormers: same numbers."""

import mindformers
import numpy as np
import pytest

from mindformers_vit.models.auto import AutoModel
from tests.engine import lab
from tests.test_python_surface import NAME, VIT_NAME, check_reconstruction, run, snippet
from tests.test_python_surface import images as images
from tests.test_python_surface import names as names


@pytest.fixture
def both(workplace, names, images, monkeypatch):
    """heading -> what the example leaves behind, by this package and by MindFormers."""

    def run_both(heading):
        found = []
        for package in ("mindformers_vit", "mindformers"):
            (workplace / package).mkdir()
            monkeypatch.chdir(workplace / package)
            code = snippet(heading, images, package)
            assert f"from {package}" in code
            found.append(run(code))
        return found

    return run_both


def assert_same_picture(ours, theirs):
    check_reconstruction(theirs)
    assert ours["info"] == theirs["info"]
    assert ours["loss"] == theirs["loss"] > 0
    assert np.array_equal(ours["mask"], theirs["mask"])
    assert np.array_equal(np.asarray(ours["data"]), np.asarray(theirs["data"]))


def test_autoclass(both, names):
    ours, theirs = both("基于AutoClass的快速使用")
    assert theirs["AutoModel"] is mindformers.AutoModel
    assert theirs["config"] == ours["config"]
    assert type(theirs["model"]) is type(ours["model"])
    assert str(theirs["model"]) == str(ours["model"])
    assert lab.digest(theirs["model"].state_arrays()) == lab.digest(ours["model"].state_arrays())
    loaded = mindformers.AutoModel.from_pretrained(NAME)  # the example's first model
    assert lab.digest(loaded.state_arrays()) == lab.digest(names.state_arrays())


def test_trainer(both, workplace):
    ours, theirs = both("基于Trainer的快速训练、推理")
    assert theirs["Trainer"] is mindformers.Trainer
    lab.assert_same(workplace / "mindformers_vit/output", workplace / "mindformers/output")
    assert lab.trained(workplace / "mindformers/output")[1]["global_step"] == 12
    (one,), (other,) = ours["predict_result"], theirs["predict_result"]
    assert_same_picture(one, other)


def test_pipeline(both):
    ours, theirs = both("基于Pipeline的快速推理")
    (one,), (other,) = ours["pipeline_result"], theirs["pipeline_result"]
    assert_same_picture(one, other)


def test_a_classifier_from_fine_tuning_to_its_labels(workplace, names, images, monkeypatch):
    """What the document leaves to a table: the other task, with evaluation."""
    found = []
    for package in (__import__("mindformers_vit"), mindformers):
        folder = workplace / package.__name__
        folder.mkdir()
        monkeypatch.chdir(folder)
        task = package.Trainer(
            task="image_classification",
            model=VIT_NAME,
            train_dataset=str(images["train"]),
            eval_dataset=str(images["val"]),
        )
        start = str(workplace / "weights" / "mae" / f"{NAME}.ckpt")
        assert task.finetune(finetune_checkpoint=start) is None
        metrics = task.evaluate(eval_checkpoint=True)
        picture = str(images["picture"])
        scores = task.predict(predict_checkpoint=True, input_data=picture, top_k=3)
        model = AutoModel.from_pretrained("output")
        processor = package.AutoProcessor.from_pretrained("output")
        pipe = package.pipeline("image_classification", model=model, image_processor=processor)
        found.append((metrics, scores, pipe(picture, top_k=3)))
    ours, theirs = found
    assert ours == theirs
    metrics, scores, piped = theirs
    assert set(metrics) == {"Top1 Accuracy", "Top5 Accuracy"}
    assert scores == piped and len(scores[0]) == 3
    lab.assert_same(workplace / "mindformers_vit/output", workplace / "mindformers/output")
