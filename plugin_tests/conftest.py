"""MindFormers itself with the plug-in, in one process for all tests."""

import os
import tempfile
import warnings

import pytest

# MindFormers makes its log's folder where it is imported, unless told another
os.environ.setdefault("LOG_MF_PATH", tempfile.mkdtemp(prefix="mindformers_log_"))
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its imports
    import mindformers_vit.plugin  # noqa: F401

from tests.conftest import no_publisher_is_asked as no_publisher_is_asked
from tests.engine import lab


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty working directory, and the compiled steps of other tests."""
    monkeypatch.chdir(tmp_path)
    lab.share_compiled(monkeypatch)
    with lab.own_process():
        yield tmp_path
