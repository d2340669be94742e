"""The Python of the MAE document, as written there but for names, paths and the package."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mindformers_vit import trainer as trainer_module
from mindformers_vit.errors import CheckpointError, ConfigError
from mindformers_vit.models.mae.mae_config import FAMILY as MAE
from mindformers_vit.models.vit.vit_config import FAMILY as VIT
from tests.engine import lab

DOCUMENT = Path(__file__).parent / "documents" / "mae_model_card.md"
NAME, VIT_NAME = "mae_vit_test_p8", "vit_test_p8"


@pytest.fixture(autouse=True)
def _workplace(tmp_path, monkeypatch):
    """An empty working directory, and the compiled steps of other tests."""
    monkeypatch.chdir(tmp_path)
    lab.share_compiled(monkeypatch)
    with lab.own_process():
        yield


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("images")
    picture = root / "sunflower.png"
    lab.picture(7).save(picture)
    return {
        "train": lab.class_folders(root / "train", 8),
        "val": lab.class_folders(root / "val", 4, first_seed=1000),
        "picture": picture,
    }


@pytest.fixture
def names(tmp_path, monkeypatch):
    """Two more model names: golden-sized, with a recipe each and weights for the first."""
    from mindformers_vit.models.auto import AutoModel

    for family, name, values in ((MAE, NAME, lab.MAE), (VIT, VIT_NAME, lab.VIT)):
        settings = {k: v for k, v in values["model"]["model_config"].items() if k != "type"}
        monkeypatch.setitem(family.variants, name, settings)
        model = {**values["model"]}
        model["model_config"] = model["model_config"] | {"checkpoint_name_or_path": name}
        recipe = {**values, "trainer": {**values["trainer"], "model_name": name}, "model": model}
        lab.write(tmp_path / "repository/configs" / family.name / "run.yaml", recipe)
    monkeypatch.setattr(trainer_module, "PACKAGE", tmp_path / "repository")
    monkeypatch.setenv("CHECKPOINT_DOWNLOAD_FOLDER", str(tmp_path / "weights"))
    network = AutoModel.from_config(NAME, seed=5)
    network.save_pretrained(tmp_path / "weights" / "mae", save_name=NAME)
    (tmp_path / "weights" / "mae" / f"{NAME}.yaml").unlink()
    return network


def snippet(heading: str, images, package: str = "mindformers_vit") -> str:
    """The document's code under a heading, for local files and a small model."""
    text = DOCUMENT.read_text(encoding="utf-8")
    code = re.search(rf"### {heading}.*?```python\n(.*?)```", text, re.DOTALL)[1]
    code = re.sub(r'"https://[^"]*sunflower\.png"', repr(str(images["picture"])), code)
    for old, new in (
        ("from mindformers", f"from {package}"),
        ("mae_vit_base_p16", NAME),
        ("imageNet-1k/train", str(images["train"])),
    ):
        assert old in code or old.startswith("image") or "Trainer" not in heading
        code = code.replace(old, new)
    assert "mindspore.set_context(mode=0, device_id=0)" in code
    return code


def run(code: str) -> dict:
    namespace: dict = {"__name__": "document"}
    exec(compile(code, "document", "exec"), namespace)
    return namespace


def check_reconstruction(result, original_size=(32, 32)):
    assert {"info", "data"} <= result.keys()
    assert isinstance(result["data"], Image.Image)
    assert (result["data"].mode, result["data"].size) == ("RGB", original_size)
    assert result["mask"].shape == (16,) and result["mask"].sum() == 12
    assert Path(result["info"]).is_file()


def test_autoclass(names, images):
    found = run(snippet("基于AutoClass的快速使用", images))
    config = found["config"]
    assert (config.patch_size, config.hidden_size, config.decoder_hidden_size) == (8, 48, 32)
    assert type(found["model"]).__name__ == "ViTMAEForPreTraining"
    from mindformers_vit import AutoModel

    loaded = AutoModel.from_pretrained(NAME)  # the snippet's first model: with the weights
    assert lab.digest(loaded.state_arrays()) == lab.digest(names.state_arrays())
    assert lab.digest(found["model"].state_arrays()) != lab.digest(names.state_arrays())


