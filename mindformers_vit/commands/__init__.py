"""Sub-commands of the command line: `python -m mindformers_vit NAME ...`, one module each."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from mindformers_vit.errors import ConfigError
from mindformers_vit.registry import nearest

COMMANDS = {  # name -> module:function, which takes the arguments and returns the exit code
    "completion": "mindformers_vit.cli_help:completion",
    "demo": "mindformers_vit.demo.command:main",
    "deploy": "mindformers_vit.deploy.commands:deploy",
    "doctor": "mindformers_vit.engine.doctor:main",
    "models": "mindformers_vit.models.catalogue:main",
    "plan": "mindformers_vit.commands.plan:main",
    "report": "mindformers_vit.report.command:main",
    "validate": "mindformers_vit.engine.validate:main",
    "verify-checkpoint": "mindformers_vit.commands.verify_checkpoint:main",
    "verify-data": "mindformers_vit.commands.verify_data:main",
}


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
    module, _, function = COMMANDS[name].partition(":")
    found: Callable[[list[str]], int] = getattr(importlib.import_module(module), function)
    return found
