"""The pipelines around fake networks: batches, names, results, files, errors."""

import json
import sys
import types

import numpy as np
import pytest
from PIL import Image

from mindformers_vit.errors import ConfigError, DataError
from mindformers_vit.pipelines import pipeline
from tests.pipelines.fakes import (
    Classifier,
    Config,
    PerfectMAE,
    Processor,
    coloured,
    noisy,
)

pytestmark = pytest.mark.fast
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def mae(tmp_path, network=None, processor=None, **options):
    network, processor = network or PerfectMAE(), processor or Processor()
    return pipeline("masked-image-modeling", network, processor, output_dir=tmp_path, **options)


# ---- the factory ----


def test_hyphens_and_underscores_are_one():
    for task in ("image-classification", "image_classification"):
        assert pipeline(task, Classifier(), Processor()).task == "image_classification"


def test_unknown_task_lists_the_known_ones():
    words = "unknown task 'image_clasification'.*did you mean 'image_classification'.*masked_image"
    with pytest.raises(ConfigError, match=words):
        pipeline("image-clasification", Classifier(), Processor())


def test_options_of_another_task_are_refused():
    with pytest.raises(ConfigError) as caught:
        pipeline("image_classification", Classifier(), Processor(), mask_ratio=0.5, seed=1)
    assert caught.value.problems == [
        "mask_ratio: not an option of the task image_classification",
        "seed: not an option of the task image_classification",
    ]


@pytest.mark.parametrize(
    ("task", "network", "options", "words"),
    [
        ("image_classification", PerfectMAE(), {}, "PerfectMAE reconstructs images"),
        ("masked_image_modeling", Classifier(), {}, "Classifier does not reconstruct"),
        ("masked_image_modeling", PerfectMAE(), {"mask_ratio": 0.5}, "built with 0.75"),
        ("masked_image_modeling", PerfectMAE(), {"seed": -1}, "seed: must be"),
        ("image_classification", Classifier(), {"top_k": 0}, "top_k: must be"),
        ("image_classification", Classifier(), {"batch_size": 0}, "batch_size: must be"),
        (
            "image_classification",
            Classifier(),
            {"candidate_labels": "a"},
            "allowed: a list of names, imag",
        ),
        ("image_classification", object(), {}, "object has no config"),
        ("image_classification", Classifier(), {"backend": "pt"}, "'pt' given; allowed: ms"),
        ("image_classification", Classifier(), {"tokenizer": "a"}, "vision models have none"),
    ],
)
def test_what_does_not_fit_is_said(task, network, options, words):
    with pytest.raises(ConfigError, match=words):
        pipeline(task, network, Processor(), **options)


def test_network_without_processor():
    with pytest.raises(ConfigError, match="image_processor: must be given"):
        pipeline("image_classification", Classifier())


def test_names_go_through_the_auto_classes(monkeypatch):
    asked = []

    class Auto:
        def __init__(self, thing):
            self.thing = thing

        def from_pretrained(self, name, **overrides):
            asked.append((name, overrides))
            return self.thing

    auto = types.ModuleType("mindformers_vit.models.auto")
    auto.AutoModel = Auto(PerfectMAE(Config(mask_ratio=0.5)))
    auto.AutoProcessor = Auto(Processor())
    monkeypatch.setitem(sys.modules, "mindformers_vit.models.auto", auto)
    pipeline("masked_image_modeling", mask_ratio=0.5)
    assert asked == [("mae_vit_base_p16", {}), ("mae_vit_base_p16", {"mask_ratio": 0.5})]
    pipeline("masked_image_modeling", "some/folder", "other")
    assert asked[2:] == [("other", {}), ("some/folder", {})]


# ---- classification ----


def test_classification_uses_the_checkpoints_labels():
    pipe = pipeline("image_classification", Classifier({"0": "red", 1: "green"}), Processor())
    results = pipe([coloured(RED), coloured(GREEN, (7, 9)), np.asarray(coloured(BLUE))])
    assert [r[0]["label"] for r in results] == ["red", "green", "LABEL_2"]
    for scores in results:
        assert sum(item["score"] for item in scores) == pytest.approx(1)
        assert [set(item) for item in scores] == [{"score", "label"}] * 3
    assert [len(r) for r in pipe(coloured(RED), top_k=1)] == [1]
    assert len(pipe(np.zeros((2, 5, 5, 3), np.uint8))) == 2


def test_candidate_labels():
    names = ["a", "b", "c"]
    pipe = pipeline("image_classification", Classifier(), Processor(), candidate_labels=names)
    assert pipe(coloured(GREEN))[0][0]["label"] == "b"
    short = pipeline("image_classification", Classifier(), Processor(), candidate_labels=["a"])
    with pytest.raises(ConfigError, match="1 names, but the network has 3 classes"):
        short(coloured(GREEN))
    imagenet = pipeline(
        "image_classification", Classifier(), Processor(), candidate_labels="imagenet"
    )
    with pytest.raises(ConfigError, match="1000 names, but the network has 3 classes"):
        imagenet(coloured(GREEN))


