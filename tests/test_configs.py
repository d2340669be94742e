"""Every yaml of the repository is a valid run, and says at its head what it is."""

from functools import cache
from pathlib import Path

import pytest

from mindformers_vit.config.loader import PACKAGE, find_config, load_yaml
from mindformers_vit.engine.plan import make_plan
from mindformers_vit.registry import find_model

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
MINDFORMERS = sorted((ROOT / "tests" / "mindformers_yaml").glob("*.yaml"))
pytestmark = pytest.mark.fast


@cache
def plan_of(path):
    """Every test looks at it, none changes it."""
    return make_plan(load_yaml(path))


def test_all_are_found():
    assert len(CONFIGS) == 32
    assert len(MINDFORMERS) == 2


def test_they_come_with_the_package(tmp_path, monkeypatch):
    """An installed package holds them as files, the repository as a link."""
    assert sorted(path.resolve() for path in PACKAGE.glob("configs/*/*.yaml")) == CONFIGS
    project = (ROOT / "pyproject.toml").read_text()
    assert 'mindformers_vit = ["configs/*/*.yaml", ' in project
    monkeypatch.chdir(tmp_path)
    assert find_config(CONFIGS[0].relative_to(ROOT)).resolve() == CONFIGS[0]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_config_is_a_valid_run_without_warnings(path):
    plan = plan_of(path)
    assert plan.warnings == ()
    head = path.read_text().partition("\nseed")[0]
    assert head.startswith("# ") and "xpected" in head


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_config_describes_the_model_it_names(path):
    plan = plan_of(path)
    family, name = find_model(plan.run.trainer.model_name)
    network = family.config_class(**family.variants[name])
    skip = {"checkpoint_name_or_path", "drop_path_rate", "num_labels", "id2label"}
    if getattr(plan.network, "linear_probe", False):  # of the encoder that it names
        skip |= {"linear_probe", "use_mean_pooling"}
    assert plan.network.model_dump(exclude=skip) == network.model_dump(exclude=skip)


@pytest.mark.parametrize("path", MINDFORMERS, ids=lambda p: p.name)
def test_mindformers_yaml_is_accepted_with_one_warning(path):
    plan = plan_of(path)
    assert len(plan.warnings) == 1
    assert "moe_config" in plan.warnings[0]
    assert "CheckpointMointor read as CheckpointMonitor" in plan.warnings[0]


def test_the_mae_warning_names_the_slips():
    plan = plan_of(MINDFORMERS[0])
    assert "118.575" in plan.warnings[0]
    assert "to 25 % of its peak" in plan.warnings[0]


def test_our_recipes_differ_from_mindformers_only_where_said():
    ours = plan_of(ROOT / "configs/mae/run_mae_vit_base_p16_224_800ep.yaml")
    theirs = plan_of(MINDFORMERS[0])
    assert ours.network == theirs.network
    assert ours.run.optimizer == theirs.run.optimizer
    assert (ours.run.runner_config.epochs, theirs.run.runner_config.epochs) == (800, 10)
    assert ours.run.lr_schedule.warmup_epochs == theirs.run.lr_schedule.warmup_epochs == 40


def test_recipes_average_cool_down_and_repeat_as_published():
    """facts of the reference repositories: EMA decay, cooldown, copies of an image, label maps."""
    found = {}
    for path in CONFIGS:
        run = plan_of(path).run
        assert run.train_dataset is not None
        data = run.train_dataset
        maps = data.data_loader.label_map_dir is not None
        decay = run.ema.decay if run.ema else None
        schedule = run.lr_schedule
        by_epoch = schedule.cooldown_epochs if schedule.type == "cosine_by_epoch" else None
        found[path.stem.removeprefix("run_")] = decay, by_epoch, data.repeated_augmentation, maps
    for name, settings in found.items():
        if name.startswith("lvvit") and "cpu" not in name:
            assert settings == (0.99992, 10 if "224" in name else None, 1, True), name
        elif name.startswith("smlpnet") and "cpu" not in name:
            assert settings == (0.99996, 0, 3, False), name
        else:
            assert settings == (None, None, 1, False), name
