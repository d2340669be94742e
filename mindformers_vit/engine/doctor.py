"""`doctor`: what this machine has, whether a train step works, and how to mend what does not."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mindformers_vit import compat
from mindformers_vit.kernels import build

_SECONDS = 2.0  # of train steps
_FREE = 2 << 30  # bytes that a run of a base model needs at least
_STEPS = 3  # at least so many, however slow


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was looked at, what was found, what to do if it is wrong."""

    what: str
    found: str
    mend: str = ""  # not empty: it is wrong

    def lines(self) -> str:
        sign = "wrong" if self.mend else "ok"
        line = f"{sign:<6} {self.what:<12} {self.found}"
        return f"{line}\n{'':<19} -> {self.mend}" if self.mend else line


def python() -> Finding:
    version, needed = platform.python_version(), "3.10, 3.11 or 3.12"
    good = (3, 10) <= sys.version_info[:2] < (3, 13)
    mend = "" if good else f"MindSpore has wheels for Python {needed}; make a .venv with one"
    return Finding("python", f"{version} ({sys.executable})", mend)


def package(name: str, allowed: Callable[[tuple[int, ...]], bool], mend: str) -> Finding:
    """Whether a package is installed in a version that is allowed."""
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "not installed", mend)
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    return Finding(name, version, "" if allowed(numbers) else mend)


def device() -> Finding:
    """The device that `auto` takes, and whether MindSpore can use it."""
    name = compat.resolve_device("auto")
    try:
        compat.set_device("auto")
    except Exception as error:  # a broken driver raises nearly anything
        reason = str(error).strip().splitlines()[0]
        return Finding(
            "device", f"{name}: {reason}", "give --device_target CPU, or mend the driver"
        )
    return Finding("device", f"{name}, {os.cpu_count()} cores")


def compiler() -> Finding:
    """With one, the operators for the CPU are compiled at first use; else MindSpore's are used."""
    try:
        return Finding("compiler", build.find_compiler())
    except build.BuildError as error:
        return Finding("compiler", f"{error}; training works, slower on CPU")


def operators() -> Finding:
    """Whose operators compute; to be asked once the device is set."""
    from mindformers_vit.kernels import library

    found = library.numerics()
    return Finding("operators", "MindSpore's own" if found == "plain" else f"compiled {found}")


def disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    mend = "" if free >= _FREE else "remove old checkpoints, or set --output_dir to another disk"
    return Finding("disk", f"{free / 2**30:.1f} GiB free here", mend)


def train_step() -> Finding:
    """A tiny masked autoencoder for two seconds; the loss must fall."""
    try:
        losses, compiling, seconds = _train()
    except Exception as error:  # whatever it is, it belongs in the report
        reason = (str(error).strip().splitlines() or [""])[0]
        mend = "install the pinned versions: pip install -r requirements.txt"
        return Finding("train step", f"{type(error).__name__}: {reason}", mend)
    found = (
        f"{len(losses)} steps in {seconds:.1f} s after compiling for {compiling:.1f} s, "
        f"loss {losses[0]:.3f} -> {losses[-1]:.3f}"
    )
    falls = losses[-1] < losses[0]
    return Finding("train step", found, "" if falls else "the loss does not fall; please report it")


def _train() -> tuple[list[float], float, float]:
    """(losses, seconds until the first, seconds of the others)."""
    import numpy as np

    from mindformers_vit.engine.train_step import TrainStep, training_forward
    from mindformers_vit.models.auto import AutoModel
    from mindformers_vit.optim.adamw import AdamW
    from mindformers_vit.optim.groups import parameter_rules
    from mindformers_vit.registry import find_model

    family, name = find_model("mae_vit_tiny_p8")
    small = {"image_size": 32, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 1}
    config = family.config_class(**{**family.variants[name], **small})
    network = AutoModel.from_config(config)
    params = network.trainable_params()
    rules = parameter_rules({p.name: tuple(p.shape) for p in params})
    step = TrainStep(training_forward(network, drop_path=False), AdamW(params, rules))
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.standard_normal((8, 3, 32, 32), dtype=np.float32),
        "noise": rng.random((8, config.num_patches), dtype=np.float32),
    }
    start = time.perf_counter()
    losses = [step([batch], 1e-3)["loss"]]
    compiled = time.perf_counter()
    while time.perf_counter() - compiled < _SECONDS or len(losses) <= _STEPS:
        losses.append(step([batch], 1e-3)["loss"])
    return losses, compiled - start, time.perf_counter() - compiled


def examine() -> list[Finding]:
    """Everything, cheap things first; without MindSpore nothing is tried that needs it."""
    pinned = "pip install -r requirements.txt"
    found = [
        python(),
        package("mindspore", lambda v: v >= (2, 9), f"MindSpore 2.9 or later is needed: {pinned}"),
        package("numpy", lambda v: v < (2,), f"MindSpore needs numpy below 2: {pinned}"),
        package("pydantic", lambda v: v >= (2,), pinned),
        package("pillow", lambda v: True, pinned),
        compiler(),
        disk(),
    ]
    if any(f.mend for f in found if f.what in ("python", "mindspore", "numpy")):
        return found
    return [*found, device(), operators(), train_step()]


def main(argv: list[str]) -> int:
    """Print the findings; 0 if nothing is wrong, else 1."""
    argparse.ArgumentParser(
        prog="mindformers-vit doctor",
        description="Look at versions, device and disk, take train steps for two seconds, and say "
        "how to mend what is wrong.",
    ).parse_args(argv)
    found = examine()
    for finding in found:
        print(finding.lines())
    wrong = sum(bool(finding.mend) for finding in found)
    print(f"{wrong} of {len(found)} wrong" if wrong else "nothing wrong found")
    return 1 if wrong else 0