@pytest.mark.parametrize("batch_size", [1, 2, 4, 7])
def test_any_number_of_images_in_one_static_batch(batch_size):
    network = Classifier()
    pipe = pipeline("image_classification", network, Processor(), batch_size=batch_size)
    images = [noisy(k, (10 + k, 20 - k)) for k in range(5)]
    results = pipe(images)
    assert {shape[0] for shape in network.shapes} == {batch_size}
    alone = [pipe(image, batch_size=1)[0] for image in images]
    assert results == alone


def test_classification_writes_names_with_results(tmp_path):
    coloured(RED).save(tmp_path / "r.png")
    coloured(BLUE).save(tmp_path / "b.png")
    pipe = pipeline(
        "image_classification", Classifier({0: "red", 2: "blue"}), Processor(), top_k=1,
        output_dir=tmp_path / "out",
    )  # fmt: skip
    results = pipe(tmp_path)
    lines = (tmp_path / "out" / "image_classification_result.txt").read_text().splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        str(tmp_path / "b.png"), str(tmp_path / "r.png"),
    ]  # fmt: skip
    assert lines[1].split(": ")[1].startswith("red 0.9")
    saved = json.loads((tmp_path / "out" / "image_classification_result.json").read_text())
    assert [entry["predictions"] for entry in saved] == results
    assert saved[0]["file"] == str(tmp_path / "b.png")


def test_save_file(tmp_path):
    target = tmp_path / "new" / "answers.txt"
    pipe = pipeline("image_classification", Classifier(), Processor(), save_file=target)
    pipe(coloured(RED))
    assert target.read_text().startswith("image0: LABEL_0")
    assert json.loads(target.with_suffix(".json").read_text())[0]["file"] == "image0"


def test_a_bad_image_in_a_list_is_named(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no")
    pipe = pipeline("image_classification", Classifier(), Processor(), batch_size=4)
    with pytest.raises(DataError, match=r"bad\.jpg"):
        pipe([coloured(RED), tmp_path / "bad.jpg"])
    with pytest.raises(DataError, match="image1: an array must be"):
        pipe([coloured(RED), np.zeros((3, 3))])


# ---- masked image modeling ----


@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_a_perfect_network_gives_the_picture_back(tmp_path, norm_pix_loss):
    network = PerfectMAE(Config(norm_pix_loss=norm_pix_loss))
    image = noisy(1, (24, 16))
    (result,) = mae(tmp_path, network, Processor(16, 24))(image)
    truth = np.asarray(image).astype(int)
    assert np.array_equal(np.asarray(result["original"]), truth)
    for key in ("data", "reconstruction"):
        assert result[key].mode == "RGB"
        assert np.abs(np.asarray(result[key]) - truth).max() <= 1
    assert result["mask"].shape == (24,)
    assert result["mask"].sum() == 18
    grey = (np.asarray(result["masked"]) == 128).all(-1).sum()
    assert grey >= 18 * 16
    assert result["loss"] == pytest.approx(0, abs=1e-6)
    with Image.open(result["info"]) as sheet:
        assert sheet.format == "PNG"
        assert sheet.size == (4 * (24 * 9 + 5) - 5, 16 * 9)


def test_loss_is_the_images_own(tmp_path):
    results = mae(tmp_path, PerfectMAE(error=0.1), batch_size=2)([noisy(0), noisy(1), noisy(2)])
    assert [r["loss"] for r in results] == pytest.approx([0.01] * 3, rel=1e-4)


def test_files_carry_the_inputs_names_and_never_overwrite(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        noisy(3).save(tmp_path / folder / "cat.png")
    out = tmp_path / "out"
    pipe = mae(out, batch_size=3)
    sources = [tmp_path / "a" / "cat.png", tmp_path / "b" / "cat.png", noisy(4), noisy(5)]
    first, again = pipe(sources), pipe(noisy(6))
    names = [r["info"].removeprefix(f"{out}/") for r in first + again]
    assert names == [
        "cat_reconstruction.png", "cat_reconstruction_2.png", "image2_reconstruction.png",
        "image3_reconstruction.png", "image0_reconstruction.png",
    ]  # fmt: skip
    assert pipe(noisy(6))[0]["info"].endswith("image0_reconstruction_2.png")
    assert all((out / name).is_file() for name in names)
    (record,) = json.loads((out / "masked_image_modeling_result.json").read_text())
    assert record["file"] == "image0"


def test_masks_are_a_function_of_seed_and_position(tmp_path):
    images = [noisy(k) for k in range(5)]
    masks = [r["mask"] for r in mae(tmp_path, batch_size=1)(images)]
    other_batches = [r["mask"] for r in mae(tmp_path, batch_size=3)(images)]
    other_seed = [r["mask"] for r in mae(tmp_path, seed=1)(images)]
    assert np.array_equal(masks, other_batches)
    assert not np.array_equal(masks, other_seed)
    assert not np.array_equal(masks[0], masks[1])


def test_static_batch_and_mixed_sizes(tmp_path):
    network = PerfectMAE()
    results = mae(tmp_path, network, batch_size=4)([noisy(k, (9 + 8 * k, 30)) for k in range(6)])
    assert network.shapes == [(4, 3, 16, 16)] * 2
    assert len(results) == 6


def test_an_output_dir_that_is_a_file(tmp_path):
    (tmp_path / "f").write_text("")
    with pytest.raises(DataError, match="output_dir"):
        mae(tmp_path / "f")(noisy(0))
