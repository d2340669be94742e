"""The demo in a headless browser: a picture, the slider, a broken file, twenty quick clicks."""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from browser_tests import browser
from tests.demo.test_studio import saved as saved
from tests.engine import lab

ROOT = Path(__file__).parents[1]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def served(saved, tmp_path_factory):
    """kind -> URL of a demo in a process of its own."""
    browser.needed("gradio", "playwright")
    urls, processes = {}, []
    for kind, path in saved.items():
        port = free_port()
        command = [sys.executable, "-m", "mindformers_vit", "demo", "--load_checkpoint", path]
        processes.append(
            subprocess.Popen([*command, "--port", str(port)], cwd=ROOT, env=os.environ | {"CI": ""})
        )
        urls[kind] = f"http://127.0.0.1:{port}"
    try:
        for url in urls.values():
            _wait(url)
        yield urls
    finally:
        for process in processes:
            process.terminate()
            process.wait(20)


def _wait(url: str) -> None:
    for _ in range(300):
        try:
            with urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"{url} does not answer")


@pytest.fixture(scope="module")
def chromium(served):
    with browser.chromium() as found:
        yield found


@pytest.fixture
def photo(tmp_path) -> str:
    lab.picture(5).resize((64, 64)).save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def opened(chromium, url):
    page = chromium.new_page(viewport={"width": 1200, "height": 800})
    page.set_default_timeout(30_000)
    said = browser.watched(page)
    page.goto(url)
    page.wait_for_selector("#picture input[type=file]", state="attached")
    return page, said


def says(page, pattern: str) -> str:
    """Wait for the line below the pictures."""
    page.wait_for_function(
        "p => new RegExp(p).test(document.querySelector('#words').innerText)", arg=pattern
    )
    return page.inner_text("#words")


def test_a_picture_is_painted_and_the_slider_hides_more(chromium, served, photo):
    page, said = opened(chromium, served["mae"])
    page.set_input_files("#picture input[type=file]", photo)
    page.wait_for_selector("#painted img")
    assert re.search(r"12 of 16 patches hidden, loss \d", says(page, "12 of 16"))
    number = page.locator("input[type=number]")
    number.fill("0.5")
    number.press("Enter")
    says(page, "8 of 16")
    assert page.locator("#original img, #masked img, #painted img").count() == 3
    assert said == []
    page.close()


def test_a_broken_file_gives_a_message_and_the_next_one_works(chromium, served, photo, tmp_path):
    page, _ = opened(chromium, served["mae"])
    broken = tmp_path / "holiday.jpg"
    broken.write_bytes(b"\xff\xd8 not a picture")
    page.set_input_files("#picture input[type=file]", str(broken))
    page.wait_for_selector("text=/'holiday.jpg' is not an image/")
    page.reload()
    page.wait_for_selector("#picture input[type=file]", state="attached")
    page.set_input_files("#picture input[type=file]", photo)
    says(page, "12 of 16")
    page.close()


def test_twenty_quick_clicks_do_no_harm(chromium, served, photo):
    page, said = opened(chromium, served["mae"])
    page.set_input_files("#picture input[type=file]", photo)
    before = says(page, "12 of 16")
    for _ in range(20):
        page.click("#again", no_wait_after=True)
    page.wait_for_function("t => document.querySelector('#words').innerText !== t", arg=before)
    page.wait_for_timeout(2000)
    number = page.locator("input[type=number]")
    number.fill("0.25")
    number.press("Enter")
    says(page, "4 of 16")
    assert said == []
    page.close()


def test_a_classifier_names_five_classes_and_shows_where_it_looked(chromium, served, photo):
    page, said = opened(chromium, served["vit"])
    page.set_input_files("#picture input[type=file]", photo)
    page.wait_for_selector("#attention img")
    assert len(set(re.findall(r"LABEL_\d", page.inner_text("#classes")))) == 5
    assert said == []
    page.close()
