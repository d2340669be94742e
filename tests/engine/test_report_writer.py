"""A run keeps its report; the report never ends a run and never changes its numbers."""

import json
import logging
import re

import pytest

from mindformers_vit import cli
from mindformers_vit.engine import reporting
from mindformers_vit.engine.callbacks import report_writer
from mindformers_vit.report.facts import read_facts
from tests.engine import lab
from tests.report.test_page import parsed, words_of


def starts(output):
    lines = (output / "report" / "starts.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_pretraining_paints_after_epochs_1_2_4_and_the_last(
    mae_yaml, run_flags, tmp_path, eval_dir, shared_steps
):
    held_out = ("--eval_dataset_dir", str(eval_dir))
    assert lab.command(mae_yaml, tmp_path, *run_flags["mae"], *held_out, "--epochs", "5") == 0
    names = [name for name, _ in read_facts(tmp_path).strips]
    assert names == ["original", "masked", "epoch 1", "epoch 2", "epoch 4", "epoch 5"]
    content = (tmp_path / "report.html").read_text()
    found = parsed(content)
    assert found.tags.count("img") == 6
    words = " ".join(words_of(content).split())
    assert "state finished epoch 5 of 5 step 30" in words
    assert "Held-out pictures." in words
    assert re.search(r"runner_config.epochs 2 5 ", words)
    assert f"eval_dataset.data_loader.dataset_dir empty {eval_dir} output_dir" in words
    last = lab.metrics(tmp_path)[-1]
    assert f"last loss {last['loss']:.4f}" in words


def test_the_report_changes_no_number(unbroken, mae_yaml, run_flags, tmp_path, monkeypatch):
    lab.share_compiled(monkeypatch)
    for hook in ("on_train_begin", "on_epoch_end", "on_step_end", "on_train_end"):
        monkeypatch.setattr(report_writer.ReportWriter, hook, lambda self, loop: None)
    assert lab.command(mae_yaml, tmp_path, *run_flags["mae"]) == 0
    assert not (tmp_path / "report.html").exists()
    lab.assert_same(unbroken["mae"], tmp_path)


def test_a_classifier_in_training_shows_its_classes(unbroken):
    content = (unbroken["vit"] / "report.html").read_text()
    facts = read_facts(unbroken["vit"])
    assert facts.evaluation.images == 12 and facts.evaluation.epoch == 2
    assert sum(n for _, _, n in facts.evaluation.counts) == 12
    hits = sum(n for a, b, n in facts.evaluation.counts if a == b)
    assert hits / 12 == facts.evaluation.metrics["Top1 Accuracy"]
    assert len(facts.evaluation.worst) == 12 - hits
    assert all(item.picture for item in facts.evaluation.worst)
    words = " ".join(words_of(content).split())
    assert "12 images, after epoch 2." in words and "Worst examples" in words
    assert [s.get("end") for s in starts(unbroken["vit"])] == [None, "finished"]


def test_an_evaluation_alone_has_a_report(unbroken, vit_yaml, eval_dir, tmp_path, capsys):
    flags = ("--run_mode", "eval", "--load_checkpoint", str(unbroken["vit"]))
    assert lab.command(vit_yaml, tmp_path, *flags, "--eval_dataset_dir", str(eval_dir)) == 0
    words = " ".join(words_of((tmp_path / "report.html").read_text()).split())
    result = json.loads((tmp_path / "eval_result.json").read_text())["metrics"]
    assert f"state evaluated Top1 Accuracy {100 * result['Top1 Accuracy']:.2f} %" in words
    assert "Classes 12 images." in words and "Curves" not in words
    assert re.search(
        r"load_checkpoint empty \S+ output_dir ./output \S+ run_mode train eval", words
    )
    said, log = capsys.readouterr()
    top1, top5 = result["Top1 Accuracy"], result["Top5 Accuracy"]
    assert said == f"Top1 Accuracy  {100 * top1:6.2f} %\nTop5 Accuracy  {100 * top5:6.2f} %\n"
    assert f"Top1 Accuracy = {{'Top1 Accuracy': {top1}}}\n" in log


