"""The short form of `kill_loop.py`, which is run with 100 kills by hand."""

from tests.reliability.kill_loop import INTERVAL, kill_loop


def test_killed_eight_times_it_is_the_unbroken_run(tmp_path):
    result = kill_loop(tmp_path, kills=8, seed=3, recipe="mae")
    print(result)
    assert result.kills == 8
    assert result.sha256 == result.expected
    assert max(result.lost) <= INTERVAL
    assert max(result.at) > 0  # some came after the first step
