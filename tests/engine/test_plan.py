"""Every contradiction is refused before the first step, all at once, with the dotted path."""

from pathlib import Path

import pytest
import yaml

from mindformers_vit.config.loader import load_yaml, set_dotted
from mindformers_vit.engine.output import config_text
from mindformers_vit.engine.plan import make_plan
from mindformers_vit.engine.resume import _MAY_CHANGE, _as_of_now, _changes
from mindformers_vit.errors import ConfigError

pytestmark = pytest.mark.fast
ROOT = Path(__file__).parents[2]
MAE = ROOT / "configs/mae/run_mae_vit_tiny_p8_48_cpu.yaml"
VIT = ROOT / "configs/vit/run_vit_tiny_p8_48_cpu.yaml"
VIT_BASE = ROOT / "configs/vit/run_vit_base_p16_224_100ep.yaml"


def problems(path: Path, **changes: object) -> list[str]:
    values = load_yaml(path)
    for key, value in changes.items():
        values = set_dotted(values, key.replace("__", "."), value)
    with pytest.raises(ConfigError) as error:
        make_plan(values)
    return error.value.problems


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("seeed", "seeed: unknown key (did you mean 'seed'?)"),
        (
            "context.devce_target",
            "context.devce_target: unknown key (did you mean 'device_target'?)",
        ),
        ("runner_config.epoch", "runner_config.epoch: unknown key (did you mean 'epochs'?)"),
        ("runner_wrapper.use_clip", "runner_wrapper.use_clip: unknown key"),
        ("runner_wrapper.scale_sense.loss_scale", "runner_wrapper.scale_sense.loss_scale: unknown"),
        ("trainer.modelname", "trainer.modelname: unknown key (did you mean 'model_name'?)"),
        ("train_dataset.transform", "train_dataset.transform: unknown key"),
        ("train_dataset.data_loader.dir", "train_dataset.data_loader.dir: unknown key"),
        ("train_dataset.transforms.0.sise", "train_dataset.transforms.0.sise: unknown key"),
        ("model.archh", "model.archh: unknown key"),
        ("model.model_config.hiden_size", "(did you mean 'hidden_size'?)"),
        ("lr_schedule.warmup_epoch", "lr_schedule.warmup_epoch: unknown key"),
        ("optimizer.betas", "optimizer.betas: unknown key"),
        ("callbacks.2.prefx", "callbacks.2.prefx: unknown key (did you mean 'prefix'?)"),
        ("processor.image_procesor", "processor.image_procesor: unknown key"),
        ("processor.image_processor.sizes", "processor.image_processor.sizes: unknown key"),
        ("predict.topk", "predict.topk: unknown key (did you mean 'top_k'?)"),
    ],
)
def test_a_typo_in_any_section(key, said):
    values = set_dotted(load_yaml(MAE), key, 1)
    with pytest.raises(ConfigError) as error:
        make_plan(values)
    assert any(said in line for line in error.value.problems), error.value.problems


def test_all_problems_come_together():
    found = problems(
        VIT,
        runner_config__epochs=-1,
        model__model_config__patch_size=7,
        train_dataset__transforms=[{"type": "RandomResizedCorp", "size": 64}],
        callbacks=[{"type": "LossMonitr"}],
        optimizer__beta1=2.0,
    )
    text = "\n".join(found)
    assert len(found) >= 5
    for words in ("runner_config.epochs", "patch_size 7", "RandomResizedCrop", "LossMonitor"):
        assert words in text
    assert "optimizer.beta1" in text


