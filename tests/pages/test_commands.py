"""Every block of every page is one that a test can judge, and is right as it is written.

Commands are taken as far as their arguments and configurations can be checked without data and
without MindSpore; `test_followed.py` really runs two pages.
"""

import argparse
import ast
import importlib
import importlib.util
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

import mindformers_vit
from mindformers_vit.cli import read_command_line
from mindformers_vit.commands import COMMANDS, find_command
from mindformers_vit.config.loader import load_yaml
from mindformers_vit.engine.plan import make_plan
from mindformers_vit.models.convert_cli import main as convert
from mindformers_vit.tools import launch
from tests.pages.blocks import CHINESE, DOCS, ENGLISH, PAGES, ROOT, Block, blocks

pytestmark = pytest.mark.fast
ALL = [block for page in PAGES for block in blocks(page)]
CARD = ROOT / "tests" / "documents" / "mae_model_card.md"
RANK_TABLE = str(ROOT / "tests" / "documents" / "rank_table_8_cards.json")
RUN_FOR_REAL = {"completion", "models", "plan", "validate"}  # by `python -m mindformers_vit`


class Parsed(Exception):
    """The arguments of a command are good."""


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """Where the commands are given: a clone, and the files that pages tell to make or to have."""
    for name in ("configs", "tools", "scripts", "mindformers_vit"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "tests" / "mindformers_yaml", tmp_path / "old")
    for block in (block for block in ALL if block.file):
        (tmp_path / block.file).write_text(block.text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(words: list[str]) -> None:
    """Judge one command; AssertionError for one that no test knows."""
    match words:
        case ["python", "run_mindformer.py", "deploy", *rest]:
            parses(find_command("deploy"), rest)
        case ["python", "run_mindformer.py", *rest]:
            check_run(rest)
        case ["python", "-m", "mindformers_vit", name, *rest]:
            assert name in COMMANDS, name
            if name in RUN_FOR_REAL:
                assert find_command(name)(rest) == 0
            else:
                parses(find_command(name), rest)
        case ["python", script, *rest] if script.endswith("/convert_weight.py"):
            check_conversion(script, rest)
        case ["python", script, *rest] if script.startswith("tools/"):
            if rest[:1] != [">"]:  # tools that print a page of these
                parses(load(script).main, rest)
        case ["bash", "scripts/run_distribute.sh" | "run_distribute.sh", *rest]:
            check_launch(rest)
        case ["bash", script, *_]:
            assert (ROOT / script).is_file(), script
        case ["python", "-m", "venv", ".venv"] | ["source", ".venv/bin/activate"]:
            pass
        case ["cd", folder]:
            assert (ROOT / folder).is_dir()
        case ["pip", "install", "-r", file]:
            assert (ROOT / file).is_file()
        case ["export", *_]:
            pass
        case ["pip", "install", whole] if match := re.fullmatch(r"mindformers_vit\[(\w+)\]", whole):
            assert f"\n{match[1]} = [" in (ROOT / "pyproject.toml").read_text()
        case ["pip", "install", *names]:
            known = (ROOT / "pyproject.toml").read_text()
            assert all(name == "." or f'"{name}' in known for name in names), names
        case _:
            pytest.fail(f"no test knows this command: {shlex.join(words)}")


def parses(command, rest: list[str]) -> None:
    """The program gets as far as having read its arguments."""
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(self, args=None, namespace=None):
        parse(self, args, namespace)
        raise Parsed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Parsed):
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
        command(rest)


