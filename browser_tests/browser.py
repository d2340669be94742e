"""A headless Chromium for tests. Where there is none they say so: skipped, failed if required."""

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


def needed(*packages: str) -> None:
    """Skip the test if the browser or a package is missing, and say which; fail it if required."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    missing += [] if CHROMIUM else ["chromium"]
    if not missing:
        return
    words = (
        f"needs {', '.join(missing)}: apt install chromium (or set CHROMIUM); "
        "pip install -r requirements-demo.txt"
    )
    pytest.fail(words) if os.environ.get("REQUIRE_BROWSER") == "1" else pytest.skip(words)


@contextmanager
def chromium() -> Iterator[Any]:
    """A playwright browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def watched(page: Any) -> list[str]:
    """Collects the page's console errors and every request that leaves this machine."""
    said: list[str] = []
    local = ("data:", "blob:", "file:", "http://127.0.0.1:")
    page.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith(local) else said.append(r.url))
    return said
