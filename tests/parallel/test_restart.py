"""A killed rank ends the run, or with --max_restarts the run goes on; ranks may change between."""

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np

from tests.engine import lab
from tests.parallel.conftest import finished, wait_for_step
from tests.parallel.test_two_ranks import losses


def rank_processes(launcher: subprocess.Popen) -> dict[int, int]:
    """Rank -> process id of the launcher's children."""
    listed = subprocess.run(
        ["ps", "--no-headers", "-o", "pid", "--ppid", str(launcher.pid)],
        capture_output=True,
        text=True,
        check=True,
    )
    found = {}
    for pid in map(int, listed.stdout.split()):
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        variables = dict(word.split(b"=", 1) for word in words if b"=" in word)
        if variables.get(b"MS_ROLE") == b"MS_WORKER":
            found[int(variables[b"RANK_ID"])] = pid
    return found


def kill_rank_1(launcher, output, step):
    wait_for_step(launcher, output, step)
    os.kill(rank_processes(launcher)[1], signal.SIGKILL)


def test_a_killed_rank_is_restarted_and_the_result_is_the_same(bench, pairs):
    output = bench.root / "restarted"
    launcher = bench.two_ranks("mae", output, "--max_restarts", "1")
    kill_rank_1(launcher, output, 7)
    code, said = finished(launcher)
    assert code == 0
    assert "rank 1 ended with signal SIGKILL; the end of its log" in said
    assert "restart 1 of 1, from the newest checkpoint" in said
    assert "resumed " in (output / "log" / "rank_1" / "info.log").read_text()
    lab.assert_same(pairs["mae"]["two"], output)


def test_one_process_then_two_ranks_until_one_is_killed_then_one_process(bench, pairs):
    output = bench.root / "one_two_one"
    assert bench.one_process("mae", output, "--runner_config.max_steps", "8") == 0
    launcher = bench.two_ranks("mae", output)
    kill_rank_1(launcher, output, 12)
    start = time.monotonic()
    code, said = finished(launcher)
    assert time.monotonic() - start < 30
    assert code == 128 + signal.SIGKILL
    assert "rank 1 ended with signal SIGKILL" in said
    assert "epoch 2, step 3/5" in (output / "log" / "rank_1" / "info.log").read_text()
    assert bench.one_process("mae", output, "--resume_training", "True") == 0
    both = losses(output)
    assert len(both) == 20
    np.testing.assert_allclose(both, losses(pairs["mae"]["one"]), rtol=1e-6, atol=0)
