"""An output directory as a run leaves it, with names that are up to no good."""

import json
from pathlib import Path

import pytest

from mindformers_vit.report.facts import FOLDER
from tests.engine.conftest import _process  # noqa: F401

HOSTILE = "<script>alert('&\"')</script>"


def write_run(root: Path, *, steps: int = 20, loss: float = 2.0, lr: float = 1e-3) -> Path:
    """metrics.jsonl of `steps` steps in epochs of 10, evaluated after each; and all the rest."""
    folder = root / FOLDER
    (root / "log" / "rank_0").mkdir(parents=True)
    folder.mkdir()
    lines = []
    for step in range(1, steps + 1):
        epoch = 1 + (step - 1) // 10
        value = {"loss": loss / step, "lr": lr * step, "finite": step != 3}
        lines.append({"step": step, "epoch": epoch, "images_per_second": 100.0 + step, **value})
        if step % 10 == 0:
            lines.append({"step": step, "epoch": epoch, "Top1 Accuracy": 0.02 * step})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (root / "metrics.jsonl").write_text(text + '{"step": 21, "lo')
    config = f"run_mode: train\nrunner_config: {{epochs: 2}}\noptimizer: {{lr: {lr}}}\n"
    (root / "config_train.yaml").write_text(config)
    (folder / "recipe.yaml").write_text(config.replace("epochs: 2", "epochs: 9"))
    starts = [
        {"time": "t0", "step": 0, "epoch": 1, "environment": {"device": "CPU"}},
        {"time": "t1", "end": "interrupted", "step": 7, "epoch": 1},
        {"time": "t2", "step": 5, "epoch": 1, "environment": {"device": f"Ascend {HOSTILE}"}},
        {"time": "t3", "end": "finished", "step": steps, "epoch": 2},
    ]
    (folder / "starts.jsonl").write_text("".join(json.dumps(s) + "\n" for s in starts))
    (root / "bad_samples.jsonl").write_text(json.dumps({"path": HOSTILE, "reason": "torn"}) + "\n")
    log = "2026-01-02 03:04:05,678 - mindformers_vit[run.py:9] - {} - {}\n"
    info = [log.format("INFO", "not shown"), *[log.format("WARNING", f"w {HOSTILE}")] * 3]
    (root / "log" / "rank_0" / "info.log").write_text("".join(info))
    (folder / "evaluation.json").write_text(json.dumps(evaluation()))
    return root


def evaluation() -> dict:
    """Three classes: the first always right, the second half, the third never."""
    worst = {"file": f"/x/{HOSTILE.replace('/', '')}.jpg", "label": 2, "predicted": 0,
             "confidence": 0.9321, "picture": ""}  # fmt: skip
    return {
        "images": 12,
        "classes": ["ant", HOSTILE, "c\u202eat\x00"],
        "counts": [[0, 0, 4], [1, 1, 2], [1, 2, 2], [2, 0, 4]],
        "worst": [worst],
        "metrics": {"Top1 Accuracy": 0.5},
        "epoch": 2,
    }


@pytest.fixture
def run_dir(tmp_path) -> Path:
    return write_run(tmp_path / "my & run")
