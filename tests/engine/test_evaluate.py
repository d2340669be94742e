"""Every image counts once, whatever the batch size, and by whichever way it is evaluated."""

import json
import re
import shutil

import numpy as np
import pytest

from mindformers_vit.checkpoint.weights import read_weights
from mindformers_vit.data.rng import sample_noise
from mindformers_vit.data.sources import open_source
from mindformers_vit.models.auto import AutoModel, AutoProcessor
from mindformers_vit.models.mae.convert_weight import convert_weight as convert_mae
from mindformers_vit.models.mae.mae_config import ViTMAEConfig
from mindformers_vit.models.vit.convert_weight import convert_weight as convert_vit
from mindformers_vit.models.vit.vit_config import ViTConfig
from mindformers_vit.pipeline import pipeline
from tests.engine import lab
from tests.engine.lab import command, metrics, picture
from tests.models.conftest import GOLDENS, MAE_TINY, UNTOLD, VIT_TINY

NAMES = {index: f"class{index}" for index in range(10)}


def set_mode(mode):
    from mindformers_vit import compat

    compat.set_device("CPU", mode=mode)


def saved(tmp, convert, name, config):
    """A model directory with the weights of a golden."""
    path = tmp / "golden.safetensors"
    family = name.partition("_")[0]
    convert(GOLDENS / name / "weights.pth", path, settings=UNTOLD[family])
    network = AutoModel.from_config(config)
    network.load_arrays(read_weights(path))
    return network.save_pretrained(tmp / "model", save_name="network")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("vit")
    config = ViTConfig(**VIT_TINY, id2label=NAMES)
    return saved(tmp, convert_vit, "vit_mean_pool_tiny", config)


@pytest.fixture(scope="module")
def predicted(classifier) -> list[int]:
    """The class that the network gives to each of 23 pictures, one at a time."""
    import mindspore as ms

    set_mode(1)  # one at a time there is little to win by compiling
    network = AutoModel.from_pretrained(classifier)
    processor = AutoProcessor.from_pretrained(classifier)
    network.set_train(False)
    images = [picture(seed) for seed in range(23)]
    return [int(network(ms.Tensor(processor(i))).asnumpy()[0].argmax()) for i in images]


@pytest.fixture(scope="module")
def images(predicted, tmp_path_factory):
    """23 images in 10 class folders, some of them where the network would put them, not all."""
    root = tmp_path_factory.mktemp("val")
    labels = [found if number % 3 else number % 10 for number, found in enumerate(predicted)]
    labels[:10] = range(10)  # no folder is empty
    for number, label in enumerate(labels):
        folder = root / "folders" / NAMES[label]
        folder.mkdir(parents=True, exist_ok=True)
        picture(number).save(folder / f"{number:03}.png")
    flat = root / "flat"
    flat.mkdir()
    for path in (root / "folders").rglob("*.png"):
        shutil.copy(path, flat)
    lines = [f"{number:03}.JPEG {label}\n" for number, label in enumerate(labels)]
    (root / "labels.txt").write_text("".join(lines))
    hits = sum(found == label for found, label in zip(predicted, labels, strict=True))
    assert 5 < hits < 20  # so that a lost or doubled image shows
    return root, labels, hits


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    model = {
        "arch": {"type": "ViTForImageClassification"},
        "model_config": {"type": "ViTConfig", **VIT_TINY},
    }
    values = {**lab.VIT, "model": model, "ema": None}
    return lab.write(tmp_path_factory.mktemp("config") / "vit.yaml", values)


def evaluate(config, model, data, out, *flags) -> int:
    flags = ("--run_mode", "eval", "--load_checkpoint", str(model), *flags)
    return command(config, out, *flags, "--eval_dataset_dir", str(data))


@pytest.mark.parametrize(("batch", "workers"), [(8, 0), (1, 2)])
def test_every_image_counts_once(config, classifier, images, batch, workers, tmp_path, capsys):
    root, _, hits = images
    flags = (f"--eval_dataset.batch_size={batch}", f"--eval_dataset.num_parallel_workers={workers}")
    assert evaluate(config, classifier, root / "folders", tmp_path, *flags) == 0
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-3] == "23 images evaluated, each once"
    assert said[-2] == f"Top1 Accuracy = {{'Top1 Accuracy': {hits / 23}}}"
    assert re.fullmatch(r"Top5 Accuracy = \{'Top5 Accuracy': [01]\.\d+\}", said[-1])
    result = json.loads((tmp_path / "eval_result.json").read_text())
    assert result["images"] == 23
    assert result["metrics"]["Top1 Accuracy"] == hits / 23
    top5 = result["metrics"]["Top5 Accuracy"] * 23
    assert top5 == pytest.approx(round(top5)) and hits < top5 <= 23


