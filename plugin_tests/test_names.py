"""Every name, task and yaml of ours that MindFormers is asked for; what is its own stays so."""

import importlib.metadata
import re

import mindformers
import numpy as np
import pytest
from mindformers.dataset.transforms.build_transforms import build_transforms
from mindformers.models.build_config import build_model_config
from mindformers.models.build_model import build_model
from mindformers.models.build_processor import build_processor
from mindformers.pipeline.build_pipeline import build_pipeline
from mindformers.tools.register import MindFormerModuleType as Kind
from mindformers.tools.register import MindFormerRegister
from mindspore import Tensor

import mindformers_vit
from mindformers_vit import plugin
from mindformers_vit.config.loader import load_yaml
from mindformers_vit.errors import ConfigError
from mindformers_vit.losses import soft_target_cross_entropy
from mindformers_vit.registry import callbacks, families, transforms
from mindformers_vit.trainer import Trainer, recipe_of
from tests.engine import lab
from tests.test_all_models import TINY

NAMES = [(f, name) for f in families() for name in (*f.variants, *f.aliases)]
AUTO = ("AutoConfig", "AutoModel", "AutoProcessor")


@pytest.mark.parametrize(("family", "name"), NAMES, ids=[name for _, name in NAMES])
def test_a_name(family, name):
    config = mindformers.AutoConfig.from_pretrained(name)
    assert config == mindformers_vit.AutoConfig.from_pretrained(name)
    processor = mindformers.AutoProcessor.from_pretrained(f"mindspore/{name}")
    assert processor == mindformers_vit.AutoProcessor.from_pretrained(name)
    for auto in AUTO:
        assert name in getattr(mindformers, auto).get_support_list()[family.name]
    hyphens = family.task.replace("_", "-")
    for task in (family.task, hyphens):
        trainer = mindformers.Trainer(task=task, model=name)
        assert isinstance(trainer, Trainer)
        assert trainer._values["trainer"]["type"] == family.task
        assert trainer._values["model"] == load_yaml(recipe_of(name))["model"]
        book = mindformers.MindFormerBook
        for listed in (book.get_trainer_support_task_list, book.get_pipeline_support_task_list):
            assert listed()[task][name] == str(recipe_of(name))


@pytest.mark.parametrize(("family", "name"), TINY, ids=[name for _, name in TINY])
def test_a_network_built_saved_and_asked(family, name, workplace):
    """Through the classes, and through the builders of the register."""
    (found,) = [f for f in families() if f.name == family]
    config = mindformers.AutoConfig.from_pretrained(name)
    network = mindformers.AutoModel.from_config(config)
    settings = {"type": type(config).__name__, **found.variants[name]}
    assert build_model_config(settings) == found.config_class(**found.variants[name])
    section = {"arch": {"type": found.arch}, "model_config": settings}
    built = build_model(mindformers.MindFormerConfig(**section))
    assert lab.digest(built.state_arrays()) == lab.digest(network.state_arrays())
    network.save_pretrained("saved")
    loaded = mindformers.AutoModel.from_pretrained("saved")
    assert lab.digest(loaded.state_arrays()) == lab.digest(network.state_arrays())
    processor = mindformers.AutoProcessor.from_pretrained("saved")
    assert build_processor(processor.to_dict()) == processor
    picture = lab.picture(7)
    given = {"model": network, "image_processor": processor}
    ours = mindformers_vit.pipeline(found.task, **given)(picture)[0]
    answers = [
        mindformers.pipeline(found.task, model="saved")(picture)[0],
        mindformers.pipeline(found.task.replace("_", "-"), **given)(picture)[0],
        build_pipeline(class_name=found.task, **given)(picture)[0],
    ]
    if found.task == "masked_image_modeling":
        ours, answers = ours["loss"], [answer["loss"] for answer in answers]
    assert answers == [ours] * 3


