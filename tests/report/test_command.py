"""`mindformers-vit report DIR [DIR ...]`."""

import json

import pytest

from mindformers_vit import cli
from tests.report.conftest import write_run
from tests.report.test_page import parsed, words_of

pytestmark = pytest.mark.fast


def test_one_directory_is_written_anew(run_dir, capsys):
    assert cli.main(["report", str(run_dir)]) == 0
    assert capsys.readouterr().out == f"{run_dir / 'report.html'}\n"
    assert "state" in words_of((run_dir / "report.html").read_text())


def test_several_are_compared(run_dir, tmp_path, capsys):
    other = write_run(tmp_path / "other", loss=4.0, lr=2e-3)
    target = tmp_path / "new" / "c.html"
    assert cli.main(["report", str(run_dir), str(other), "--output", str(target)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out == [
        "my & run  20  0.1000  Top1 Accuracy 40.00 %  110.5",
        "other  20  0.2000  Top1 Accuracy 40.00 %  110.5",
        str(target),
    ]
    content = target.read_text()
    found = parsed(content)
    assert found.tags.count("svg") == 4 and "script" not in found.tags
    words = " ".join(words_of(content).split())
    assert words.endswith("Settings that differ setting my & run other optimizer.lr 0.001 0.002")


def test_directories_of_one_name_are_told_apart_by_their_paths(tmp_path, capsys):
    runs = [str(write_run(tmp_path / parent / "run")) for parent in ("a", "b")]
    assert cli.main(["report", *runs, "--output", str(tmp_path / "c.html")]) == 0
    assert [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()[:2]] == runs


def test_what_is_no_run_is_refused_and_nothing_is_written(run_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert cli.main(["report", str(run_dir), "nowhere", "empty"]) == 2
    said = capsys.readouterr().err
    assert "report: 'nowhere': no such directory" in said
    assert "report: 'empty': no output directory of a run" in said
    assert not list(tmp_path.rglob("*.html"))


def test_an_evaluation_alone_has_a_report(tmp_path):
    run = write_run(tmp_path / "eval")
    (run / "metrics.jsonl").unlink()
    (run / "report" / "starts.jsonl").write_text(json.dumps({"end": "evaluated"}) + "\n")
    assert cli.main(["report", str(run)]) == 0
    words = " ".join(words_of((run / "report.html").read_text()).split())
    assert "state evaluated Top1 Accuracy 50.00 %" in words
