"""report.html: one file that says what the run's files say, whatever these contain."""

import html
import json
import re
from html.parser import HTMLParser

import pytest

from mindformers_vit.report import svg
from mindformers_vit.report.facts import read_facts
from mindformers_vit.report.html import document, text
from mindformers_vit.report.page import differences, page
from mindformers_vit.report.write import write_report
from tests.report.conftest import HOSTILE, write_run

pytestmark = pytest.mark.fast
VOID = {"meta", "link", "img", "br"}


class Checker(HTMLParser):
    """Tags are balanced; collects tags and what attributes point at."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.targets = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.targets += [v for k, v in attrs if k in ("src", "href", "xlink:href", "action")]
        assert not [k for k, _ in attrs if k.startswith("on")], attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(content: str) -> Checker:
    checker = Checker()
    checker.feed(content)
    assert checker.open == []
    return checker


def words_of(content: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", content.split("</style>")[1]))


def test_the_page_is_one_file_without_script(run_dir):
    found = parsed(write_report(run_dir).read_text(encoding="utf-8"))
    assert "script" not in found.tags
    assert all(target.startswith("data:") for target in found.targets)
    assert found.tags.count("svg") == 5  # loss, accuracy, lr, images/s, confusion
    content = (run_dir / "report.html").read_text()
    assert "url(" not in content and "@import" not in content
    assert "default-src 'none'" in content


def test_what_is_hostile_is_only_text(run_dir):
    content = write_report(run_dir).read_text(encoding="utf-8")
    assert "<script" not in content
    assert words_of(content).count(HOSTILE) >= 4  # class, warning, bad sample, environment
    assert "c\\u202eat\\u0000" in content
    assert "my &amp; run" in content


def test_the_figures_are_those_of_metrics_jsonl(run_dir):
    words = " ".join(words_of(write_report(run_dir).read_text(encoding="utf-8")).split())
    assert "state finished" in words
    assert "epoch 2 of 2" in words and "step 20" in words
    assert "last loss 0.1000" in words
    assert "Top1 Accuracy 40.00 % best 40.00 %" in words
    assert "images/s (median) 110.5" in words
    assert "steps skipped 1 not finite" in words
    assert "runner_config.epochs 9 2" in words  # recipe, this run
    assert "optimizer.lr" not in words.split("Settings")[1].split("The whole")[0]
    assert "t2 resumed 5 1" in words and "t1 interrupted 7 1" in words
    assert re.search(r"w <script>.*</script> 3 2026-01-02 03:04:05", words)
    assert "not shown" not in words


def test_classes_are_shown_worst_first_with_what_they_are_taken_for(run_dir):
    words = " ".join(words_of(write_report(run_dir).read_text()).split())
    rows = [words.index(part) for part in ("4 0.0 % ant (4)", "4 50.0 % c", "ant 4 100.0 %")]
    assert rows == sorted(rows)
    assert "12 images, after epoch 2" in words
    assert "ant 93 %is" in words.replace("% is", "%is")


def test_a_warning_of_several_lines_is_one_warning(run_dir):
    log = run_dir / "log" / "rank_0" / "info.log"
    entry = "2026-01-02 03:04:05,678 - mindformers_vit[run.py:9] - WARNING - in this yaml:\n  one\n"
    log.write_text(2 * (entry + entry.replace("WARNING - in this yaml:\n  one", "INFO - 1")))
    assert read_facts(run_dir).warnings == {"in this yaml:\n  one": (2, "2026-01-02 03:04:05")}


def test_nothing_but_a_directory_gives_a_page(tmp_path):
    words = words_of(page(read_facts(tmp_path)))
    assert "state" in words and "unknown" in words and "No metrics.jsonl yet" in words


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"images": 1}',
     '{"images": 1, "classes": [], "counts": [[0, -1, 3]], "worst": []}',
     '{"images": 1, "classes": [], "counts": [[0, 99999999999, 3]], "worst": []}'],
)  # fmt: skip
def test_a_damaged_evaluation_is_left_out(run_dir, content):
    (run_dir / "report" / "evaluation.json").write_text(content)
    assert "Worst examples" not in write_report(run_dir).read_text()


def test_the_old_page_stays_when_the_new_one_cannot_be_written(run_dir, monkeypatch):
    write_report(run_dir)
    before = (run_dir / "report.html").read_bytes()
    (run_dir / ".report.html.tmp").mkdir()
    with pytest.raises(OSError):
        write_report(run_dir)
    assert (run_dir / "report.html").read_bytes() == before


# ---- the small functions


def test_round_ticks():
    assert svg.ticks(0, 1) == [0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]
    assert svg.ticks(0, 960) == [0, 200, 400, 600, 800]
    assert svg.ticks(3, 3) == [3]
    assert [svg.short(v) for v in (0, 1200, 15000, 2.5e6, 0.0015, 0.25)] == [
        "0", "1200", "15k", "2.5M", "1.5e-3", "0.25",
    ]  # fmt: skip


def test_many_points_become_means_with_their_range():
    (first, *_, last) = svg.thin([(x, x % 2) for x in range(2400)])
    assert (first.x, first.y, first.low, first.high) == (4.5, 0.5, 0, 1)
    assert last.x == 2394.5
    drawn = svg.chart("t", [svg.Curve("a", [(x, x % 2) for x in range(1000)])])
    assert drawn.count("<polygon") == 1
    assert len(re.search(r'polyline[^>]*points="([^"]+)"', drawn)[1].split()) == 200


def test_a_chart_places_its_points():
    drawn = svg.chart("t", [svg.Curve("a", [(0, 0), (10, 5)], marked=True)], zero=True)
    points = re.search(r'polyline[^>]*points="([^"]+)"', drawn)[1]
    assert points.split() == ["46.0,186.0", "350.0,16.8"]
    assert "<title>a: 5 at 10</title>" in drawn
    assert svg.chart("t", [svg.Curve("a", [])]) == ""
    assert "legend" not in drawn
    both = svg.chart("t", [svg.Curve("a", [(1, 1)]), svg.Curve("<b>", [(1, 2)])])
    assert "<li class=c1>&lt;b&gt;</li>" in both


def test_differences():
    assert differences({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": None}) == [
        ("b", "3", "2"), ("c", "None", "not set"),
    ]  # fmt: skip


def test_escaping():
    assert text("<a b=\"c\" d='e'>&") == "&lt;a b=&quot;c&quot; d=&#x27;e&#x27;&gt;&amp;"
    assert text("a\x1b[31m\u2066\udcffb") == "a\\u001b[31m\\u2066\\udcffb"
    parsed(document("</title>", ""))


def test_a_long_run_is_read_and_drawn_quickly_enough(tmp_path):
    """100,000 steps: the page stays small."""
    run = write_run(tmp_path / "long", steps=10)
    line = {"epoch": 1, "loss": 1.0, "lr": 1e-3, "finite": True}
    with (run / "metrics.jsonl").open("w") as file:
        file.writelines(json.dumps({"step": s, **line}) + "\n" for s in range(100_000))
    assert len(write_report(run).read_bytes()) < 60_000
