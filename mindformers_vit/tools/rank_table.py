"""Rank tables: which device is which rank of a run over HCCL. Made and merged here,
read and checked in `rank_table_check.py`.

Version 1.0, as MindFormers' hccl_tools.py writes it, 1.2 for super-nodes (each device also has a
`super_device_id`, the servers are listed by super-node in `super_pod_list`), and the
`jobstart_hccl.json` of ModelArts in both of its forms. Every value in them is a string.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mindformers_vit.errors import ConfigError
from mindformers_vit.tools.rank_table_check import Table, check_server_id, problems_of, repeated

_RANGE = re.compile(r"\s*\[?\s*(\d{1,9})\s*,\s*(\d{1,9})\s*[\])]?\s*", re.ASCII)
_MERGED_NAME = re.compile(r"hccl_\d+s_\d+p\.json")


def parse_range(text: str) -> range:
    """ "[0,8)" as range(0, 8); "[0, 8)", "[0,8]" and "0,8" mean the same: the end is not in it.

    Raises:
        ConfigError: something else, or an empty range.
    """
    match = _RANGE.fullmatch(text)
    if match is None:
        raise ConfigError(f"'{text}' is not a range; expected for example [0,8): 0 to 7")
    first, end = int(match[1]), int(match[2])
    if end <= first:
        raise ConfigError(f"the range '{text}' is empty; the end must be greater than the start")
    return range(first, end)


def make_table(
    server_id: str,
    devices: Sequence[Mapping[str, str]],
    *,
    super_pod_id: str | None = None,
) -> Table:
    """The table of one server.

    Args:
        devices: `device_id`, `device_ip` and, in a super-node, `super_device_id`; in rank order.
        super_pod_id: makes it version 1.2.
    """
    server = {
        "server_id": check_server_id(server_id),
        "device": [{**device, "rank_id": str(rank)} for rank, device in enumerate(devices)],
        "host_nic_ip": "reserve",
    }
    pods = [] if super_pod_id is None else [_pod(super_pod_id, [server_id])]
    return _table([server], pods)


def _table(servers: list[Any], pods: list[Any]) -> Table:
    table = {
        "version": "1.2" if pods else "1.0",
        "server_count": str(len(servers)),
        "server_list": servers,
    }
    return table | ({"super_pod_list": pods} if pods else {}) | {"status": "completed"}


def _pod(pod_id: str, server_ids: Iterable[str]) -> dict[str, Any]:
    return {"super_pod_id": pod_id, "server_list": [{"server_id": i} for i in server_ids]}


def merge_tables(
    tables: Mapping[str, Table], *, order: Sequence[str] | None = None
) -> tuple[Table, list[str]]:
    """One table of the tables of several servers, and the server of each rank range in words.

    Args:
        tables: by file name, in rank order unless `order` is given.
        order: server ids in rank order.

    Raises:
        ConfigError: a table has several servers, or a server is there twice, or `order` does not
            name each server once.
    """
    merged = [name for name, table in tables.items() if len(table["server_list"]) > 1]
    if merged:
        raise ConfigError(
            [
                f"{name}: has several servers, so it is merged already; leave it out"
                for name in merged
            ]
        )
    named = [(table["server_list"][0], table) for table in tables.values()]
    ids = [server["server_id"] for server, _ in named]
    problems = repeated("server_id", ids, f"{', '.join(tables)}; each server may be there once")
    versions = {table.get("version", "1.0") for table in tables.values()}
    if len(versions) > 1:
        problems.append(f"tables of versions {' and '.join(sorted(versions))} cannot be merged")
    if order is not None and sorted(order) != sorted(ids):
        problems.append(
            f"--order: {','.join(order)} given; the servers are {','.join(sorted(ids))}"
        )
    if problems:
        raise ConfigError(problems)
    if order is not None:
        named.sort(key=lambda pair: order.index(pair[0]["server_id"]))
    joined, words = _joined(named)
    problems = problems_of(joined)  # that only several tables can have
    if problems:
        raise ConfigError(problems)
    return joined, words


def _joined(named: Sequence[tuple[Any, Table]]) -> tuple[Table, list[str]]:
    servers: list[Any] = []
    pods: dict[str, list[str]] = {}
    words: list[str] = []
    rank = 0
    for server, table in named:
        first = rank
        devices = []
        for device in server["device"]:
            devices.append({**device, "rank_id": str(rank)})
            rank += 1
        servers.append({**server, "device": devices})
        words.append(f"ranks {first} to {rank - 1}: {server['server_id']}")
        for pod in table.get("super_pod_list", []):
            pods.setdefault(pod["super_pod_id"], []).append(server["server_id"])
    return _table(servers, [_pod(name, ids) for name, ids in pods.items()]), words


def is_merged_name(path: Path) -> bool:
    """Whether a file is named like an output of merging: hccl_2s_16p.json."""
    return _MERGED_NAME.fullmatch(path.name) is not None


def file_name(table: Table, *, merged: bool = False) -> str:
    """MindFormers' name: hccl_8p_01234567_10.0.0.1.json; hccl_2s_16p.json after a merge."""
    servers = table["server_list"]
    ids = [device["device_id"] for server in servers for device in server["device"]]
    if merged:
        return f"hccl_{len(servers)}s_{len(ids)}p.json"
    joined = ("" if all(len(i) == 1 for i in ids) else "-").join(ids)
    return f"hccl_{len(ids)}p_{joined}_{servers[0]['server_id'].replace(':', '-')}.json"


def write_table(table: Table, directory: str | Path, *, merged: bool = False) -> Path:
    """Write the table under its name; the path."""
    path = Path(directory) / file_name(table, merged=merged)
    text = json.dumps(table, indent=4) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
    return path


def device_of_rank(table: Table) -> dict[int, tuple[int, str]]:
    """Rank -> its device id and its server id."""
    return {
        int(device["rank_id"]): (int(device["device_id"]), server["server_id"])
        for server in table["server_list"]
        for device in server["device"]
    }
