"""`verify-checkpoint` and `verify-data`: what is bad is named, and the exit code says so."""

import subprocess
import sys
from pathlib import Path

import pytest

from mindformers_vit import cli
from mindformers_vit.checkpoint.store import CheckpointStore
from tests.checkpoint.test_store import save
from tests.engine import lab
from tests.reliability.strange import BAD, planted, strange_folder

pytestmark = pytest.mark.fast
ROOT = Path(__file__).parents[2]


def run(capsys, *argv: str) -> tuple[int, list[str], str]:
    code = cli.main(list(argv))
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out.splitlines(), err


def test_checkpoints(tmp_path, capsys):
    root = tmp_path / "checkpoint" / "rank_0"
    store = CheckpointStore(root)
    first, second = save(store, 1, 3).path, save(store, 2, 7).path
    for given in (tmp_path, tmp_path / "checkpoint", root):
        code, lines, _ = run(capsys, "verify-checkpoint", str(given))
        assert code == 0
        assert lines == [
            f"whole {first} (epoch 1, step 3, 3 tensors)",
            f"whole {second} (epoch 2, step 7, 3 tensors)",
            "2 checkpoints, 0 damaged",
        ]
    (first / "config.yaml").write_text("seed: 1\nnamen: Übung\n", encoding="utf-8")
    (second / "manifest.json").unlink()
    code, lines, _ = run(capsys, "verify-checkpoint", str(root))
    assert code == 1
    assert lines[0] == f"BAD   {first}" and "its SHA-256 is not the manifest's" in lines[1]
    assert lines[2] == f"BAD   {second}" and "manifest.json: cannot be read" in lines[3]
    assert lines[4] == "2 checkpoints, 2 damaged"
    assert run(capsys, "verify-checkpoint", str(second))[0] == 1


def test_no_checkpoint(tmp_path, capsys):
    for given in (tmp_path, tmp_path / "none"):
        code, lines, err = run(capsys, "verify-checkpoint", str(given))
        assert (code, lines) == (2, [])
        assert err == f"error: '{given}' holds no training checkpoint\n"


def test_data(tmp_path, capsys):
    strange = strange_folder(tmp_path / "strange")
    code, lines, _ = run(capsys, "verify-data", str(strange), "--threads", "3")
    assert code == 1
    assert [line.split(": ")[0] for line in lines[:-1]] == [f"BAD {p}" for p in planted(strange)]
    assert lines[-1] == f"42 images in 3 classes, {len(BAD)} cannot be read"
    clean = lab.class_folders(tmp_path / "clean", 2)
    assert run(capsys, "verify-data", str(clean))[:2] == (
        0, ["6 images in 3 classes, 0 cannot be read"],
    )  # fmt: skip
    assert run(capsys, "verify-data", str(clean), "--unlabelled")[1] == [
        "6 images, 0 cannot be read"
    ]
    (clean / "ant" / "two\nlines\x1b[2J.jpg").write_bytes(b"")
    code, lines, _ = run(capsys, "verify-data", str(clean))
    assert code == 1 and len(lines) == 2
    assert lines[0].startswith(f"BAD {clean}/ant/two\\nlines\\x1b[2J.jpg: cannot be read")
    code, _, err = run(capsys, "verify-data", str(tmp_path / "none"))
    assert code == 2 and "does not exist" in err


def test_from_the_shell(tmp_path):
    data = lab.class_folders(tmp_path / "clean", 1)
    command = [sys.executable, "-m", "mindformers_vit", "verify-data", str(data)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "3 images in 3 classes, 0 cannot be read\n")
    help_text = subprocess.run(
        [*command[:3], "--help"], cwd=ROOT, capture_output=True, text=True
    ).stdout
    assert "\n  verify-data " in help_text and "\n  verify-checkpoint " in help_text
