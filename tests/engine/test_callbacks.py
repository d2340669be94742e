"""What a run says and writes: MindFormers' log line, the progress bar, numbers for programs."""

import io
import json
import logging
import subprocess
import sys
from types import SimpleNamespace

import pytest

from mindformers_vit.engine.callbacks.loss_monitor import LossMonitor, format_lines
from mindformers_vit.engine.callbacks.metrics_writer import MetricsWriter
from mindformers_vit.engine.loop import StepRecord
from mindformers_vit.engine.parallel import ONE
from mindformers_vit.engine.progress import clock

pytestmark = pytest.mark.fast


def loop_at(step: int, output_dir=None, **changes):
    record = {
        "loss": 1.0125, "lr": 1.2e-07, "seconds": 0.25, "images": 64, "finite": True,
        "loss_scale": 1024.0, "grad_norm": 2.5,
    }  # fmt: skip
    return SimpleNamespace(
        record=StepRecord(**record | changes), epoch=1 + (step - 1) // 4, epochs=10,
        step=1 + (step - 1) % 4, steps_per_epoch=4, global_step=step, total_steps=40,
        output_dir=output_dir, metrics={"Top1 Accuracy": 0.5}, seconds_left=lambda: 90061.0,
        world=ONE, evaluated_step=step,
    )  # fmt: skip


def test_the_log_line_is_mindformers():
    first, second = format_lines(loop_at(6))
    assert first == (
        "{ Epoch:[ 2/10], step:[2/4], loss: 1.012500, per_step_time: 250ms, lr: 1.2e-07, "
        "overflow cond: False, loss_scale: 1024.0 }"
    )
    assert second == f"   15.0% |{'█' * 8}{' ' * 42}| 256.00 samples/s/p  1 d 01:01:01 }}"
    assert "overflow cond: True" in format_lines(loop_at(6, finite=False))[0]


@pytest.mark.parametrize(("every", "steps"), [(1, [1, 2, 3, 4, 5]), (3, [3, 4]), (10, [4])])
def test_it_speaks_every_so_many_steps_and_at_the_end_of_an_epoch(every, steps, caplog):
    caplog.set_level(logging.INFO, "mindformers_vit")
    monitor = LossMonitor(per_print_times=every)
    monitor.on_train_begin(loop_at(1))
    for step in range(1, 6):
        monitor.on_step_end(loop_at(step))
    monitor.on_train_end(loop_at(5))
    lines = [line for line in caplog.messages if line.startswith("{ Epoch")]
    assert lines == [format_lines(loop_at(step))[0] for step in steps]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def on_a_terminal(monkeypatch, tmp_path, steps) -> tuple[list[str], str]:
    """What the terminal's lines end up as, and the log file, of a monitor and other messages."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("COLUMNS", "80")
    logger = logging.getLogger("mindformers_vit")
    monkeypatch.setattr(
        logger,
        "handlers",
        [logging.StreamHandler(sys.stderr), logging.FileHandler(tmp_path / "log")],
    )
    monkeypatch.setattr(logger, "level", logging.INFO)
    monitor = LossMonitor(per_print_times=1)
    monitor.on_train_begin(loop_at(steps[0]))
    for step in steps:
        if step == steps[0] or (step - 1) % 4 == 0:
            monitor.on_epoch_begin(loop_before(step))
        monitor.on_step_end(loop_at(step))
        logger.info("message %d", step)
    monitor.on_train_end(loop_at(steps[-1]))
    shown = [line.split("\r")[-1] for line in sys.stderr.getvalue().split("\n")]
    logger.handlers[-1].close()
    return [line for line in shown if line.strip()], (tmp_path / "log").read_text()


def loop_before(step: int):
    loop = loop_at(step)
    loop.step -= 1
    return loop


def test_a_terminal_gets_one_live_line_an_epoch(monkeypatch, tmp_path):
    shown, log = on_a_terminal(monkeypatch, tmp_path, [3, 4, 5])
    assert not any("Epoch:[" in line for line in shown)  # that is for the log file
    assert log.count("{ Epoch:[") == 3 and log.count("message") == 3
    lines = [line for line in shown if line.startswith("epoch")]
    assert len(lines) == 2  # the epoch that was resumed in its middle, and the next
    assert lines[0].startswith("epoch  1/10 ") and " 4/4  loss 1.0125  lr 1.2e-07" in lines[0]
    assert lines[0].endswith("256 img/s  ETA 1 d 01:01") and "##" in lines[0]
    assert " 1/4  loss" in lines[1]
    assert [line for line in shown if line.startswith("message")] == [
        "message 3", "message 4", "message 5",
    ]  # fmt: skip


def test_every_state_of_the_live_line_fits_into_80_columns(monkeypatch, tmp_path):
    on_a_terminal(monkeypatch, tmp_path, list(range(1, 9)))
    states = [part for line in sys.stderr.getvalue().split("\n") for part in line.split("\r")]
    assert max(len(state) for state in states) <= 80
    assert any("compiling, once a run" in state for state in states)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "00:00"), (74.4, "01:14"), (7389, "2:03:09"), (90061, "1 d 01:01"), (1e6, "11 d 13:46")],
)
def test_the_time_left(seconds, said):
    assert clock(seconds) == said


def test_numbers_for_programs(tmp_path):
    for begin, steps in ((0, (1, 2, 3)), (2, (3,))):  # the second run resumes after step 2
        writer = MetricsWriter()
        writer.on_train_begin(loop_at(begin, tmp_path))
        for step in steps:
            writer.on_step_end(loop_at(step, tmp_path, loss=float("nan") if step == 2 else 0.5))
        writer.on_evaluate_end(loop_at(steps[-1], tmp_path))
        writer.on_train_end(loop_at(steps[-1], tmp_path))
    text = (tmp_path / "metrics.jsonl").read_text()
    lines = [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 3]  # each update once
    assert lines[0] == {
        "step": 1, "epoch": 1, "loss": 0.5, "lr": 1.2e-07, "grad_norm": 2.5, "finite": True,
        "loss_scale": 1024.0, "images_per_second": 256.0,
    }  # fmt: skip
    assert lines[1]["loss"] is None
    assert lines[3] == {"step": 3, "epoch": 1, "Top1 Accuracy": 0.5}
    events = list((tmp_path / "summary" / "rank_0").glob("events.out.tfevents.*"))
    assert events and all(path.stat().st_size > 100 for path in events)


def test_a_line_that_a_kill_cut_is_forgotten(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n{"step": \xff}\n{"step": 2, "lo')
    writer = MetricsWriter(tensorboard=False)
    writer.on_train_begin(loop_at(2, tmp_path))
    writer.on_step_end(loop_at(3, tmp_path))
    writer.on_train_end(loop_at(3, tmp_path))
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 3]


def test_every_so_many_steps(tmp_path):
    writer = MetricsWriter(every_steps=2, tensorboard=False)
    writer.on_train_begin(loop_at(1, tmp_path))
    for step in range(1, 6):
        writer.on_step_end(loop_at(step, tmp_path))
    writer.on_train_end(loop_at(5, tmp_path))
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4]
    assert not (tmp_path / "summary").exists()


def test_event_files_are_written_without_torch(tmp_path):
    code = (
        "import sys; from pathlib import Path; "
        "from mindformers_vit.engine.callbacks.metrics_writer import Board; "
        "board = Board(Path(sys.argv[1])); board.add({'loss': 1.0, 'lr': True}, 1); board.close(); "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60)
    assert next(tmp_path.glob("events.*")).stat().st_size > 0