def test_a_flat_folder_with_a_label_file(config, classifier, images, tmp_path, capsys):
    root, _, hits = images
    flags = (f"--eval_dataset.data_loader.label_file={root / 'labels.txt'}",)
    assert evaluate(config, classifier, root / "flat", tmp_path, *flags) == 0
    assert f"Top1 Accuracy = {{'Top1 Accuracy': {hits / 23}}}" in capsys.readouterr().err


def test_the_pipeline_agrees_to_the_last_image(classifier, images, predicted):
    set_mode(0)
    root, labels, hits = images
    task = pipeline("image_classification", model=str(classifier), batch_size=8, top_k=1)
    paths = sorted((root / "flat").glob("*.png"))
    found = [result[0]["label"] for result in task(paths)]
    assert found == [NAMES[index] for index in predicted]
    assert sum(a == NAMES[b] for a, b in zip(found, labels, strict=True)) == hits


def test_num_samples(config, classifier, images, tmp_path):
    root, *_ = images
    assert evaluate(config, classifier, root / "folders", tmp_path, "--num_samples", "11") == 0
    assert json.loads((tmp_path / "eval_result.json").read_text())["images"] == 11


def test_other_preprocessing_than_the_weights_is_said(config, classifier, images, tmp_path, capsys):
    root, *_ = images
    flags = ("--num_samples", "3", "--processor.image_processor.mean=[0.5, 0.5, 0.5]")
    assert evaluate(config, classifier, root / "folders", tmp_path, *flags) == 0
    said = capsys.readouterr().err
    assert (
        f"processor.image_processor.mean: [0.5, 0.5, 0.5] is used, but "
        f"{classifier / 'network.ckpt'} was saved with [0.485, 0.456, 0.406]\n"
    ) in said
    assert said.count("processor.image_processor") == 1


def test_class_folders_that_are_not_the_weights_classes(
    config, classifier, images, tmp_path, capsys
):
    root, *_ = images
    other = tmp_path / "other"
    shutil.copytree(root / "folders", other)
    (other / "class3").rename(other / "class33")
    assert evaluate(config, classifier, other, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "class folder 3 is 'class33', but class 3 of the weights is 'class3' (1 of 10" in said


# ---- masked image modeling


def test_the_reconstruction_loss_is_the_mean_over_images(mae_yaml, images, tmp_path):
    import mindspore as ms

    root, *_ = images
    model = saved(tmp_path, convert_mae, "mae_pretrain_tiny", ViTMAEConfig(**MAE_TINY))
    losses = []
    for batch in (8, 5):
        out, flag = tmp_path / f"out{batch}", f"--eval_dataset.batch_size={batch}"
        assert evaluate(mae_yaml, model, root / "folders", out, flag) == 0
        found = json.loads((out / "eval_result.json").read_text())
        assert found["images"] == 23
        losses.append(found["metrics"]["Loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    set_mode(1)
    network = AutoModel.from_pretrained(model)
    network.set_train(False)
    processor = AutoProcessor.from_pretrained(model)
    single = []
    for index, path in enumerate(open_source(root / "folders", labelled=False).paths):
        noise = ms.Tensor(sample_noise(0, 0, index, "mask", 16)[None])
        single.append(float(network(ms.Tensor(processor(path)), noise)[0].asnumpy()))
    assert np.std(single) > 1e-2  # so that a padded image would show
    assert losses[0] == pytest.approx(np.mean(single), rel=1e-5)


# ---- evaluation during training


@pytest.mark.usefixtures("shared_steps")
def test_training_evaluates_the_averaged_weights_that_it_saves(
    unbroken, vit_yaml, eval_dir, tmp_path
):
    """The last accuracy of the training is that of the network it leaves."""
    lines = [line for line in metrics(unbroken["vit"]) if "Top1 Accuracy" in line]
    assert [line["step"] for line in lines] == [3, 6]
    assert evaluate(vit_yaml, unbroken["vit"], eval_dir, tmp_path / "eval") == 0
    result = json.loads((tmp_path / "eval" / "eval_result.json").read_text())
    assert result["metrics"].items() <= lines[-1].items()
    tensors, _ = lab.trained(unbroken["vit"])
    for name, value in lab.saved_network(unbroken["vit"]).items():
        assert value.tobytes() == tensors[f"ema.{name}"].tobytes(), name
        assert name.endswith("pos_embed") or value.tobytes() != tensors[name].tobytes(), name
