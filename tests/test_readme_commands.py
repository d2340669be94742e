"""The commands in the READMEs, the recipes' heads and the source documents are valid as written."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from mindformers_vit.cli import read_command_line
from mindformers_vit.commands import COMMANDS
from mindformers_vit.demo import command as demo
from mindformers_vit.engine import validate
from mindformers_vit.engine.plan import make_plan
from mindformers_vit.models.convert_cli import main
from mindformers_vit.report import command as report

pytestmark = pytest.mark.fast
ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "README_CN.md", *sorted((ROOT / "configs").rglob("*.yaml"))]
MAE_DOCUMENT = ROOT / "tests" / "documents" / "mae_model_card.md"
START = "python run_mindformer.py "


def commands(path: Path) -> list[str]:
    """Every run_mindformer command of a page, continued lines joined, comment signs dropped."""
    text = re.sub(r"\\\n#?\s*", " ", path.read_text(encoding="utf-8"))
    lines = (line.lstrip("# ").strip() for line in text.splitlines())
    return [line for line in lines if line.startswith(START)]


ALL = [(path.name, line) for path in [*PAGES, MAE_DOCUMENT] for line in commands(path)]


def test_they_are_found():
    assert len(ALL) >= 12
    assert len(commands(MAE_DOCUMENT)) == 3
    assert commands(PAGES[0]) == commands(PAGES[1])


@pytest.mark.parametrize(("page", "line"), ALL, ids=[f"{p}-{i}" for i, (p, _) in enumerate(ALL)])
def test_command_is_valid(page, line, monkeypatch):
    monkeypatch.chdir(ROOT)
    values, _ = read_command_line(shlex.split(line.removeprefix(START)))
    plan = make_plan(values)
    assert plan.run.run_mode == re.search(r"--run_mode (\w+)", line)[1]


def module_commands(path: Path) -> list[list[str]]:
    """Every `python -m mindformers_vit COMMAND ...` of a page, without its comment."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^python -m mindformers_vit (.*)$", text, re.M)
    return [shlex.split(line, comments=True) for line in lines]


def test_the_other_commands_are_the_same_in_both_languages_and_exist(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = module_commands(PAGES[0])
    assert found == module_commands(PAGES[1])
    assert len(found) >= 5 and {name for name, *_ in found} <= set(COMMANDS)
    parsers = {"validate": validate.parser(), "report": report.parser(), "demo": demo.parser()}
    for name, *arguments in found:
        if name in parsers:
            parsers[name].parse_args(arguments)
    assert validate.main(next(rest for name, *rest in found if name == "validate")) == 0


def conversions() -> list[tuple[str, str]]:
    """(page, command) of every conversion that a page shows."""
    found = []
    for path in [*PAGES, ROOT / "docs" / "weights.md"]:
        text = re.sub(r"\\\n#?\s*", " ", path.read_text(encoding="utf-8"))
        found += [
            (path.name, line) for line in re.findall(r"python (\S+convert_weight.py .+)", text)
        ]
    return found


@pytest.mark.parametrize(("page", "line"), conversions())
def test_conversion_is_valid(page, line, capsys):
    """It gets as far as looking for the file."""
    script, *arguments = shlex.split(line)
    family = Path(script).parent.name
    module = importlib.import_module(f"mindformers_vit.models.{family}.convert_weight")
    assert (ROOT / script).is_file()
    assert main(module.CONVERTER, arguments) == 1
    assert "no such file" in capsys.readouterr().err


def test_the_scripts_of_the_readme_exist():
    named = re.findall(r"(?:bash|python) ([\w/]+\.(?:sh|py))", PAGES[0].read_text())
    assert named == re.findall(r"(?:bash|python) ([\w/]+\.(?:sh|py))", PAGES[1].read_text())
    assert {"scripts/quickstart.sh", "scripts/test.sh", "run_mindformer.py"} <= set(named)
    for name in named:
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("page", ["README.md", "README_CN.md", *["docs/" + n for n in (
    "architecture.md", "deploy.md", "moving_over.md", "quickstart.md", "reliability.md",
    "scaling.md", "weights.md",
)]])  # fmt: skip
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        assert ((ROOT / page).parent / link).exists(), f"{page}: {link}"
