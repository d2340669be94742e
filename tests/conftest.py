"""For every test."""

import sys

import pytest


def pytest_ignore_collect(collection_path, config):
    """`-m fast` does not import the files without such a test, and with them MindSpore."""
    if config.option.markexpr == "fast" and collection_path.match("test_*.py"):
        return "pytest.mark.fast" not in collection_path.read_text(encoding="utf-8") or None
    return None


def pytest_collection_modifyitems(items):
    """Files of fast tests come last: short ones, that end at the same time in two processes."""
    slow = {item.path for item in items if item.get_closest_marker("fast") is None}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A process takes whole files, and all that start two ranks: they share runs, and two cores."""
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return "parallel" if file.startswith("tests/parallel/") else file

    return Files(config, log)


@pytest.fixture(autouse=True, scope="module")
def mindspores_own_mode():
    """A file of tests begins in PyNative mode, as alone, and not in that of the one before it."""
    mindspore = sys.modules.get("mindspore")
    if mindspore is not None:
        mindspore.set_context(mode=mindspore.PYNATIVE_MODE)


@pytest.fixture(autouse=True)
def no_publisher_is_asked(monkeypatch):
    """Weights by name come from nowhere, unless a test serves them."""
    monkeypatch.setenv("MINDFORMERS_VIT_MIRROR", "http://127.0.0.1:9")
