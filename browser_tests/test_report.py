"""report.html as a browser shows it: no error, no request, nothing cut off, light and dark."""

import pytest

from browser_tests import browser
from mindformers_vit.report.write import write_report
from tests.report.conftest import run_dir as run_dir


@pytest.fixture(scope="module")
def chromium():
    browser.needed("playwright")
    with browser.chromium() as found:
        yield found


@pytest.mark.parametrize("width", [360, 390, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens(chromium, run_dir, width, scheme):
    path = write_report(run_dir)
    page = chromium.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    said = browser.watched(page)
    page.goto(path.resolve().as_uri())
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    grounds = {"light": "rgb(246, 247, 249)", "dark": "rgb(16, 21, 27)"}
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == grounds[scheme]
    assert "last loss\n0.1000" in page.inner_text("dl")
    sizes = page.eval_on_selector_all("svg", "all => all.map(s => s.getBoundingClientRect().width)")
    assert len(sizes) == 5 and min(sizes) > 250
    page.close()


def test_it_prints(chromium, run_dir, tmp_path):
    page = chromium.new_page()
    page.goto(write_report(run_dir).resolve().as_uri())
    assert page.pdf(path=str(tmp_path / "report.pdf")).startswith(b"%PDF")
    page.close()
