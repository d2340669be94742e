"""Imports point one way (docs/architecture.md), and the lower layers need no MindSpore."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mindformers_vit"
BASE = {"errors", "registry", "compat", "web"}
CORE = {"data", "losses", "metrics", "optim", "checkpoint", "models.layers"}
LAYERS = [
    ({"errors"}, set()),
    ({"registry", "compat", "web"}, {"errors"}),
    ({"config"}, BASE),
    ({"kernels"}, {"errors", "compat"}),
    (CORE, {*BASE, "config", "kernels"}),
    ({"tools"}, {*BASE, "config", "data"}),
    ({"models"}, {*BASE, "config", *CORE, "tools", "models"}),
    ({"pipelines"}, {*BASE, "config", *CORE, "tools", "models"}),
    ({"deploy"}, {*BASE, "config", *CORE, "tools", "models", "kernels"}),
    ({"report"}, {*BASE, "config", "data", "metrics"}),
    (
        {"engine"},
        {*BASE, "config", *CORE, "tools", "models", "pipelines", "deploy", "report", "kernels"},
    ),
]
TOP = {
    "__init__", "__main__", "cli", "cli_help", "commands", "demo", "deploy.commands", "pipeline",
    "plugin", "tools.launch", "tools.settings_list", "trainer",
}  # fmt: skip
FAMILIES = sorted(p.parent.name for p in PACKAGE.glob("models/*/*_config.py"))


def layer_of(name: str) -> str:
    """ "models.layers.mlp" -> "models.layers", "data.loader" -> "data"."""
    apart = ("models.layers", "deploy.commands", "tools.launch", "tools.settings_list")
    return next((start for start in apart if name.startswith(start)), name.partition(".")[0])


def imports_of(path: Path) -> list[str]:
    """The package's own modules that a file imports, without the package name."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    start = "mindformers_vit."
    return [name.removeprefix(start) for name in found if name.startswith(start)]


def modules() -> list[tuple[str, Path]]:
    paths = sorted(PACKAGE.rglob("*.py"))
    return [(str(p.relative_to(PACKAGE).with_suffix("")).replace("/", "."), p) for p in paths]


@pytest.mark.fast
def test_every_import_points_down():
    checked = 0
    for name, path in modules():
        layer = layer_of(name)
        if layer in TOP:
            continue
        allowed = next(below for names, below in LAYERS if layer in names)
        for target in imports_of(path):
            checked += 1
            assert layer_of(target) in {layer, *allowed}, f"{name} imports {target}"
    assert checked > 50


@pytest.mark.fast
def test_a_network_imports_no_other_family():
    assert len(FAMILIES) >= 2
    for family in FAMILIES:
        for path in (PACKAGE / "models" / family).glob("*.py"):
            for target in imports_of(path):
                others = [f"models.{other}." for other in FAMILIES if other != family]
                assert not any(target.startswith(o) for o in others), f"{path} imports {target}"


WITHOUT_MINDSPORE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('mindspore', 'torch'):
            raise ImportError(f'{name} was imported')
sys.meta_path.insert(0, Refuse())
import mindformers_vit, mindformers_vit.cli, mindformers_vit.engine.plan
import mindformers_vit.engine.build, mindformers_vit.checkpoint.store
import mindformers_vit.optim.schedules, mindformers_vit.optim.groups
import mindformers_vit.kernels.build, mindformers_vit.kernels.library
import mindformers_vit.deploy.export, mindformers_vit.deploy.commands.run
from mindformers_vit import registry
assert len(registry.families()) >= 2
for family in registry.families():
    family.load_processor_class()
registry.callbacks.names(), registry.transforms.names()
"""


@pytest.mark.fast
def test_configuration_and_data_need_no_mindspore():
    subprocess.run([sys.executable, "-c", WITHOUT_MINDSPORE], check=True)
