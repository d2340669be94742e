"""A SIGTERM to the launcher, and the same command again."""

import re
import signal

from tests.engine import lab
from tests.parallel.conftest import finished, wait_for_step


def said_by(output, rank):
    return (output / "log" / f"rank_{rank}" / "info.log").read_text()


def test_both_ranks_save_at_one_update_and_go_on_from_it(bench, pairs):
    output = bench.root / "told_to_end"
    launcher = bench.two_ranks("mae", output)
    wait_for_step(launcher, output, 7)
    launcher.send_signal(signal.SIGTERM)
    assert finished(launcher)[0] == 128 + signal.SIGTERM
    update = lab.trained(output)[1]["global_step"]
    assert 7 <= update < 20
    for rank in (0, 1):
        ends = re.findall(r"the same command goes on from update (\d+)", said_by(output, rank))
        assert ends == [str(update)]
    assert finished(bench.two_ranks("mae", output))[0] == 0
    for rank in (0, 1):
        assert "the newest valid checkpoint of this run: epoch" in said_by(output, rank)
    lab.assert_same(pairs["mae"]["two"], output)
