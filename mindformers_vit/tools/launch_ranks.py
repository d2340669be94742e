"""From a launch on this server to its processes and their environment."""

from __future__ import annotations

import os
import random
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from mindformers_vit.errors import ConfigError
from mindformers_vit.tools.rank_table import device_of_rank
from mindformers_vit.tools.rank_table_check import read_table
from mindformers_vit.tools.ranks import Rank

ROOT = Path(__file__).resolve().parents[2]
_SCHEDULER = (
    "import mindspore; from mindspore.communication import init; "
    "mindspore.set_device('CPU'); init()"
)


@dataclass(frozen=True)
class Launch:
    """What is to be started on this server."""

    config: Path
    table: Path | None
    ranks: range  # of this server
    size: int  # ranks of all servers
    first_device: int  # where no rank table tells it
    mode: str
    flags: tuple[str, ...]  # of the run
    directory: Path
    output: Path
    device: str
    master: tuple[str, int | None]  # address and port; None: a free one

    @property
    def is_whole(self) -> bool:
        """Whether every rank of the run is on this server."""
        return len(self.ranks) == self.size


def ranks_of(launch: Launch, attempt: int) -> list[Rank]:
    """The processes of this server; after a restart they go on from a checkpoint."""
    python = os.environ.get("PYTHON") or sys.executable
    flags = [f"--config={launch.config}", "--use_parallel=True", f"--run_mode={launch.mode}"]
    flags += [*launch.flags, f"--output_dir={launch.output}"]
    if attempt and any((launch.output / "checkpoint" / "rank_0").glob("[!.]*")):
        flags.append("--resume_training=True")
    command = (python, str(ROOT / "run_mindformer.py"), *flags)
    cluster, cores = _cluster(launch), _cores(launch)
    found = []
    if cluster and launch.ranks[0] == 0:
        found.append(_scheduler(launch, python, cluster))
    for place, rank in enumerate(launch.ranks):
        role = {"MS_ROLE": "MS_WORKER", "MS_NODE_ID": str(rank)} if cluster else {}
        found.append(
            Rank(
                name=f"rank {rank}",
                command=command,
                environment=_environment(launch, rank) | cluster | role,
                directory=launch.directory,
                log=launch.output / "log" / f"rank_{rank}" / "mindformer.log",
                cores=cores[place],
            )
        )
    return found


def _environment(launch: Launch, rank: int) -> dict[str, str]:
    """What MindFormers' launcher exports; the device is the rank table's where there is one."""
    devices = {} if launch.table is None else device_of_rank(read_table(launch.table))
    device = devices[rank][0] if devices else launch.first_device + rank - launch.ranks[0]
    names = {
        "RANK_ID": str(rank),
        "RANK_SIZE": str(launch.size),
        "DEVICE_ID": str(device),
        "LOCAL_DEFAULT_PATH": str(launch.output),
        "LOG_MF_PATH": str(launch.output / "log"),
    }
    for name in ("download", "save"):
        key = f"CHECKPOINT_{name.upper()}_FOLDER"
        names[key] = os.environ.get(key) or str(launch.directory / f"checkpoint_{name}")
    return names | ({"RANK_TABLE_FILE": str(launch.table)} if launch.table else {})


def _cluster(launch: Launch) -> dict[str, str]:
    """Where MindSpore's dynamic cluster meets; empty with a rank table, or for one rank."""
    if launch.table is not None or launch.size == 1:
        return {}
    address, port = launch.master
    return {
        "MS_WORKER_NUM": str(launch.size),
        "MS_SCHED_HOST": _address(address),
        "MS_SCHED_PORT": str(_free_port() if port is None else port),
        "MS_TOPO_TIMEOUT": "600",
    }


def _scheduler(launch: Launch, python: str, cluster: dict[str, str]) -> Rank:
    return Rank(
        name="scheduler",
        command=(python, "-c", _SCHEDULER),
        environment={"GLOG_v": "3", **cluster, "MS_ROLE": "MS_SCHED"},
        directory=launch.directory,
        log=launch.output / "log" / "scheduler.log",
        is_scheduler=True,
    )


def _address(host: str) -> str:
    try:
        return socket.gethostbyname(host)
    except OSError as error:
        raise ConfigError(f"--master_addr: '{host}' has no address ({error})") from None


def _free_port() -> int:
    """One below those that systems hand out: a rank's own sockets may take any of these first."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as found:
            try:
                found.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ConfigError("--master_port: none of 100 ports tried is free; give one")


def _cores(launch: Launch) -> list[tuple[int, ...]]:
    """On CPU an equal share of the cores for each rank: more threads than cores are far slower."""
    count = len(launch.ranks)
    if launch.device != "CPU" or count == 1 or not hasattr(os, "sched_getaffinity"):
        return [()] * count
    cores = sorted(os.sched_getaffinity(0))
    share = max(len(cores) // count, 1)
    return [tuple(cores[(i * share) % len(cores) :][:share]) for i in range(count)]
