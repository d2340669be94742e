"""Sub-commands of the command line: `python -m mindformers_vit NAME ...`, one module each."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from mindformers_vit.errors import ConfigError
from mindformers_vit.registry import nearest

# name -> module:function, which takes the arguments and returns the exit code; what it does
COMMANDS = {
    "models": (
        "models.catalogue:main", "the known models: size, cost, published accuracy, weights",
    ),
    "validate": ("engine.validate:main", "check yamls, all problems at once"),
    "doctor": ("engine.doctor:main", "look at this machine, try a train step, say what to mend"),
    "plan": ("commands.plan:main", "memory, traffic, steps and storage of a run, before it"),
    "demo": ("demo.command:main", "a local page to try a network on pictures"),
    "report": ("report.command:main", "write a run's report.html anew, or compare runs"),
    "verify-data": ("commands.verify_data:main", "read every image of a data set"),
    "verify-checkpoint": (
        "commands.verify_checkpoint:main", "check every byte of training checkpoints",
    ),
    "deploy": ("deploy.commands:deploy", "export, run and score a network off MindSpore"),
    "completion": ("cli_help:completion", "completion for bash, zsh or tcsh"),
}  # fmt: skip


def find_command(name: str) -> Callable[[list[str]], int] | None:
    """The function of a sub-command, None for what begins with a flag.

    Raises:
        ConfigError: there is none of that name.
    """
    if name.startswith("-"):
        return None
    if name not in COMMANDS:
        raise ConfigError(
            f"no command '{name}'{nearest(name, COMMANDS)}; --help lists the commands"
        )
    module, _, function = COMMANDS[name][0].partition(":")
    found: Callable[[list[str]], int] = getattr(
        importlib.import_module(f"mindformers_vit.{module}"), function
    )
    return found
