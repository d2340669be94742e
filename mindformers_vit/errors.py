"""Errors that a user may see. Each message says what was wrong, what was given, what is allowed,
and where; the command line prints it without a traceback and exits with the class's code.
"""

import signal


class MindFormersViTError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code = 1


class ConfigError(MindFormersViTError):
    """The configuration or the command line is wrong; every problem found is in the message."""

    exit_code = 2

    def __init__(self, problems: str | list[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class DataError(MindFormersViTError):
    """A data set, an image or a label file cannot be used."""

    exit_code = 2


class CheckpointError(MindFormersViTError):
    """A checkpoint is missing, damaged, or belongs to another network."""

    exit_code = 2


class SaveError(CheckpointError):
    """A checkpoint cannot be written: the disk is full, or the like."""

    exit_code = 1


class ExportError(MindFormersViTError):
    """A network cannot be exported, or the exported file does not compute what it computes."""


class TrainingError(MindFormersViTError):
    """Training cannot go on (for example: the loss is not finite)."""


class Interrupted(KeyboardInterrupt):
    """A signal asks the process to end; the exit code is 128 and its number, as a shell has it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number
