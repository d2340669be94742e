"""scripts/run_distribute.sh on one server, with a stand-in for what it starts."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mindformers_vit.engine.run_lock import only_run_in
from mindformers_vit.tools import launch, ranks
from tests.tools.launch_site import ROOT, SCRIPT, Site, wait_for

pytestmark = pytest.mark.fast
CPU = ["--", "--device_target", "CPU"]
HANG = {"0": "hang", "1": "hang"}


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@pytest.fixture
def asked(site, monkeypatch, capsys):
    """The launcher in this process, for what starts no rank; the script only calls it."""

    def call(*arguments):
        monkeypatch.chdir(site.folder)
        for name, value in site.environment().items():
            monkeypatch.setenv(name, value)
        code = launch.main([str(argument) for argument in arguments])
        assert not site.ranks()
        return (code, *capsys.readouterr())

    return call


def test_the_documents_eight_cards(site):
    code, out, err = site.run(site.table(), site.config, "[0,8]", "train", "8")
    assert (code, err) == (0, "")
    assert site.ranks() == list(range(8))
    output = site.folder / "out"
    for rank in range(8):
        seen = site.seen(rank)
        assert seen["env"] == {
            "RANK_TABLE_FILE": str(site.folder / "hccl.json"),
            "RANK_ID": str(rank),
            "RANK_SIZE": "8",
            "DEVICE_ID": str(rank),
            "LOCAL_DEFAULT_PATH": str(output),
            "LOG_MF_PATH": str(output / "log"),
            "CHECKPOINT_DOWNLOAD_FOLDER": str(site.folder / "checkpoint_download"),
            "CHECKPOINT_SAVE_FOLDER": str(site.folder / "checkpoint_save"),
        }
        assert seen["argv"] == [
            str(ROOT / "run_mindformer.py"),
            f"--config={site.config}",
            "--use_parallel=True",
            "--run_mode=train",
            f"--output_dir={output}",
        ]
        log = output / "log" / f"rank_{rank}" / "mindformer.log"
        assert log.read_text() == f"working as {rank}\n"
        assert f"rank {rank}: log {log}" in out


def test_from_scripts_the_ranks_run_in_the_repository(site):
    recipe = "../configs/mae/run_mae_vit_base_p16_224_800ep.yaml"
    arguments = ["--dry_run", site.table(), recipe, "[0,8]", "train", "8"]
    code, out, _ = site.run(*arguments, cwd=ROOT / "scripts")
    assert code == 0
    assert not site.ranks()
    lines = out.splitlines()
    assert len(lines) == 8
    assert lines[3].startswith(f"cd {ROOT} && env RANK_ID=3 RANK_SIZE=8 DEVICE_ID=3 ")
    assert f"--config={ROOT / 'configs/mae/run_mae_vit_base_p16_224_800ep.yaml'}" in lines[3]
    assert lines[3].endswith(f"> {ROOT / 'output/log/rank_3/mindformer.log'} 2>&1")


def test_a_dry_run_prints_what_a_shell_can_run(site):
    code, out, _ = site.run("--dry_run", site.table(devices=1), site.config, "[0,1]", "train")
    assert code == 0
    (site.folder / "out" / "log" / "rank_0").mkdir(parents=True)
    subprocess.run(out, shell=True, check=True, env=site.environment())
    assert site.seen(0)["env"]["RANK_SIZE"] == "1"


def test_flags_of_the_run_come_after_two_dashes(site):
    flags = ["--load_checkpoint", "a b", "--output_dir", "elsewhere", "--epochs", "3"]
    code, _, err = site.run(site.table(), site.config, "[0,8]", "finetune", "--", *flags)
    assert (code, err) == (0, "")
    argv = site.seen(2)["argv"]
    assert argv[3:] == ["--run_mode=finetune", *flags, f"--output_dir={site.folder / 'elsewhere'}"]
    assert (site.folder / "elsewhere" / "log" / "rank_2" / "mindformer.log").is_file()


def test_one_failure_ends_all_with_its_code_and_the_tail_of_its_log(site):
    fate = {"0": "hang", "1": 7, "2": "hang"}
    start = time.monotonic()
    code, out, _ = site.run(site.table(devices=3), site.config, "[0,3]", "train", fate=fate)
    assert code == 7
    assert time.monotonic() - start < 15
    assert "rank 1 ended with exit code 7; the end of its log, " in out
    assert "\n  working as 1\n" in out
    log = site.folder / "out" / "log" / "rank_0" / "mindformer.log"
    assert log.read_text() == "working as 0\ntold 15\n"


def test_a_killed_rank(site):
    fate = {"0": "hang", "1": "kill"}
    code, out, _ = site.run(site.table(devices=2), site.config, "[0,2]", "train", fate=fate)
    assert code == 128 + signal.SIGKILL
    assert "rank 1 ended with signal SIGKILL" in out


@pytest.mark.parametrize(("noted", "code"), [("0", 0), ("7", 7), (None, 128 + signal.SIGSEGV)])
def test_a_crash_after_a_ranks_end_is_not_its_end(noted, code, tmp_path):
    """MindSpore may crash while it shuts down: what the rank has left before that counts."""
    note = f"compat.note_end({noted}); " if noted else ""
    script = f"import os, signal; from mindformers_vit import compat; {note}"
    command = (sys.executable, "-c", script + "os.kill(os.getpid(), signal.SIGSEGV)")
    rank = ranks.Rank(
        "rank 1", command, {"PYTHONPATH": str(ROOT)}, tmp_path, tmp_path / "r" / "log"
    )
    said = list[str]()
    assert ranks.run(lambda attempt: [rank], say=said.append) == code
    assert ("rank 1 crashed after its end, in MindSpore's shutdown" in said) == bool(noted)
    assert not rank.ended.exists()


def test_the_end_that_a_killed_launcher_has_left_is_not_this_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(ranks, "_SHUTDOWN", 0.3)
    command = (sys.executable, "-c", "import time; time.sleep(1.5)")
    rank = ranks.Rank("rank 0", command, {}, tmp_path, tmp_path / "log")
    rank.ended.write_text("7")
    assert ranks.run(lambda attempt: [rank]) == 0


def test_a_rank_that_hangs_after_its_end_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(ranks, "_SHUTDOWN", 0.3)
    script = "import time; from mindformers_vit import compat; compat.note_end(3); time.sleep(60)"
    environment = {"PYTHONPATH": str(ROOT)}
    rank = ranks.Rank(
        "rank 0", (sys.executable, "-c", script), environment, tmp_path, tmp_path / "l"
    )
    start = time.monotonic()
    assert ranks.run(lambda attempt: [rank]) == 3
    assert time.monotonic() - start < 30


@pytest.mark.parametrize(
    ("number", "told"), [(signal.SIGTERM, 15), (signal.SIGINT, 2), (signal.SIGHUP, 15)]
)
def test_signals_reach_every_rank_once(site, number, told):
    process = site.start(site.table(devices=2), site.config, "[0,2]", "train", fate=HANG)
    wait_for(lambda: all("working" in site.log(rank) for rank in (0, 1)))
    time.sleep(0.2)
    for _ in range(2):  # as `timeout` does, to the process and to its group
        process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 130
    for rank in (0, 1):
        assert site.log(rank) == f"working as {rank}\ntold {told}\n"


def test_a_signal_while_the_others_are_stopped_leaves_nobody_behind(site):
    fate = {"0": "deaf", "1": "kill"}
    process = site.start(site.table(devices=2), site.config, "[0,2]", "train", fate=fate)
    wait_for(lambda: "deaf" in site.log(0) and "working" in site.log(1))
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGKILL
    assert not Path(f"/proc/{site.log(0).split()[-1]}").exists()


def test_ranks_end_with_a_launcher_that_is_killed(site):
    process = site.start(site.table(devices=2), site.config, "[0,2]", "train", fate=HANG)
    wait_for(lambda: all("working" in site.log(rank) for rank in (0, 1)))
    time.sleep(0.2)
    process.kill()
    process.communicate(timeout=30)
    wait_for(lambda: all("told 15" in site.log(rank) for rank in (0, 1)))


def test_another_run_in_the_directory_is_refused_before_it_is_touched(site):
    log = site.folder / "out" / "log" / "rank_0" / "mindformer.log"
    log.parent.mkdir(parents=True)
    log.write_text("of the other\n")
    with only_run_in(site.folder / "out"):
        code, _, err = site.run(site.table(devices=2), site.config, "[0,2]", "train")
    assert code == 2
    assert "another run trains in" in err
    assert site.log(0) == "of the other\n"
    assert not site.ranks()


def test_a_log_goes_on_and_its_tail_is_of_this_run(site):
    log = site.folder / "out" / "log" / "rank_1" / "mindformer.log"
    log.parent.mkdir(parents=True)
    log.write_text("of an earlier run\n")
    code, out, _ = site.run(site.table(devices=2), site.config, "[0,2]", "train", fate={"1": 7})
    assert code == 7
    assert out.endswith(f"the end of its log, {log}:\n  working as 1\n")
    assert site.log(1) == "of an earlier run\nworking as 1\n"


def test_restarts(site):
    checkpoint = site.folder / "out" / "checkpoint" / "rank_0" / "mae_rank_0-1_1"
    checkpoint.mkdir(parents=True)
    options = ["--max_restarts", "2", site.table(devices=2), site.config, "[0,2]", "train"]
    code, out, _ = site.run(*options, "--", "--seed=1", fate={"1": ["kill", "kill", 0]})
    assert code == 0
    assert out.count("ended with signal SIGKILL") == 2
    assert "restart 2 of 2, from the newest checkpoint" in out
    assert "--resume_training=True" not in site.seen(0, 0)["argv"]
    for attempt in (1, 2):
        assert site.seen(0, attempt)["argv"][-1] == "--resume_training=True"
    code, out, _ = site.run(*options, fate={"1": "kill"})
    assert code == 137
    assert out.count("ended with signal SIGKILL") == 3


def test_a_restart_does_not_go_on_with_the_run_that_was_to_be_left(site):
    """With --resume_training False, and death before the new run has saved anything."""
    folder = site.folder / "out" / "checkpoint" / "rank_0"
    (folder / "mae_rank_0-1_1").mkdir(parents=True)
    options = ["--max_restarts", "1", site.table(devices=1), site.config, "[0,1]", "train"]
    options += ["--", "--resume_training", "False"]
    code, out, _ = site.run(*options, fate={"0": ["kill", 0]})
    assert code == 0
    assert "restart 1 of 1" in out
    assert "--resume_training=True" not in site.seen(0)["argv"]
    site.records.joinpath("0.json").unlink()
    launcher, _, rank = site.python.read_text().rpartition("exec")
    site.python.write_text(f"{launcher}mkdir -p {folder}/new; exec{rank}")
    assert site.run(*options, fate={"0": ["kill", 0]})[0] == 0
    assert site.seen(0)["argv"][-1] == "--resume_training=True"


@pytest.mark.parametrize("own", [2, 130, 143])  # wrong settings, told to end
def test_what_would_only_fail_again_is_not_restarted(site, own):
    options = ["--max_restarts", "3", site.table(devices=2), site.config, "[0,2]", "train"]
    code, out, _ = site.run(*options, fate={"0": own, "1": "hang"})
    assert code == own
    assert "restart" not in out


def test_the_configuration_is_read_as_the_ranks_read_it(site, asked):
    base = site.config.rename(site.folder / "base.yaml")
    site.config.write_text("base_config: base.yaml\noutput_dir: other\n")
    options = ["--dry_run", site.table(), site.config, "[0,2]", "train", "--", "--options"]
    code, out, _ = asked(*options, "context.device_target=CPU", "output_dir=third")
    assert (code, out.count("MS_WORKER ")) == (0, 2)
    assert out.count(f"LOCAL_DEFAULT_PATH={site.folder / 'third'} ") == 2
    assert base.is_file()


def test_without_a_rank_table_the_ranks_meet_at_a_scheduler(site):
    arguments = [site.config, "[0,2]", "train", "--", "--device_target", "CPU"]
    code, _, err = site.run(site.table(), *arguments, fate={"scheduler": "hang"})
    assert (code, err) == (0, "")
    port = site.seen(0)["env"]["MS_SCHED_PORT"]
    for rank in ("scheduler", 0, 1):
        environment = site.seen(rank)["env"]
        assert environment["MS_WORKER_NUM"] == "2"
        assert environment["MS_SCHED_HOST"] == "127.0.0.1"
        assert environment["MS_SCHED_PORT"] == port
        assert "RANK_TABLE_FILE" not in environment
    assert site.seen(1)["env"]["MS_ROLE"] == "MS_WORKER"
    assert site.seen(1)["env"]["MS_NODE_ID"] == site.seen(1)["env"]["RANK_ID"] == "1"
    assert site.seen("scheduler")["env"]["MS_ROLE"] == "MS_SCHED"


def test_several_servers_without_a_rank_table(site, asked):
    options = ["none", site.config, "[2,4]", "train", "4"]
    code, _, err = site.run(*options)
    assert code == 2
    assert "--master_addr: missing; the ranks are on several servers" in err
    code, out, _ = asked("--dry_run", "--master_addr", "127.0.0.2", *options)
    assert code == 0
    lines = out.splitlines()
    assert len(lines) == 2  # the scheduler is beside rank 0
    assert "MS_SCHED_HOST=127.0.0.2 MS_SCHED_PORT=8118" in lines[0]
    assert "RANK_ID=2 RANK_SIZE=4 DEVICE_ID=0" in lines[0]


def test_cpu_ranks_share_the_cores(site, asked):
    options = ["--dry_run", site.config, "[0,2]", "train", "--", "--device_target=CPU"]
    _, out, _ = asked(*options)
    cores = sorted(os.sched_getaffinity(0))
    found = [shlex.split(line) for line in out.splitlines() if "MS_WORKER " in line]
    given = [words[words.index("-c") + 1].split(",") for words in found]
    assert [len(share) for share in given] == [max(len(cores) // 2, 1)] * 2
    if len(cores) > 1:
        assert not set(given[0]) & set(given[1])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.yaml", "[0,8]", "train"], "none.yaml"),
        (["{table}", "{config}", "[0,8]", "predict"], "RUN_MODE: 'predict' given, several ranks"),
        (["{table}", "{config}", "[3,3]", "train"], "the range '[3,3]' is empty"),
        (["{table}", "{config}", "[0,8]", "train", "x"], "RANK_SIZE: 'x' given"),
        (["{table}", "{config}", "[0,4]", "train"], "RANK_SIZE: 4 given, but '{table}' has 8"),
        (["{table}", "{config}", "[8,16]", "train", "12"], "ranks '[8,16]' go up to 15"),
        (["{table}", "{config}"], "expected RANK_TABLE_FILE CONFIG [0,8] RUN_MODE"),
        (["no.json", "{config}", "[0,8]", "train"], "no.json': No such file"),
        (["--max_restarts", "-1", "{config}", "[0,8]", "train"], "0 or more is expected"),
        (["--master_port", "70000", "{config}", "[0,8]", "train"], "1 to 65535 is expected, given"),
        (["no.json", "{config}", "[0,2]", "train", *CPU], "no.json': No such file"),
        (["{config}", "[0,2]", "train", "--", "--output_dir", "{config}"], "log': Not a directory"),
        (["{config}", "[0,2]", "train", "--", "--context=7"], "context: input should be"),
        (["{config}", "[0,2]", "train", "--", "--epoch", "7"], "unknown argument '--epoch'"),
        (["--master_addr", "::1", "{config}", "[0,2]", "train", *CPU], "cluster has IPv4 only"),
        (
            [
                "--master_addr",
                "203.0.113.9",
                "--master_port",
                "9",
                "{config}",
                "[0,2]",
                "train",
                *CPU,
            ],
            "rank 0's server cannot listen on 203.0.113.9 port 9: Cannot assign",
        ),
    ],
)
def test_bad_usage(site, asked, arguments, said):
    names = {"table": site.table(), "config": site.config}
    code, _, err = asked(*[argument.format(**names) for argument in arguments])
    assert code == 2
    assert said.format(**names) in err


def test_a_port_in_use(site, asked):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        options = ["--master_port", port, site.config, "[0,2]", "train", *CPU]
        code, _, err = asked(*options)
    assert code == 2
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in err


def test_a_server_has_one_servers_ranks(site, asked):
    code, _, err = asked(site.table(servers=2), site.config, "[4,12]", "train", "16")
    assert code == 2
    assert "ranks 4 to 11 are on the servers 10.0.0.0, 10.0.0.1" in err


def test_the_tail_of_a_missing_log(tmp_path):
    assert ranks.tail(tmp_path / "none") == ["(no log: No such file or directory)"]


def test_the_script_is_sound():
    shellcheck = Path(sys.executable).with_name("shellcheck")  # of requirements-test.txt
    subprocess.run([shellcheck, "-x", SCRIPT], check=True)