def test_the_register_knows_our_names():
    known = [
        *((Kind.CONFIG, f.config_class.__name__) for f in families()),
        *((Kind.MODELS, f.arch) for f in families()),
        *((Kind.PROCESSOR, f.load_processor_class().__name__) for f in families()),
        *((kind, f.task) for f in families() for kind in (Kind.TRAINER, Kind.PIPELINE)),
        *((Kind.TRANSFORMS, name) for name in transforms.names()),
        *((Kind.CALLBACK, name) for name in callbacks.names()),
        (Kind.LOSS, "SoftTargetCrossEntropy"),
    ]
    assert len(known) > 40
    assert [item for item in known if not MindFormerRegister.is_exist(*item)] == []


def test_names_that_mindformers_has_itself_stay_its_own():
    for kind, name in ((Kind.CALLBACK, "MFLossMonitor"), (Kind.TRANSFORMS, "RandomResizedCrop")):
        assert MindFormerRegister.get_cls(kind, name).__module__.startswith("mindformers.")
    assert MindFormerRegister.get_cls(Kind.CALLBACK, "ObsMonitor") is callbacks.get("ObsMonitor")


def test_what_the_register_makes_computes():
    logits = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    target = np.full((4, 3), 1 / 3, np.float32)
    loss = MindFormerRegister.get_instance(Kind.LOSS, "SoftTargetCrossEntropy")
    arguments = Tensor(logits), Tensor(target)
    assert float(loss(*arguments)) == float(soft_target_cross_entropy(*arguments))
    step = build_transforms({"type": "rand_augment_transform", "config_str": "rand-m9-mstd0.5"})
    pictures = [np.asarray(step(lab.picture(3))) for _ in range(8)]
    assert {picture.shape for picture in pictures} == {(40, 48, 3)}
    assert len({picture.tobytes() for picture in pictures}) > 1


def test_a_yaml_of_ours_is_not_filled_in_and_theirs_is():
    path = recipe_of("mae_vit_base_p16")  # with image_size, which MindFormers' template refuses
    assert mindformers.MindFormerConfig(str(path)).to_dict()["runner_config"]["image_size"] == 224
    book = mindformers.MindFormerBook.get_trainer_support_task_list()
    theirs = mindformers.MindFormerConfig(book["general"]["common"])
    assert theirs.load_ckpt_format == "ckpt"  # not in the file


def test_what_is_not_ours_is_answered_by_mindformers():
    with pytest.raises(ValueError, match="model must be in") as error:
        mindformers.Trainer(task="text_generation", model="mae_vit_bsae_p16")
    assert "glm4_9b" in str(error.value)
    with pytest.raises(ValueError, match="not a supported model type"):
        mindformers.AutoModel.from_pretrained("nothing_p16")
    with pytest.raises(KeyError, match="model must be in"):
        mindformers.pipeline("text_generation", model="mae_vit_base_p16")
    with pytest.raises(ValueError, match="task must be in"):
        mindformers.Trainer(task="object_detection", args=str(recipe_of("vit_base_p16"))[:-5])


def test_arguments_that_mean_nothing_here():
    said = "mindformers.Trainer: not for vision models as given: callbacks, optimizers"
    with pytest.raises(ConfigError, match=re.escape(said)):
        mindformers.Trainer(
            task="image_classification",
            model="vit_base_p16",
            optimizers=object(),
            callbacks=[mindformers.MFLossMonitor()],
            pet_method="",
        )


@pytest.mark.parametrize("found", ["1.6.0", "0.8", "2.0.0", None])
def test_another_version_of_mindformers(found, monkeypatch):
    def version(name):
        if found is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(importlib.metadata, "version", version)
    said = f"mindformers_vit.plugin needs mindformers >=1.9,<2, found: {found or 'none'}; "
    with pytest.raises(ImportError, match=re.escape(said)) as error:
        plugin._check_version()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("found", ["1.9.0", "1.10.1", "1.9.0rc1"])
def test_versions_that_will_do(found, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: found)
    plugin._check_version()
