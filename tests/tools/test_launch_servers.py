"""scripts/run_distribute.sh as one of several servers calls it, and the document's loop."""

import os
import signal
import subprocess
import time

import pytest

from tests.tools.launch_site import ROOT, Site, wait_for


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def test_the_documents_loop_over_twelve_servers(site):
    """As the document writes it (its list of addresses has commas that no ssh would take)."""
    ssh = site.folder / "ssh"
    ssh.write_text('#!/bin/sh\necho "$1" >> "$RECORDS/hosts"\nshift\nexec bash -c "$1"\n')
    ssh.chmod(0o755)
    script = f"""
    RANK_TABLE_FILE={site.table(servers=12)}
    IP_LIST=({" ".join(f'"192.168.0.{i}"' for i in range(12))})
    CONFIG={site.config}
    """
    script += """
    server_count=12
    device_num=8*$server_count
    cd scripts
    bash run_distribute.sh $RANK_TABLE_FILE $CONFIG [0,8] train $device_num
    for idx in {1..11}
    do
        let rank_start=8*$idx
        let rank_end=$rank_start+8
        ssh ${IP_LIST[$idx]} "bash run_distribute.sh $RANK_TABLE_FILE $CONFIG \
            [$rank_start,$rank_end] train $device_num"
    done
    """
    environment = site.environment()
    environment["PATH"] = f"{site.folder}:{environment['PATH']}"
    site.write_config(output_dir=str(site.folder / "out"))
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert site.ranks() == list(range(96))
    hosts = (site.records / "hosts").read_text().split()
    assert hosts == [f"192.168.0.{i}" for i in range(1, 12)]
    for rank in range(96):
        environment = site.seen(rank)["env"]
        assert environment["RANK_SIZE"] == "96"
        assert environment["DEVICE_ID"] == str(rank % 8)


def test_one_server_of_several_goes_to_the_background(site):
    table = site.table(servers=2)
    fate = {str(rank): "hang" for rank in range(8, 16)}
    start = time.monotonic()
    code, out, _ = site.run(table, site.config, "[8,16]", "train", "16", fate=fate)
    assert code == 0
    assert 4 < time.monotonic() - start < 20
    assert "ranks 8 to 15 of 16 run in the background as process" in out
    assert site.ranks() == list(range(8, 16))
    os.kill(int(out.split("as process ")[1].split()[0]), signal.SIGTERM)
    log = site.folder / "out" / "log" / "rank_15" / "mindformer.log"
    wait_for(lambda: "told 15" in log.read_text())


def test_what_fails_at_once_is_reported_before_going_to_the_background(site):
    table = site.table(servers=2)
    code, out, _ = site.run(table, site.config, "[0,8]", "train", "16", fate={"5": 3})
    assert code == 3
    assert "rank 5 ended with exit code 3" in out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_it_goes_to_the_background(site, number):
    fate = {str(rank): "hang" for rank in range(8)}
    process = site.start(site.table(servers=2), site.config, "[0,8]", "train", "16", fate=fate)
    wait_for(lambda: all("working" in site.log(rank) for rank in range(8)))
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "")
    assert "run in the background" not in out
    assert all(f"told {number.value}" in site.log(rank) for rank in range(8))
