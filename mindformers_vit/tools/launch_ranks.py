"""From a launch on this server to its processes and their environment."""

from __future__ import annotations

import os
import random
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mindformers_vit.errors import ConfigError
from mindformers_vit.tools.ranks import Rank

ROOT = Path(__file__).resolve().parents[2]
_SCHEDULER = (
    "import mindspore; from mindspore.communication import init; "
    "mindspore.set_device('CPU'); init()"
)


@dataclass(frozen=True)
class Launch:
    """What is to be started on this server."""

    command: tuple[str, ...]  # flags of the run, the last one of a name counts
    table: Path | None
    ranks: range  # of this server
    devices: Sequence[int]  # of these ranks
    size: int  # ranks of all servers
    directory: Path
    output: Path
    device: str
    master: tuple[str, int | None]  # address and port; None: a free one
    trains: bool
    old: frozenset[tuple[str, int]]  # checkpoints of an earlier run, which this one leaves behind

    @property
    def is_whole(self) -> bool:
        """Whether every rank of the run is on this server."""
        return len(self.ranks) == self.size


def checkpoints_of(output: Path) -> frozenset[tuple[str, int]]:
    """Names and times of the training checkpoints in an output directory."""
    found = (output / "checkpoint" / "rank_0").glob("[!.]*")
    return frozenset((path.name, path.stat().st_mtime_ns) for path in found)


def ranks_of(launch: Launch, attempt: int) -> list[Rank]:
    """The processes of this server; after a restart they go on from a checkpoint of this run."""
    python = os.environ.get("PYTHON") or sys.executable
    command = (python, str(ROOT / "run_mindformer.py"), *launch.command)
    command += (f"--output_dir={launch.output}",)
    if attempt and checkpoints_of(launch.output) - launch.old:
        command += ("--resume_training=True",)
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
                environment=_environment(launch, place) | cluster | role,
                directory=launch.directory,
                log=launch.output / "log" / f"rank_{rank}" / "mindformer.log",
                cores=cores[place],
            )
        )
    return found


def _environment(launch: Launch, place: int) -> dict[str, str]:
    """What MindFormers' launcher exports."""
    names = {
        "RANK_ID": str(launch.ranks[place]),
        "RANK_SIZE": str(launch.size),
        "DEVICE_ID": str(launch.devices[place]),
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
    host, port = launch.master
    family, address = _address(host)
    if family == socket.AF_INET6 and launch.device == "CPU":
        raise ConfigError(
            f"--master_addr: '{host}' given; on CPU MindSpore's cluster has IPv4 only"
        )
    if port is None:
        port = _free_port()
    elif launch.ranks[0] == 0:
        _check_port(family, address, port)
    return {
        "MS_WORKER_NUM": str(launch.size),
        "MS_SCHED_HOST": address,
        "MS_SCHED_PORT": str(port),
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


def _address(host: str) -> tuple[int, str]:
    """Family and address of a host, IPv4 where it has both."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigError(f"--master_addr: '{host}' has no address ({error})") from None
    family, _, _, _, place = min(found, key=lambda info: info[0] != socket.AF_INET)
    return family, str(place[0])


def _check_port(family: int, address: str, port: int) -> None:
    """That the scheduler, which is on this server, can listen there."""
    with socket.socket(family, socket.SOCK_STREAM) as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((address, port))
        except OSError as error:
            raise ConfigError(
                f"--master_addr, --master_port: rank 0's server cannot listen on {address} port "
                f"{port}: {error.strerror}"
            ) from None


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
