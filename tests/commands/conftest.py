"""Commands leave the process as they found it."""

from tests.engine.conftest import _process  # noqa: F401
