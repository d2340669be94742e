"""P7 for configurations: whatever the file says, there is one screen, and nothing is written."""

import contextlib
import io
import tempfile
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mindformers_vit import cli
from mindformers_vit.config.loader import load_yaml, set_dotted
from tests.engine import lab

ROOT = Path(__file__).parents[2]
TEXTS = [path.read_text() for path in sorted((ROOT / "configs").rglob("*_cpu.yaml"))]
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
FUZZ = settings(
    max_examples=700, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


@pytest.fixture(autouse=True)
def _process():
    with lab.own_process():
        yield


def dry_run(content: bytes) -> str:
    """The command line on a file with this content; what it says."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "x.yaml").write_bytes(content)
        flags = ["--config", str(folder / "x.yaml"), "--output_dir", str(folder / "out")]
        flags += ["--dry_run"]
        for data in ("train", "eval"):
            flags += [f"--{data}_dataset_dir", str(folder / "none")]
        err, began = io.StringIO(), time.process_time()
        with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
            code = cli.main(flags)
        said = err.getvalue()
        assert time.process_time() - began < 5
        assert code == 2
        assert said.startswith("error: ") or " problems:" in said.splitlines()[0]
        assert "Traceback" not in said and len(said.splitlines()) <= 22
        assert [path.name for path in folder.iterdir()] == ["x.yaml"]
        return said


@FUZZ
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda s: s.encode(
    errors="surrogatepass"))))  # fmt: skip
def test_any_bytes(content):
    dry_run(content)


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-3, 3), st.floats(),
    st.text(max_size=8), st.sampled_from(["auto", "../..", "/", "~", "1e400", "x" * 3000]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)


def keys_of(values, path=""):
    items = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in items:
        yield f"{path}{key}"
        if isinstance(value, dict | list):
            yield from keys_of(value, f"{path}{key}.")


CONFIGS = [load_yaml(path) for path in sorted((ROOT / "configs").rglob("*_cpu.yaml"))]
KEYS = [(number, key) for number, values in enumerate(CONFIGS) for key in keys_of(values)]


@FUZZ
@given(st.sampled_from(KEYS), VALUES, st.sampled_from(KEYS), VALUES)
def test_any_value_at_any_key(first, value, second, other):
    number, key = first
    values = set_dotted(CONFIGS[number], key, value)
    with contextlib.suppress(Exception):  # the second key may lead through the first value
        values = set_dotted(values, second[1], other)
    dumped = yaml.dump(values, Dumper=DUMPER, allow_unicode=True)
    dry_run(dumped.encode(errors="surrogatepass"))


PIECES = [
    "!!python/object/apply:os.system ['touch canary']", "!!python/name:os.system", "!!binary x",
    "&a [*a]", "*unknown", "<<: *x", "{", "]", ": ", "- ", "\t", "\0", "\ufeff", "%YAML 9.9", "---",
    "...", "|", ">", "'", '"', "#", "? ", "!", "!<tag:x>", "0x_", "1e999", "~", "\x85", "\u2028",
]  # fmt: skip


@FUZZ
@given(
    st.sampled_from(TEXTS),
    st.lists(st.tuples(st.floats(0, 1), st.sampled_from(PIECES), st.integers(0, 40)), min_size=1,
             max_size=4),
)  # fmt: skip
def test_any_piece_of_yaml_anywhere(text, edits):
    for place, piece, cut in edits:
        at = int(place * len(text))
        text = text[:at] + piece + text[at + cut :]
    dry_run(text.encode())


def bomb() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    return "\n".join(lines)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: !!python/object/apply:os.system ['touch canary']", "could not determine a constr"),
        ("seed: !!python/object/new:pathlib.Path [canary]", "could not determine a constructor"),
        ("seed: !!python/name:os.system", "could not determine a constructor"),
        (bomb(), "its aliases unfold to more than 100000 values"),
        ("a: &a {b: *a}", "an alias contains itself"),
        ("[" * 20_000, "nested more than 100 deep"),
        ("seed: 0\n" + "#" * (1 << 20), "larger than 1048576 bytes"),
        ("seed: 0\nseed: 1", "key 'seed' is given twice"),
        ("base_config: ../../../../../../etc/hostname_not_there", "cannot be read: No such file"),
        ("base_config: x.yaml", "leads back to itself"),
        ("a: 1\n---\nb: 2", "but found another document"),
    ],
)
def test_what_is_refused_by_name(text, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said in dry_run(text.encode())
    assert list(tmp_path.iterdir()) == []  # no canary


@pytest.mark.fast
@pytest.mark.parametrize("prefix", ["../x", "a/b", "/tmp/x", "a b", "", "x\n"])
def test_a_prefix_leads_nowhere_else(prefix):
    values = set_dotted(CONFIGS[0], "callbacks.2.prefix", prefix)
    assert "callbacks.2.prefix: string should match pattern" in dry_run(yaml.dump(values).encode())
