"""docs/configuration.md is the schema's own list."""

from pathlib import Path

import pytest

from mindformers_vit import registry
from mindformers_vit.config.loader import load_yaml
from mindformers_vit.config.schema import RunConfig
from mindformers_vit.tools import page_words, settings_list

pytestmark = pytest.mark.fast
DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "configuration.md").read_text(encoding="utf-8")


def test_the_page_is_made_from_this_source():
    same = settings_list.page() == PAGE
    assert same, "run: python tools/list_settings.py > docs/configuration.md"


def test_the_chinese_page_says_the_same_in_chinese():
    chinese = (DOCS / "zh" / "configuration.md").read_text(encoding="utf-8")
    same = settings_list.page("zh") == chinese
    assert same, "run: python tools/list_settings.py zh > docs/zh/configuration.md"
    assert "\n| `max_steps` | int > 0 or null | null | *新增* 提前停止；" in chinese
    words = load_yaml(DOCS / "zh" / "configuration.yaml")
    assert [word for word in words.values() if word not in chinese] == []
    assert [line.count("|") for line in PAGE.splitlines() if line.startswith("|")] == [
        line.count("|") for line in chinese.splitlines() if line.startswith("|")
    ]


def test_a_text_without_its_words_is_named():
    with pytest.raises(KeyError, match="Nobody has translated this"):
        page_words.translated("# Page\n\nNobody has translated\nthis.\n", {"Page": "页"})
    translated = page_words.translated("\n# Page\n\n| `a` | *new* b |\n\n", {"b": "乙"})
    assert translated == "\n# Page\n\n| `a` | *新增* 乙 |\n\n"


def test_types_limits_defaults_and_meanings():
    for line in (
        "| `epochs` | int > 0 | `1` | passes over the training images |",
        "| `max_steps` | int > 0 or null | null | *new* stop early; schedules stay those of all "
        "epochs |",
        "| `batch_size` | int > 0 or `dynamic` | `1` | images of a run of the file |",
        "| `prob` | float >= 0 and <= 1 | `1.0` | Probability that a batch is mixed at all. |",
        "| `decay` | float > 0 and < 1 |  | share of the old average kept at an update |",
        "| `mode` | `0`, `1` | `0` | 0 graph, 1 PyNative |",
        "| `seed` | int >= 0 | `0` | of everything random; 0 is a seed |",
    ):
        assert f"\n{line}\n" in PAGE, line


def test_every_key_is_named():
    """Of the run, its sections, callbacks and networks."""
    kinds = {kind for _, kind in settings_list._models(RunConfig, "")}
    kinds |= {registry.callbacks.get(name) for name in registry.callbacks.names()}
    kinds |= {family.config_class for family in registry.families()}
    names = [name for kind in kinds for name in kind.key_names()]
    sections = {title.strip() for line in PAGE.split("\n## ")[1:] for title in line.split("\n")[:1]}
    shown = {part.rpartition(".")[2] for title in sections for part in title.split(", ")}
    assert len(names) > 150
    missing = [n for n in names if f"`{n}`" not in PAGE and f".{n}`" not in PAGE]
    assert set(missing) <= shown
