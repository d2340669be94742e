"""What MindSpore itself says: warnings go to a file beside the run, errors to the terminal, too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mindformers_vit import compat

ROOT = Path(__file__).parents[2]
SAYING = """
import sys
from pathlib import Path
from mindformers_vit import compat
from mindformers_vit.engine import doctor
compat.hush()
compat.log_to(Path("log"))
import mindspore as ms
compat.set_device("CPU")
doctor._SECONDS = 0
doctor._train()  # while it compiles, MindSpore's C++ half warns
ms.log.warning("a warning from Python")
Path("broken.mindir").write_bytes(b"garbage")
try:
    ms.load("broken.mindir")
except RuntimeError:
    pass
"""


def said(tmp_path: Path) -> str:
    """What the terminal of rank 1 shows."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GLOG_")}
    done = subprocess.run(
        [sys.executable, "-c", SAYING], cwd=tmp_path, text=True, capture_output=True,
        env={**clean, "PYTHONPATH": str(ROOT), "RANK_ID": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_warnings_are_kept_in_a_file_and_errors_are_seen(tmp_path):
    terminal = said(tmp_path)
    logs = list((tmp_path / "log" / "rank_1" / "logs").iterdir())
    kept = "".join(path.read_text() for path in logs)
    assert "[WARNING]" not in terminal
    assert "auto_monad.cc" in kept and "a warning from Python" in kept
    for text in (terminal, kept):
        assert "[ERROR]" in text and "Load MindIR file failed" in text


@pytest.mark.parametrize("own", [{"GLOG_v": "2"}, {"GLOG_v": "3", "GLOG_logtostderr": "1"}])
def test_what_the_user_has_set_stays(tmp_path, monkeypatch, own):
    monkeypatch.delitem(sys.modules, "mindspore", raising=False)
    for name in [name for name in os.environ if name.startswith("GLOG_")]:
        monkeypatch.delenv(name)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    compat.hush()
    compat.log_to(tmp_path)
    assert {k: v for k, v in os.environ.items() if k.startswith("GLOG_")} == own
    assert "mindspore" not in sys.modules