def test_an_evaluation_by_neighbours_has_a_report_of_figures(
    unbroken, mae_yaml, train_dir, eval_dir, tmp_path
):
    flags = ("--run_mode", "eval", "--metric.type=KNN", "--load_checkpoint", str(unbroken["mae"]))
    flags += ("--train_dataset_dir", str(train_dir), "--eval_dataset_dir", str(eval_dir))
    assert lab.command(mae_yaml, tmp_path, *flags) == 0
    result = json.loads((tmp_path / "eval_result.json").read_text())["metrics"]
    words = " ".join(words_of((tmp_path / "report.html").read_text()).split())
    assert f"evaluated KNN Top1 Accuracy {100 * result['KNN Top1 Accuracy']:.2f} %" in words
    assert "Classes" not in words and "Worst examples" not in words


def test_pretraining_that_is_evaluated_by_neighbours(
    mae_yaml, run_flags, train_dir, eval_dir, tmp_path, shared_steps
):
    flags = (*run_flags["mae"], "--do_eval", "True", "--metric.type=KNN")
    assert lab.command(mae_yaml, tmp_path, *flags, "--eval_dataset_dir", str(eval_dir)) == 0
    values = [m["KNN Top1 Accuracy"] for m in lab.metrics(tmp_path) if "KNN Top1 Accuracy" in m]
    words = " ".join(words_of((tmp_path / "report.html").read_text()).split())
    last, best = (f"{100 * value:.2f} %" for value in (values[-1], max(values)))
    assert len(values) == 2
    assert f"KNN Top1 Accuracy {last} best {best}" in words and "Accuracy, %" in words


def test_a_report_that_cannot_be_written_ends_nothing(
    unbroken, mae_yaml, run_flags, tmp_path, shared_steps, monkeypatch
):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report_writer, "write_report", fail)
    monkeypatch.setattr(report_writer.Painter, "paint", fail)
    monkeypatch.setattr(reporting, "note", fail)
    assert lab.command(mae_yaml, tmp_path, *run_flags["mae"]) == 0
    lab.assert_same(unbroken["mae"], tmp_path)
    log = (tmp_path / "log" / "rank_0" / "info.log").read_text()
    assert log.count("painting pictures for report.html failed, the run goes on") == 2
    assert log.count("writing report.html failed") == 4  # the beginning and the end, page and note


def test_harmless_says_what_went_wrong(caplog):
    with caplog.at_level(logging.WARNING, "mindformers_vit"), reporting.harmless("doing x"):
        raise OSError(28, "No space left on device")
    assert caplog.messages == [
        "doing x failed, the run goes on: OSError: [Errno 28] No space left on device"
    ]
    with pytest.raises(KeyboardInterrupt), reporting.harmless("doing x"):
        raise KeyboardInterrupt


def test_a_second_run_in_the_directory_has_a_report_of_its_own(
    mae_yaml, run_flags, tmp_path, shared_steps
):
    for _ in range(2):
        flags = (*run_flags["mae"], "--resume_training", "False", "--epochs", "1")
        assert cli.main(["--config", str(mae_yaml), "--output_dir", str(tmp_path), *flags]) == 0
    assert (tmp_path / "previous_1" / "report.html").is_file()
    assert [s.get("end") for s in starts(tmp_path)] == [None, "finished"]


def test_a_resumed_run_tells_where_it_went_on(mae_yaml, run_flags, tmp_path, shared_steps):
    stop = ("--runner_config.max_steps", "4")
    assert lab.command(mae_yaml, tmp_path, *run_flags["mae"], *stop) == 0
    assert lab.command(mae_yaml, tmp_path, *run_flags["mae"], "--resume_training", "True") == 0
    lines = starts(tmp_path)
    assert [(s.get("end"), s["step"]) for s in lines] == [
        (None, 0), ("stopped", 4), (None, 4), ("finished", 12),
    ]  # fmt: skip
    assert lines[0]["environment"]["device"] == "CPU"