@pytest.mark.parametrize(
    ("path", "changes", "said"),
    [
        (VIT, {"lr_schedule__warmup_epochs": 60}, "the learning rate would never reach its peak"),
        (VIT, {"runner_config__num_classes": 10}, "num_classes: 10 given, but"),
        (VIT, {"runner_config__image_size": 32}, "runner_config.image_size: 32 given, but"),
        (VIT, {"trainer__type": "masked_image_modeling"}, "is for 'image_classification'"),
        (
            VIT,
            {"use_parallel": True},
            "use_parallel: True given, but the environment names no rank",
        ),
        (VIT, {"model__arch__type": "ViTForImageClasification"}, "did you mean 'ViTForImageC"),
        (VIT, {"model__model_config__type": "ViTMAEConfig"}, "takes 'ViTConfig'"),
        (VIT, {"processor__type": "ViTMAEProcessor"}, "takes 'ViTProcessor'"),
        (VIT, {"model__model_config__image_size": 60}, "60 is not divisible by patch_size 8"),
        (VIT, {"context__device_target": "TPU"}, "context.device_target: input should be 'auto'"),
        (VIT, {"optimizer__eps": float("nan")}, "optimizer.eps"),
        (MAE, {"train_dataset__mask_policy": {"mask_ratio": 0.5}}, "mask_policy.mask_ratio: 0.5"),
        (MAE, {"model__model_config__mask_ratio": 0.999}, "at least one must be visible"),
        (VIT, {"model__model_config__num_channels": 1}, "48 x 48 pixels with 3 channels, but the"),
        (MAE, {"model__model_config__image_size": 32}, "takes 32 x 32 pixels with 3 channels"),
        (VIT_BASE, {"train_dataset__label_smoothing": 0.1}, "mixup_op has a label_smoothing"),
        (VIT_BASE, {"runner_config__batch_size": 31}, "so it must be even, given 31"),
        (VIT, {"eval_dataset__repeated_augmentation": 3}, "it belongs to train_dataset"),
        (
            VIT,
            {"parallel": {"enable_parallel_optimizer": True}},
            "parallel.enable_parallel_optimizer: True given, but MindSpore shards only",
        ),
        (
            VIT,
            {"parallel_config": {"optimizer_shard": True, "pipeline_stage": 2}},
            "parallel_config.pipeline_stage: 2 given, but each card has the whole network",
        ),
        (VIT, {"lr_schedule__cooldown_epochs": 2}, "an option of type cosine_by_epoch only"),
        (
            VIT,
            {"lr_schedule__type": "cosine_by_epoch", "lr_schedule__cooldown_epochs": 35},
            "the run has 30 epochs (runner_config.epochs): none is left between",
        ),
        (
            VIT,
            {"lr_schedule__type": "cosine_by_epoch", "lr_schedule__total_steps": 9},
            "takes warmup_epochs, not warmup_steps or total_steps",
        ),
    ],
)
def test_contradictions(path, changes, said):
    found = problems(path, **changes)
    assert any(said in line for line in found), found


def test_a_list_where_a_section_belongs():
    assert any(line.startswith("optimizer:") for line in problems(VIT, optimizer=[1]))


def test_a_section_that_is_missing():
    values = load_yaml(VIT)
    del values["model"]
    with pytest.raises(ConfigError, match="model: missing"):
        make_plan(values)


def test_the_mask_ratio_of_a_prediction_is_the_networks():
    values = set_dotted(load_yaml(MAE), "predict.mask_ratio", 0.9)
    assert make_plan(values).network.mask_ratio == 0.75
    assert make_plan(set_dotted(values, "run_mode", "predict")).network.mask_ratio == 0.9


def test_label_maps_are_for_networks_with_a_loss_of_tokens():
    found = problems(VIT, train_dataset__data_loader__label_map_dir="maps")
    path = "train_dataset.data_loader.label_map_dir"
    assert found == [f"{path}: a ViTConfig has no loss of its tokens; LV-ViT has"]


def test_a_checkpoint_of_before_a_setting_was_invented_can_be_resumed():
    now = config_text(make_plan(load_yaml(MAE)))
    values = yaml.safe_load(now)
    del values["train_dataset"]["repeated_augmentation"]
    del values["optimizer"]["eps"]
    before = yaml.safe_dump(values)
    assert _changes(_as_of_now(before, "a"), yaml.safe_load(now), ()) == ""
    values["optimizer"] |= {"beta1": 0.5, "gone": 1}
    other = _as_of_now(yaml.safe_dump(values), "a")
    assert "optimizer.beta1: 0.5 there" in _changes(other, yaml.safe_load(now), ())
    assert "optimizer.gone: 1 there, not set here" in _changes(other, yaml.safe_load(now), ())


def test_what_makes_the_pixels_or_the_targets_may_not_change_in_a_run():
    """Where label maps lie may; and the processor where the training images have transforms."""
    key = "train_dataset.data_loader.label_map_dir"
    plain = load_yaml(ROOT / "configs/lvvit/run_lvvit_tiny_cpu.yaml")

    def text(values: dict, *changes: tuple[str, object]) -> dict:
        for name, value in changes:
            values = set_dotted(values, name, value)
        return yaml.safe_load(config_text(make_plan(values)))

    maps = text(plain, (key, "maps"))
    assert _changes(maps, text(plain, (key, "moved")), _MAY_CHANGE) == ""
    assert _changes(maps, text(plain), _MAY_CHANGE) == f"  {key}: maps there, not set here"
    assert _changes(text(plain), maps, _MAY_CHANGE) == f"  {key}: not set there, maps here"
    size, mean = "processor.image_processor.size", "processor.image_processor.mean"
    two = [text(load_yaml(MAE), (size, 48), (mean, [n, n, n])) for n in (0.4, 0.5)]
    assert _changes(*two, _MAY_CHANGE) == ""
    no_transforms = ("train_dataset.transforms", [])
    two = [text(load_yaml(MAE), no_transforms, (mean, [n, n, n])) for n in (0.4, 0.5)]
    assert f"  {mean}.0: 0.4 there, 0.5 here" in _changes(*two, _MAY_CHANGE)
