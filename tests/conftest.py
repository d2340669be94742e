"""For every test."""

import pytest


@pytest.fixture(autouse=True)
def no_publisher_is_asked(monkeypatch):
    """Weights by name come from nowhere, unless a test serves them."""
    monkeypatch.setenv("MINDFORMERS_VIT_MIRROR", "http://127.0.0.1:9")
