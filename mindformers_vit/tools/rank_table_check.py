"""Reading a rank table of any form, and saying what is wrong with it."""

from __future__ import annotations

import ipaddress
import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from mindformers_vit.config import strict
from mindformers_vit.errors import ConfigError

Table = dict[str, Any]
VERSIONS = ("1.0", "1.2")
_SERVER_ID = re.compile(r"[\w.:%-]{1,64}")


def is_address(text: str) -> bool:
    """Whether it is an IPv4 or IPv6 address that another machine can use."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    inner = getattr(address, "ipv4_mapped", None) or address
    return not (inner.is_loopback or inner.is_unspecified or inner.is_multicast)


def check_server_id(server_id: str) -> str:
    """The id if others can reach a server by it or know it by it.

    Raises:
        ConfigError: it is an address of this machine alone, or not one word.
    """
    looks_like_one = ":" in server_id or re.fullmatch(r"[\d.]*\.[\d.]*", server_id)
    if not _SERVER_ID.fullmatch(server_id):
        raise ConfigError(f"server_ip: '{server_id}' given; expected one address or one name")
    if server_id.partition(".")[0] == "localhost" or (looks_like_one and not is_address(server_id)):
        raise ConfigError(
            f"server_ip: {server_id} is no address that others can use, such as one of this "
            "machine alone; give --server_ip the address that the other servers use"
        )
    return server_id


def _server_id(text: str) -> str:
    try:
        return check_server_id(text)
    except ConfigError as error:
        raise ValueError(str(error).removeprefix("server_ip: ")) from None


def _device_ip(text: str) -> str:
    if not is_address(text):
        raise ValueError(f"'{text}' is not an address that other machines can use")
    return text


_Name = Annotated[str, AfterValidator(_server_id)]


class _Part(strict.StrictModel, extra="allow"):
    """Tables carry more than HCCL's keys: names of pods, boards, chips."""


class _Device(_Part):
    device_id: str = Field(pattern=r"^[0-9]+$")
    device_ip: Annotated[str, AfterValidator(_device_ip)]
    rank_id: str
    super_device_id: str | None = Field(None, min_length=1)


class _Server(_Part):
    server_id: _Name
    device: list[_Device] = Field(min_length=1)


class _PodServer(_Part):
    server_id: _Name


class _Pod(_Part):
    super_pod_id: str
    server_list: list[_PodServer]


class _RankTable(_Part):
    """HCCL's form, and ModelArts' newer one, which leaves the version out."""

    version: Literal["1.0", "1.2"] = "1.0"
    server_count: str | None = None
    server_list: list[_Server] = Field(min_length=1)
    super_pod_list: list[_Pod] = []
    status: Literal["completed"]


class _Instance(_Part):
    server_id: _Name
    devices: list[dict[str, Any]]


class _Group(_Part):
    instance_list: list[_Instance]


class _Groups(_Part):
    """ModelArts' older form: the ranks are in the order of the file."""

    group_list: list[_Group]
    status: str


def read_table(path: str | Path) -> Table:
    """The table of a file; ModelArts' `group_list` as `server_list`.

    Raises:
        ConfigError: no such file, no JSON, or anything that `problems_of` finds.
    """
    table = _parse(Path(path))
    try:
        if "group_list" in table:
            table = _from_groups(strict.validate(_Groups, table))
        problems = problems_of(table)
    except ConfigError as error:
        problems = error.problems
    if problems:
        raise ConfigError([f"{path}: {problem}" for problem in problems])
    return table


def _parse(path: Path) -> Table:
    try:
        table = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"rank table '{path}': {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not JSON ({error}); a rank table is expected") from None
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: a JSON object with 'server_list' is expected")
    return table


def _from_groups(groups: _Groups) -> Table:
    servers: list[Any] = []
    rank = 0
    for instance in (i for group in groups.group_list for i in group.instance_list):
        devices = [
            {"rank_id": str(number), **device}
            for number, device in enumerate(instance.devices, rank)
        ]
        rank += len(devices)
        servers.append({"server_id": instance.server_id, "device": devices})
    heading = {"version": "1.0", "server_count": str(len(servers))}
    return {**heading, "server_list": servers, "status": groups.status}


def problems_of(table: Table) -> list[str]:
    """Everything that is wrong with a table; an empty list if HCCL can use it."""
    try:
        typed = _RankTable.model_validate(table)
    except ValidationError as error:
        return strict.problems_of(error, _RankTable)
    servers, found = typed.server_list, list[str]()
    if typed.server_count not in (None, str(len(servers))):
        found.append(f"server_count: {typed.server_count} given, {len(servers)} are listed")
    found += repeated("server_id", [s.server_id for s in servers], "the table")
    for server in servers:
        for key in ("device_id", "device_ip"):
            found += repeated(key, [getattr(d, key) for d in server.device], server.server_id)
    found += _ranks([d.rank_id for s in servers for d in s.device])
    return found + (_pods(typed) if typed.version == "1.2" else [])


def repeated(key: str, values: Iterable[Any], where: str) -> list[str]:
    """The problem of each value that is there more than once."""
    counts = Counter(values)
    return [f"{key} {v} is {n} times in {where}" for v, n in counts.items() if n > 1]


def _ranks(given: list[str]) -> list[str]:
    """Every rank from 0 on, once, in the order of the table."""
    wanted = [str(rank) for rank in range(len(given))]
    if given == wanted:
        return []
    if sorted(given) == sorted(wanted):
        return ["the rank_ids are not in the order of the table"]
    wrong = next(i for i, (g, w) in enumerate(zip(given, wanted, strict=True)) if g != w)
    return [
        f"rank_id: 0 to {len(given) - 1} expected, each once; device {wrong} has {given[wrong]!r}"
    ]


def _pods(table: _RankTable) -> list[str]:
    """What version 1.2 adds: the servers of each super-node, and a device's number in it."""
    servers = {server.server_id: server for server in table.server_list}
    without = [
        f"{d.device_id} of {name}"
        for name, server in servers.items()
        for d in server.device
        if d.super_device_id is None
    ]
    if without:
        return [f"super_device_id: missing for device {', '.join(without)}; version 1.2 needs it"]
    listed = [server.server_id for pod in table.super_pod_list for server in pod.server_list]
    if sorted(listed) != sorted(servers):
        return ["super_pod_list: must list each server of server_list once"]
    found = []
    for pod in table.super_pod_list:
        ids = [d.super_device_id for s in pod.server_list for d in servers[s.server_id].device]
        found += repeated("super_device_id", ids, f"super_pod {pod.super_pod_id}")
    return found


def warnings_of(table: Table) -> list[str]:
    """What is odd and allowed: devices of two servers with one address."""
    places = Counter(d["device_ip"] for s in table["server_list"] for d in s["device"])
    twice = [ip for ip, count in places.items() if count > 1]
    return [f"device_ip {ip} is on more than one server" for ip in twice]
