"""The data sets and configurations that the engine's tests share."""

from pathlib import Path

import pytest

from tests.engine import lab


@pytest.fixture(autouse=True)
def _process():
    with lab.own_process():
        yield


@pytest.fixture
def shared_steps(monkeypatch):
    """Runs with the same settings share what was compiled."""
    lab.share_compiled(monkeypatch)


@pytest.fixture(scope="session")
def train_dir(tmp_path_factory) -> Path:
    return lab.class_folders(tmp_path_factory.mktemp("train"), 8)


@pytest.fixture(scope="session")
def eval_dir(tmp_path_factory) -> Path:
    return lab.class_folders(tmp_path_factory.mktemp("val"), 4, first_seed=1000)


@pytest.fixture(scope="session")
def mae_yaml(tmp_path_factory) -> Path:
    return lab.write(tmp_path_factory.mktemp("configs") / "mae.yaml", lab.MAE)


@pytest.fixture(scope="session")
def vit_yaml(tmp_path_factory) -> Path:
    return lab.write(tmp_path_factory.mktemp("configs") / "vit.yaml", lab.VIT)


@pytest.fixture(scope="session")
def run_flags(train_dir, eval_dir) -> dict[str, tuple[str, ...]]:
    """The data of a training run; the classifier is evaluated after each epoch."""
    data = ("--train_dataset_dir", str(train_dir))
    return {
        "mae": data,
        "vit": (*data, "--eval_dataset_dir", str(eval_dir), "--do_eval", "True"),
    }


@pytest.fixture(scope="session")
def unbroken(mae_yaml, vit_yaml, run_flags, tmp_path_factory) -> dict[str, Path]:
    """Output directories of runs from the first step to the last; not to be written to."""
    root = tmp_path_factory.mktemp("unbroken")
    with pytest.MonkeyPatch.context() as patch, lab.own_process():
        lab.share_compiled(patch)
        for kind, config in (("mae", mae_yaml), ("vit", vit_yaml)):
            assert lab.command(config, root / kind, *run_flags[kind]) == 0
    return {kind: root / kind for kind in run_flags}
