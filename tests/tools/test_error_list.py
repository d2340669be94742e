"""docs/errors.md is the source's own list, and what is really said is on it."""

import ast
import re
from pathlib import Path

import pytest

from mindformers_vit import cli
from mindformers_vit.tools import error_list
from tests.engine import lab

pytestmark = pytest.mark.fast
ROOT = Path(__file__).parents[2]
VIT = str(ROOT / "configs/vit/run_vit_tiny_p8_48_cpu.yaml")


@pytest.fixture(scope="module")
def made():
    """The page of this source."""
    return error_list.page()


@pytest.fixture(scope="module")
def patterns():
    """What matches each message."""
    return [
        ".*".join(re.escape(part) for part in re.split("‹[^›]*›", message.text))
        for message in error_list.messages()
        if len(re.sub("‹[^›]*›", "", message.text)) > 15
    ]


def test_the_page_is_made_from_this_source(made):
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert page == made, "run: python tools/list_errors.py > docs/errors.md"
    assert page.count("\n- `") > 200


def test_every_error_class_of_the_package_is_listed(made):
    """Found by their bases, wherever they are defined."""
    classes = [
        node
        for path in error_list.PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    known, found = {"MindFormersViTError"}, set()
    for _ in range(3):
        for node in classes:
            if {getattr(base, "id", "") for base in node.bases} & known:
                known.add(node.name)
                found.add(node.name)
    assert found == error_list.CLASSES.keys() | error_list.CARRIERS
    for name, kind in error_list.CLASSES.items():
        assert f"## {name}: " in made and f"(exit code {kind.exit_code})" in made


@pytest.mark.parametrize(
    "argv",
    [
        ["--config", "nowhere.yaml"],
        ["--config", VIT, "--epoch", "3"],
        ["--config", VIT, "--layer_decay"],
        ["--config", VIT, "--callbacks.7.type=x"],
        ["--config", VIT, "--runner_config.num_classes=5"],
        ["--config", VIT, "--lr_schedule.warmup_epochs=40"],
        ["--config", VIT, "--model.arch.type=x"],
        ["--config", VIT, "--run_mode", "train", "--dry_run"],
        ["report", "nowhere"],
    ],
)
def test_what_is_said_is_on_the_list(argv, capsys, patterns):
    with lab.own_process():
        assert cli.main(argv) == 2
    said = capsys.readouterr().err.strip().splitlines()[0].removeprefix("error: ")
    assert any(re.search(pattern, said) for pattern in patterns), said


def test_texts_are_put_together():
    source = """
def check() -> list[str]:
    found.append(f"{a.b}: is {c} of " "the two")
    return ["only one problem" if x else f"another {y}"]
def other():
    raise DataError("long enough" + tail) from None
"""
    tree = ast.parse(source)
    assert sorted(error_list._collected(tree)) == [
        ("ConfigError", "another ‹y›"), ("ConfigError", "only one problem"),
        ("ConfigError", "‹...›: is ‹c› of the two"),
    ]  # fmt: skip
    assert list(error_list._raised(tree)) == [("DataError", "long enough‹...›")]
