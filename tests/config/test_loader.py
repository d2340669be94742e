"""Reading yaml and overrides."""

import pytest

from mindformers_vit.config.loader import (
    find_config,
    load_yaml,
    merge,
    parse_override,
    parse_yaml,
    set_dotted,
)
from mindformers_vit.errors import ConfigError

pytestmark = pytest.mark.fast


def test_exponents_are_numbers():
    values = parse_yaml("{a: 1e-4, b: 1.5E-8, c: 1.e-6, d: 0., e: '1e-4'}", "x")
    assert values == {"a": 1e-4, "b": 1.5e-8, "c": 1e-6, "d": 0.0, "e": "1e-4"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: !!python/object/apply:os.system [x]", "could not determine a constructor"),
        ("a: 1\nb: 2\na: 3", "line 3 key 'a' is given twice"),
        ("a: [1", "line 1"),
        ("a: &a [*a]", "alias contains itself"),
        ("x: " + "[" * 3000, "nested more than 100 deep"),
    ],
)
def test_bad_yaml_is_refused_with_the_place(text, words):
    with pytest.raises(ConfigError, match=r"^file\.yaml") as error:
        parse_yaml(text, "file.yaml")
    assert words in str(error.value)


def test_an_alias_bomb_is_not_unfolded():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for n in range(1, 12):
        lines.append(f"a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * 10) + "]")
    with pytest.raises(ConfigError, match="unfold to more than"):
        parse_yaml("\n".join(lines), "x")


def test_base_config_merges_below(tmp_path):
    (tmp_path / "base.yaml").write_text("a: {b: 1, c: [1, 2]}\nd: 4\n")
    (tmp_path / "top.yaml").write_text("base_config: base.yaml\na: {c: [3]}\n")
    assert load_yaml(tmp_path / "top.yaml") == {"a": {"b": 1, "c": [3]}, "d": 4}


def test_base_config_circle_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("base_config: b.yaml")
    (tmp_path / "b.yaml").write_text("base_config: a.yaml")
    with pytest.raises(ConfigError, match="leads back to itself"):
        load_yaml(tmp_path / "a.yaml")


def test_find_config_looks_in_the_working_directory_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "configs/mae/run_mae_vit_base_p16_224_800ep.yaml"
    assert find_config(name).is_file()  # the repository's
    (tmp_path / "configs" / "mae").mkdir(parents=True)
    (tmp_path / name).write_text("a: 1")
    assert load_yaml(find_config(name)) == {"a": 1}
    with pytest.raises(ConfigError, match=r"--config: no file 'nope\.yaml' \(looked in "):
        find_config("nope.yaml")


def test_overrides():
    values = {"a": {"b": 1}, "list": [{"x": 1}, {"x": 2}]}
    assert set_dotted(values, "a.c.d", 2)["a"] == {"b": 1, "c": {"d": 2}}
    assert set_dotted(values, "list.1.x", 5)["list"] == [{"x": 1}, {"x": 5}]
    assert values == {"a": {"b": 1}, "list": [{"x": 1}, {"x": 2}]}
    with pytest.raises(ConfigError, match="'7' is not a place of its list, which has 2"):
        set_dotted(values, "list.7.x", 5)


@pytest.mark.parametrize(
    ("text", "value"),
    [("a=True", True), ("a=1e-4", 1e-4), ("a=[1, 2]", [1, 2]), ("a=", None), ("a=b=c", "b=c")],
)
def test_override_values_are_yaml(text, value):
    assert parse_override(text) == ("a", value)


def test_override_without_equals():
    with pytest.raises(ConfigError, match=r"'section\.key=value' is expected"):
        parse_override("epochs")


def test_merge_replaces_lists_and_merges_mappings():
    assert merge({"a": {"b": [1]}}, {"a": {"b": [2], "c": 3}}) == {"a": {"b": [2], "c": 3}}
