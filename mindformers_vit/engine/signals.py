"""SIGTERM and SIGINT (Ctrl-C) while a run trains: it ends after the step, saved.

The first signal is noted and acted upon between two steps, or, where nothing has to be finished
(compilation, evaluation), where it arrives. A second one ends the process at once.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

from mindformers_vit.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ONE_REQUEST = 0.1  # seconds; `timeout` and schedulers signal a process and its group


class Signals:
    """As a context manager: takes the two signals over (in the main thread) and gives them back."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}
        self._raises = False

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise Interrupted if a signal has come."""
        if self.received is not None:
            raise Interrupted(self.received)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """A block that a signal ends where it arrives."""
        self.check()
        self._raises = True
        try:
            yield
        except BaseException:
            self._raises = False
            self.check()  # the compiler makes an error of its own of what passes through it
            raise
        self._raises = False

    def _note(self, number: int, _: Any) -> None:
        if self.received is not None:
            return  # the same request, delivered twice
        self.received = number
        time.sleep(_ONE_REQUEST)
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        if self._raises:
            raise Interrupted(number)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """A block that must not be left half done, as MindSpore's import; a signal comes after it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {each: signal.signal(each, lambda n, _: came.append(n)) for each in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])