def test_trainer(names, images, tmp_path, caplog):
    """Train, predict with what was trained, then predict with the weights of the name."""
    code = snippet("基于Trainer的快速训练、推理", images)
    first, second = code.split("# 方式2")
    found = run(first)
    check_reconstruction(found["predict_result"][0])
    assert len(found["predict_result"]) == 1
    newest = lab.checkpoints(tmp_path / "output")[-1].relative_to(tmp_path)
    assert f"weights from {newest}" in caplog.messages
    trained_loss = found["predict_result"][0]["loss"]
    exec(compile("# " + second, "document", "exec"), found)
    check_reconstruction(found["predict_result"][0])
    assert f"weights from {tmp_path}/weights/mae/{NAME}.ckpt" in caplog.messages
    assert found["predict_result"][0]["loss"] != trained_loss
    written = json.loads((tmp_path / "output/masked_image_modeling_result.json").read_text())
    assert written[0]["loss"] == found["predict_result"][0]["loss"]
    assert lab.trained(tmp_path / "output")[1]["global_step"] == 12


def test_pipeline(names, images, tmp_path):
    found = run(snippet("基于Pipeline的快速推理", images))
    (result,) = found["pipeline_result"]
    check_reconstruction(result)
    assert Path(result["info"]).parent == Path("output")


def test_classification_from_pretraining_to_the_names_of_its_classes(names, images, tmp_path):
    """finetune, evaluate, predict of one Trainer; each call stands for itself."""
    from mindformers_vit.trainer import Trainer

    pretrained = tmp_path / "weights" / "mae" / f"{NAME}.ckpt"
    task = Trainer(
        task="image_classification",
        model=VIT_NAME,
        train_dataset=str(images["train"]),
        eval_dataset=str(images["val"]),
    )
    assert task.finetune(finetune_checkpoint=str(pretrained), do_eval=True) is None
    lines = [line for line in lab.metrics(tmp_path / "output") if "Top1 Accuracy" in line]
    metrics = task.evaluate(eval_checkpoint=True)
    assert set(metrics) == {"Top1 Accuracy", "Top5 Accuracy"}
    assert metrics.items() <= lines[-1].items()
    (scores,) = task.predict(predict_checkpoint=True, input_data=str(images["picture"]))
    assert [set(score) for score in scores] == [{"score", "label"}]
    assert scores[0]["label"] in lab.CLASSES
    picture = Image.open(images["picture"])
    found = task.predict("output", input_data=[picture, str(images["picture"])], top_k=3)
    assert [len(result) for result in found] == [3, 3]
    assert sum(score["score"] for score in found[0]) == pytest.approx(1)
    assert {score["label"] for score in found[0]} == set(lab.CLASSES)
    assert found[0] == found[1] and found[0][0] == scores[0]
    # top_k was for that call
    assert len(task.predict("output", input_data=picture)[0]) == 1
    # resumed: nothing left to do, and do_eval was for the first call
    task.finetune("output", resume_training=True)
    assert [x for x in lab.metrics(tmp_path / "output") if "Top1 Accuracy" in x] == lines
    # without a checkpoint it is the name's, which has none
    with pytest.raises(CheckpointError, match=f"no weights for '{VIT_NAME}'"):
        task.evaluate()


