"""The command line, that says on stdout when it comes to a place, and dwells there.

    python -m tests.reliability.announced PLACE SECONDS --config ...

PLACE: import, mindspore (half imported), compile, step (the third), evaluation, save (the first).
SECONDS pass in Python, where signals are handled; in `compile` none pass, MindSpore is at
work there.
"""

import sys
import time
from functools import wraps

from mindformers_vit import cli


def announce(place: str, seconds: float) -> None:
    print(place, flush=True)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(left)


def at_call(owner, name: str, number: int, say) -> None:
    """`say()` before the n-th call of a function."""
    original, calls = getattr(owner, name), []

    @wraps(original)
    def call(*args, **kwargs):
        calls.append(1)
        if len(calls) == number:
            say()
        return original(*args, **kwargs)

    setattr(owner, name, call)


class AtImport:
    """A finder of modules that finds none: `say()` where this one is first looked for."""

    def __init__(self, name: str, say) -> None:
        self.name, self.say = name, say

    def find_spec(self, name: str, path=None, target=None) -> None:
        if name == self.name:
            self.say()


def main(place: str, seconds: float, flags: list[str]) -> int:
    def say() -> None:
        announce(place, seconds)

    from mindformers_vit.checkpoint.store import CheckpointStore
    from mindformers_vit.engine import build

    if place == "import":
        at_call(build, "open_data", 1, say)
    elif place == "mindspore":
        sys.meta_path.insert(0, AtImport("mindspore.nn.optim", say))
    elif place == "save":
        at_call(CheckpointStore, "_write", 1, say)
    else:
        from mindformers_vit.engine import evaluator
        from mindformers_vit.engine.train_step import TrainStep

        if place == "evaluation":
            at_call(evaluator, "evaluate", 1, say)
        else:
            at_call(TrainStep, "__call__", {"compile": 1, "step": 3}[place], say)
    return cli.main(flags)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2]), sys.argv[3:]))