def load(script: str):
    spec = importlib.util.spec_from_file_location("tool", ROOT / script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_run(rest: list[str]) -> None:
    """The flags are flags, the yaml is valid with them, and the mode is the one that is named."""
    if "..." in rest:  # "--config ... --dry_run": any
        rest[rest.index("...")] = "configs/mae/run_mae_vit_tiny_p8_48_cpu.yaml"
    values, _ = read_command_line(rest)
    plan = make_plan(values)
    assert "--run_mode" not in rest or plan.run.run_mode in rest


def check_conversion(script: str, rest: list[str]) -> None:
    """It gets as far as looking for the file."""
    family = Path(script).parent.name
    module = importlib.import_module(f"mindformers_vit.models.{family}.convert_weight")
    assert (ROOT / script).is_file()
    assert convert(module.CONVERTER, rest) == 1


def check_launch(rest: list[str]) -> None:
    """What the launcher would start: a rank table, if one is named, is that of a document."""
    own = rest[: rest.index("--")] if "--" in rest else rest
    flags = rest[len(own) + 1 :]
    if not own[0].endswith(".yaml"):
        own = [RANK_TABLE, *own[1:]]
    config = next(word for word in own if word.endswith(".yaml"))
    place = own.index(config)
    own[place] = config.removeprefix("../")
    given = launch.build_parser().parse_args(own)
    assert launch.read_launch(given, flags).ranks
    make_plan(read_command_line(["--config", own[place], *flags])[0])


def shell_commands() -> list[tuple[str, list[str]]]:
    found = [(b.page, words) for b in ALL if b.language == "bash" for words in b.commands()]
    for path in (*sorted((ROOT / "configs").rglob("*.yaml")), CARD):
        text = re.sub(r"\\\n#?\s*", " ", path.read_text(encoding="utf-8"))
        lines = re.findall(r"^[# ]*(python \S+\.py .*)$", text, re.M)
        found += [(path, shlex.split(line)) for line in lines if "mindformers/" not in line]
    return [(str(path.relative_to(ROOT)), words) for path, words in found]


COMMANDS_SHOWN = shell_commands()


def test_they_are_found():
    pages = {page for page, _ in COMMANDS_SHOWN}
    assert len(COMMANDS_SHOWN) > 110 and len(pages) > 20
    assert {"README.md", "docs/moving_over.md", "tests/documents/mae_model_card.md"} <= pages


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS_SHOWN, ids=[f"{p}-{n}" for n, (p, _) in enumerate(COMMANDS_SHOWN)]
)
def test_command(page, words, workplace):
    check(list(words))


@pytest.mark.parametrize("block", ALL, ids=[f"{b.page.name}-{n}" for n, b in enumerate(ALL)])
def test_block(block, workplace):
    """It says what it is: a shell's commands, Python, a valid yaml, or what is printed."""
    if block.language == "python":
        check_python(block)
    elif block.language == "yaml":
        assert block.file, "its first line names the file"
        make_plan(load_yaml(workplace / block.file))
    else:
        assert block.language in ("bash", "text"), block.text
    if block.language == "bash":
        done = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr


def check_python(block: Block) -> None:
    """It compiles, and what it imports from this package is there."""
    for node in ast.walk(ast.parse(block.text)):
        if not isinstance(node, ast.ImportFrom) or not node.module.startswith("mindformers_vit"):
            continue
        source = Path(importlib.util.find_spec(node.module).origin).read_text()
        for alias in node.names:
            known = node.module == "mindformers_vit" and alias.name in mindformers_vit.__all__
            assert known or re.search(rf"^(def|class) {alias.name}\b", source, re.M), alias.name


# ---- two languages, links, lists


@pytest.mark.parametrize("page", CHINESE, ids=[page.name for page in CHINESE])
def test_the_blocks_are_those_of_the_english_page(page):
    english = DOCS / page.name if page.parent.name == "zh" else ROOT / "README.md"
    ours, theirs = (
        [(b.language, b.code if b.language != "text" else "") for b in blocks(p)]
        for p in (page, english)
    )
    assert ours == theirs


def test_every_page_for_users_is_there_in_chinese():
    for_contributors = {"architecture.md", "errors.md"}
    assert {p.name for p in ENGLISH[1:]} - for_contributors == {p.name for p in CHINESE[1:]}


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), f"{page}: {link}"


def test_the_readmes_link_to_every_page():
    for readme, folder in (("README.md", "docs"), ("README_CN.md", "docs/zh")):
        text = (ROOT / readme).read_text(encoding="utf-8")
        for page in (ROOT / folder).glob("*.md"):
            assert f"({folder}/{page.name})" in text, f"{readme}: {page.name}"


@pytest.mark.parametrize("page", [DOCS / "recipes.md", DOCS / "zh" / "recipes.md"])
def test_every_recipe_is_listed_with_the_figure_of_its_head(page):
    text = page.read_text(encoding="utf-8")
    rows = {line for line in text.splitlines() if line.startswith("| `")}
    for path in (ROOT / "configs").rglob("*.yaml"):
        name = path.relative_to(ROOT / "configs").as_posix()
        (row, *_) = [row for row in rows if row.startswith(f"| `{name}`")] or [""]
        assert row, name
        head = re.sub(r"\n# ?", " ", path.read_text().partition("\nseed:")[0])
        figures = re.findall(r"\d+\.\d+(?= %)", row.split("|")[3])
        if "docs/quickstart.md" in head:
            head = (DOCS / "quickstart.md").read_text()
        assert all(f"{figure} %" in head for figure in figures), (name, figures)
        assert figures or "lvvit_l_224" in name
