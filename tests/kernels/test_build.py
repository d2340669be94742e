"""Compiling once, and saying why not."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mindformers_vit.kernels import build as building
from mindformers_vit.kernels import library
from mindformers_vit.kernels.build import BuildError, build

pytestmark = pytest.mark.fast


@pytest.fixture(autouse=True)
def unmasked(monkeypatch) -> None:
    """Whatever the whole suite runs without."""
    for name in building.MASKS:
        monkeypatch.delenv(f"MINDFORMERS_VIT_{name}", raising=False)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "mindformers_vit"


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """A compiler that writes a mark and notes each call; with `exit 1` in it, one that fails."""

    def make(body: str = 'while [ "$1" != -o ]; do shift; done; echo made > "$2"') -> Path:
        calls, path = tmp_path / "calls", tmp_path / "c++"
        version = f'if [ "$1" = --version ]; then echo 1; exit; fi; echo call >> {calls}'
        path.write_text(f"#!/bin/sh\n{version}\n{body}\n")
        path.chmod(0o755)
        monkeypatch.setenv("CXX", str(path))
        return calls

    return make


def test_it_is_compiled_once(cache, compiler):
    calls = compiler()
    made = build()
    assert made.parent == cache and made.read_text() == "made\n"
    assert build() == made
    assert calls.read_text() == "call\n"
    assert not list(cache.glob("tmp*"))


@pytest.mark.parametrize("without", [(), *((name,) for name in building.MASKS)])
def test_the_sources_compile(without):
    """Otherwise all tests of the operators would be left out, as where there is no compiler."""
    try:
        building.find_compiler()
    except BuildError:
        return
    assert build(without).stat().st_size > 10_000


@pytest.mark.parametrize("name", building.MASKS)
def test_what_is_masked_is_another_library(name, cache, compiler):
    compiler()
    assert build() != build([name])


@pytest.mark.parametrize("name", building.MASKS)
def test_one_line_says_what_is_masked(name, monkeypatch, caplog):
    if library.compiled() is None:
        return
    monkeypatch.setenv(f"MINDFORMERS_VIT_{name}", "0")
    monkeypatch.setattr(logging.getLogger("mindformers_vit"), "propagate", True)
    with caplog.at_level(logging.INFO, "mindformers_vit"):
        assert library.compiled.__wrapped__() == build([name])
    assert caplog.messages == [f"kernels without {name}: MINDFORMERS_VIT_{name}=0"]


def test_tiles_that_the_system_forbids_are_not_used(monkeypatch, caplog):
    """A library that says at its start that it may not run: Linux refuses the registers."""

    class Loaded:
        def __init__(self, path: str) -> None:
            self.start = lambda threads: 1 if path == "with" else 0

    made = {(): "with", ("AMX",): "without"}
    monkeypatch.setattr(library, "build", lambda masked: made[tuple(masked)])
    monkeypatch.setattr(library.ctypes, "CDLL", Loaded)
    for name in building.MASKS:
        monkeypatch.delenv(f"MINDFORMERS_VIT_{name}", raising=False)
    monkeypatch.delenv("MINDFORMERS_VIT_KERNELS", raising=False)
    monkeypatch.setattr(logging.getLogger("mindformers_vit"), "propagate", True)
    with caplog.at_level(logging.INFO, "mindformers_vit"):
        assert library.compiled.__wrapped__() == "without"
    assert caplog.messages == ["kernels without AMX, which the operating system does not allow"]


def test_another_source_is_another_library(cache, compiler, tmp_path, monkeypatch):
    compiler()
    first = build()
    source = tmp_path / "kernels.cpp"
    source.write_text("// other")
    monkeypatch.setattr(building, "SOURCES", [source])
    assert build() != first


def test_a_compiler_that_fails_is_quoted_and_leaves_nothing(cache, compiler):
    compiler("echo no such flag >&2; exit 1")
    with pytest.raises(BuildError, match=r"^c\+\+ failed: no such flag$"):
        build()
    assert not list(cache.glob("*.so"))


def test_no_compiler(cache, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(BuildError, match=r"no C\+\+ compiler \(g\+\+, clang\+\+, c\+\+\)"):
        build()


def test_a_cache_that_cannot_be_written(cache, compiler):
    compiler()
    cache.write_text("a file")
    with pytest.raises(BuildError, match="cannot be written: File exists"):
        build()


def test_several_processes_compile_once(cache, compiler):
    calls = compiler('sleep 0.3; while [ "$1" != -o ]; do shift; done; echo made > "$2"')
    code = "from mindformers_vit.kernels.build import build; build()"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert calls.read_text() == "call\n"


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("MINDFORMERS_VIT_KERNELS", "0", "MINDFORMERS_VIT_KERNELS=0"),
        ("PATH", "", "no C++ compiler"),
    ],
)
def test_one_line_says_why_there_are_none(variable, value, reason, cache, monkeypatch, caplog):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("MINDFORMERS_VIT_KERNELS", raising=False)
    monkeypatch.setenv(variable, value)
    logger = logging.getLogger("mindformers_vit")
    monkeypatch.setattr(logger, "propagate", True)
    with caplog.at_level(logging.INFO, "mindformers_vit"):
        assert library.compiled.__wrapped__() is None
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"MindSpore's own operators, which are slower: {reason}")


def test_threads_follow_the_environment(monkeypatch):
    cores = len(os.sched_getaffinity(0))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert library._threads() == cores
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert library._threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "999")
    assert library._threads() == cores
