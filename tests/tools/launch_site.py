"""A place to launch from, with a program in the place of Python that records what it is given."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "run_distribute.sh"
# The launcher itself runs in real Python, what it starts in `rank.py` beside this.
INTERPRETER = """#!/bin/sh
case "$*" in *mindformers_vit.tools.launch*) exec "{python}" "$@";; esac
exec "{python}" "{folder}/rank.py" "$@"
"""
RANK = """
import json, os, signal, sys, time
rank = os.environ.get("RANK_ID", "scheduler")
if os.environ.get("MS_ROLE") == "MS_SCHED":
    rank = "scheduler"
names = ("RANK_", "DEVICE_", "MS_", "LOCAL_DEFAULT", "LOG_MF", "CHECKPOINT_")
seen = {k: v for k, v in os.environ.items() if k.startswith(names)}
path = os.path.join(os.environ["RECORDS"], rank + ".json")
records = json.load(open(path)) if os.path.exists(path) else []
records.append({"argv": sys.argv[1:], "cwd": os.getcwd(), "env": seen})
json.dump(records, open(path, "w"))
print("working as", rank, flush=True)
def told(number, frame):
    print("told", number, flush=True)
    sys.exit(130)
signal.signal(signal.SIGTERM, told)
signal.signal(signal.SIGINT, told)
fate = json.loads(os.environ.get("FATE", "{}")).get(rank, 0)
fate = fate[min(len(records), len(fate)) - 1] if isinstance(fate, list) else fate
if fate == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("deaf", os.getpid(), flush=True)
    fate = "hang"
if fate == "hang":
    time.sleep(60)
if fate == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(0.1)
sys.exit(fate)
"""

RECIPE = {
    "context": {"device_target": "auto"},
    "trainer": {"type": "masked_image_modeling"},
    "model": {"arch": {"type": "ViTMAEForPreTraining"}, "model_config": {"type": "ViTMAEConfig"}},
}


def as_from_a_terminal():
    """Whatever runs the tests may ignore these (nohup, a shell's background jobs)."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


class Site:
    """A place to launch from: records of every process, and a yaml."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "python"
        self.python.write_text(INTERPRETER.format(python=sys.executable, folder=folder))
        self.python.chmod(0o755)
        (folder / "rank.py").write_text(RANK)
        self.config = folder / "run.yaml"
        self.write_config(output_dir="./out")
        self.records = folder / "records"
        self.records.mkdir()

    def write_config(self, **settings):
        self.config.write_text(json.dumps(RECIPE | settings))  # JSON is yaml

    def environment(self, fate=None):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("CHECKPOINT_")}
        environment |= {"PYTHON": str(self.python), "RECORDS": str(self.records)}
        return environment | {"FATE": json.dumps(fate or {})}

    def start(self, *arguments, fate=None, cwd=None):
        command = ["bash", str(SCRIPT), *map(str, arguments)]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command,
            cwd=cwd or self.folder,
            env=self.environment(fate),
            stdout=pipe,
            stderr=pipe,
            text=True,
            preexec_fn=as_from_a_terminal,
        )

    def run(self, *arguments, **options):
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def log(self, rank):
        path = self.folder / "out" / "log" / f"rank_{rank}" / "mindformer.log"
        return path.read_text() if path.is_file() else ""

    def seen(self, rank, attempt=-1):
        return json.loads((self.records / f"{rank}.json").read_text())[attempt]

    def ranks(self):
        return sorted(int(path.stem) for path in self.records.glob("[0-9]*.json"))

    def table(self, servers=1, devices=8):
        """A rank table of so many servers."""
        path = self.folder / "hccl.json"
        listed = []
        for server in range(servers):
            ids = [
                {
                    "device_id": str(i),
                    "device_ip": f"192.{server}.{i}.1",
                    "rank_id": str(server * devices + i),
                }
                for i in range(devices)
            ]
            listed.append(
                {"server_id": f"10.0.0.{server}", "device": ids, "host_nic_ip": "reserve"}
            )
        heading = {"version": "1.0", "server_count": str(servers)}
        path.write_text(json.dumps({**heading, "server_list": listed, "status": "completed"}))
        return path


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)
