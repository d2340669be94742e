"""Compiling the C++ files beside this one for the machine that runs it, once. No MindSpore here."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Collection
from pathlib import Path

SOURCES = sorted(path for path in Path(__file__).parent.iterdir() if path.suffix in (".cpp", ".h"))
FLAGS = (
    "-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-w",
    "-shared", "-fPIC", "-fvisibility=hidden", "-pthread",
)  # fmt: skip
MASKS = {"AVX512": "-mno-avx512f", "AMX": "-DNO_TILES"}  # what keeps a library from using it
TIMEOUT = 300.0  # seconds for one call of the compiler


class BuildError(Exception):
    """The operators cannot be compiled here; the text says why."""


def build(without: Collection[str] = ()) -> Path:
    """The compiled library, from the user's cache folder if it is there.

    Args:
        without: names in `MASKS`, of what it may not use though the CPU has it.

    Raises:
        BuildError: no compiler, it failed, or the cache folder cannot be written.
    """
    compiler = find_compiler()
    flags = (*FLAGS, *(MASKS[name] for name in without))
    key = hashlib.sha256("\0".join([*flags, _run([compiler, "--version"]), _cpu()]).encode())
    for source in SOURCES:
        key.update(source.read_bytes())
    target = cache_folder() / f"kernels-{key.hexdigest()[:16]}.so"
    if target.is_file():
        return target
    import filelock  # only here: it takes a tenth of `validate`

    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with filelock.FileLock(target.with_suffix(".lock")):
            if not target.is_file():
                _compile(compiler, flags, target)
    except OSError as error:
        text = f"'{target.parent}' cannot be written: {error.strerror or error}"
        raise BuildError(text) from error
    return target


def cache_folder() -> Path:
    """Where compiled libraries are kept: $XDG_CACHE_HOME, or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "mindformers_vit"


def find_compiler() -> str:
    """The C++ compiler that is used, $CXX first; BuildError without one."""
    names = [name for name in (os.environ.get("CXX"), "g++", "clang++", "c++") if name]
    for name in names:
        if found := shutil.which(name):
            return found
    raise BuildError(f"no C++ compiler ({', '.join(names)})")


def _cpu() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
    except OSError:
        return ""
    return "\n".join(line for line in lines if line.startswith(("flags", "Features", "model name")))


def _compile(compiler: str, flags: tuple[str, ...], target: Path) -> None:
    """Compile beside the target, then put it in place at once."""
    sources = [str(source) for source in SOURCES if source.suffix == ".cpp"]
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        _run([compiler, *flags, *sources, "-o", str(made)])
        made.replace(target)


def _run(command: list[str]) -> str:
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT, errors="replace", check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{name} cannot be run: {error}") from error
    if done.returncode != 0:
        first = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[0]
        raise BuildError(f"{name} failed: {first}")
    return done.stdout