def test_a_network_of_the_users_own(names, images, tmp_path):
    """It is trained itself, learns its classes' names, and takes a checkpoint when one is named."""
    from mindformers_vit import AutoConfig, AutoModel
    from mindformers_vit.engine.callbacks.base import Callback
    from mindformers_vit.trainer import Trainer

    config = AutoConfig.from_pretrained(VIT_NAME, num_hidden_layers=1)
    network = AutoModel.from_config(config, seed=3)
    start = network.state_arrays()
    settings = {
        "args": lab.VIT | {"ema": None, "runner_config": {"batch_size": 4}},
        "model": network,
        "train_dataset": str(images["train"]),
        "eval_dataset": str(images["val"]),
    }
    seen = []

    class Count(Callback):
        def on_step_end(self, loop):
            seen.append(loop.global_step)

    Trainer(**settings, callbacks=[Count()]).train()
    assert seen == list(range(1, 7))
    trained = network.state_arrays()
    assert lab.digest(trained) != lab.digest(start)
    assert lab.digest(trained) == lab.digest(lab.saved_network(tmp_path / "output"))
    assert network.config.id2label == dict(enumerate(lab.CLASSES))
    saved = (tmp_path / "output/checkpoint_network/rank_0/network.yaml").read_text()
    assert "bee" in saved
    # evaluated as it is
    after = Trainer(**settings).evaluate()
    # another network, with the checkpoint: the same
    settings["model"] = AutoModel.from_config(config, seed=4)
    assert Trainer(**settings).evaluate(eval_checkpoint=str(tmp_path / "output")) == after
    assert lab.digest(settings["model"].state_arrays()) == lab.digest(trained)
    assert settings["model"].config.id2label == dict(enumerate(lab.CLASSES))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "give args (a yaml) or model (a model name)"),
        ({"model": "mae_vit_tony_p8"}, "(did you mean 'mae_vit_tiny_p8'?)"),
        ({"args": "nowhere.yaml"}, "no file 'nowhere.yaml'"),
        (
            {"args": "configs/mae/run_mae_vit_tiny_p8_48_cpu.yaml", "model": "vit_tiny_p8"},
            "model 'vit_tiny_p8' given, but args is of 'mae_vit_tiny_p8'",
        ),
    ],
)
def test_a_trainer_that_cannot_be(arguments, said):
    from mindformers_vit.trainer import Trainer

    with pytest.raises(ConfigError, match=re.escape(said)):
        Trainer(**arguments)


def test_a_task_that_is_not_the_models(images):
    from mindformers_vit.trainer import Trainer

    task = Trainer(args=lab.MAE, task="image_classification", train_dataset=str(images["train"]))
    with pytest.raises(ConfigError, match="ViTMAEForPreTraining is for 'masked_image_modeling'"):
        task.train()


def test_a_process_that_has_computed_before_the_trainer_comes(images, tmp_path):
    """The order of a notebook: context, network, a forward pass, and only then the Trainer."""
    config = lab.write(tmp_path / "vit.yaml", lab.VIT)
    code = f"""
import mindspore
from mindformers_vit import AutoModel, AutoProcessor, pipeline
from mindformers_vit.trainer import Trainer
from mindformers_vit.tools.image_tools import load_image

mindspore.set_context(mode=0, device_id=0)
model = AutoModel.from_config({str(config)!r})
processor = AutoProcessor.from_pretrained({str(config)!r})
image = load_image({str(images["picture"])!r})
logits = model(mindspore.Tensor(processor(image)))
print(logits.shape)
print(pipeline("image-classification", model=model, image_processor=processor)(image)[0][0])
trainer = Trainer(args={str(config)!r}, model=model, eval_dataset={str(images["val"])!r})
print(trainer.evaluate())
print(trainer.predict(input_data=image))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    shape, first, metrics, scores = done.stdout.strip().splitlines()
    assert shape == "(1, 3)"
    assert first.startswith("{'score': 0.") and "'label': 'LABEL_" in first
    assert metrics.startswith("{'Top1 Accuracy': ")
    assert scores.startswith("[[{'score': 0.")
    assert "Top1 Accuracy = {'Top1 Accuracy': " in done.stderr  # what the command would say


def test_the_plug_in_without_mindformers():
    code = """
import importlib.metadata
def version(name):
    raise importlib.metadata.PackageNotFoundError(name)
importlib.metadata.version = version
import mindformers_vit.plugin
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ImportError: mindformers_vit.plugin needs mindformers >=1.9,<2, found: none; "
        "pip install 'mindformers_vit[mindformers]'"
    )
