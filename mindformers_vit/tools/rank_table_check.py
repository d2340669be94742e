"""Reading a rank table of any form, and saying what is wrong with it."""

from __future__ import annotations

import ipaddress
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mindformers_vit.errors import ConfigError

Table = dict[str, Any]
VERSIONS = ("1.0", "1.2")
_SERVER_ID = re.compile(r"[^\s/]{1,64}")


def check_server_id(server_id: str) -> str:
    """The id if others can reach a server by it or know it by it.

    Raises:
        ConfigError: it is a loopback address, or not one word.
    """
    if not _SERVER_ID.fullmatch(server_id):
        raise ConfigError(f"server_ip: '{server_id}' given; expected one address or one name")
    try:
        address = ipaddress.ip_address(server_id)
    except ValueError:
        return server_id
    if address.is_loopback or address.is_unspecified:
        raise ConfigError(
            f"server_ip: {server_id} is an address of this machine alone, so other servers "
            "cannot be told from it; give --server_ip the address that the others use"
        )
    return server_id


def read_table(path: str | Path) -> Table:
    """The table of a file; ModelArts' `group_list` as `server_list`.

    Raises:
        ConfigError: no such file, no JSON, or anything that `problems_of` finds.
    """
    table = _parse(Path(path))
    problems = problems_of(table)
    if problems:
        raise ConfigError([f"{path}: {problem}" for problem in problems])
    return table


def _parse(path: Path) -> Table:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"rank table '{path}': {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON ({error}); a rank table is expected") from None
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: a JSON object with 'server_list' is expected")
    return _from_groups(table) if "group_list" in table else table


def _from_groups(table: Table) -> Table:
    """ModelArts' older form: groups of instances; the ranks are in the order of the file."""
    servers = []
    rank = 0
    groups = table["group_list"] if isinstance(table["group_list"], list) else []
    for instance in (i for group in groups for i in group.get("instance_list", [])):
        devices = []
        for device in instance.get("devices", []):
            devices.append({**device, "rank_id": device.get("rank_id", str(rank))})
            rank += 1
        servers.append({"server_id": instance.get("server_id"), "device": devices})
    count = str(len(servers))
    return {
        "version": "1.0",
        "server_count": count,
        "server_list": servers,
        "status": table.get("status"),
    }


def problems_of(table: Table) -> list[str]:
    """Everything that is wrong with a table; an empty list if HCCL can use it."""
    servers = table.get("server_list")
    if not isinstance(servers, list) or not servers:
        return ["server_list is missing or empty"]
    found = _heading(table, servers)
    for place, server in enumerate(servers):
        path = f"server_list[{place}]"
        devices = server.get("device") if isinstance(server, dict) else None
        if not isinstance(devices, list) or not all(isinstance(d, dict) for d in devices):
            return [*found, f"{path}.device: a list of devices is expected"]
        found += _server(path, server, table.get("version") == "1.2")
    found += repeated("server_id", [s.get("server_id") for s in servers], "the table")
    found += _ranks([d.get("rank_id") for s in servers for d in s["device"]])
    return found + (_pods(table, servers) if table.get("version") == "1.2" else [])


def _heading(table: Table, servers: list[Any]) -> list[str]:
    found = []
    version = table.get("version", "1.0")  # ModelArts leaves it out
    if version not in VERSIONS:
        found.append(f"version: {version!r} given, allowed: {', '.join(VERSIONS)}")
    if table.get("status") != "completed":
        found.append(f"status: {table.get('status')!r} given; 'completed' is expected")
    if str(table.get("server_count", len(servers))) != str(len(servers)):
        found.append(f"server_count: {table['server_count']} given, {len(servers)} are listed")
    return found


def _server(path: str, server: Mapping[str, Any], is_super: bool) -> list[str]:
    found = []
    try:
        check_server_id(str(server.get("server_id") or ""))
    except ConfigError as error:
        found.append(f"{path}.server_id: {error}".replace("server_ip: ", ""))
    devices = server["device"]
    if not devices:
        found.append(f"{path}.device: no device listed")
    keys = ("device_id", "device_ip", *(("super_device_id",) if is_super else ()))
    for key in keys:
        values = [d.get(key) for d in devices]
        missing = [
            str(i) for i, value in enumerate(values) if not isinstance(value, str) or not value
        ]
        if missing:
            found.append(f"{path}.device: {key} of device {', '.join(missing)} is not a string")
        found += repeated(key, values, path)
    for device in devices:
        if device.get("device_ip") and not is_address(str(device["device_ip"])):
            found.append(f"{path}.device: device_ip '{device['device_ip']}' is not an address")
    return found


def is_address(text: str) -> bool:
    """Whether it is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def repeated(key: str, values: Iterable[Any], where: str) -> list[str]:
    """The problem of each value that is there more than once."""
    counts = Counter(value for value in values if value is not None)
    return [f"{key} {v} is {n} times in {where}" for v, n in counts.items() if n > 1]


def _ranks(given: list[Any]) -> list[str]:
    """Every rank from 0 on, once, in the order of the table."""
    wanted = [str(rank) for rank in range(len(given))]
    if given == wanted:
        return []
    if sorted(map(str, given)) == sorted(wanted):
        return ["the rank_ids are not in the order of the table"]
    wrong = next(i for i, (g, w) in enumerate(zip(given, wanted, strict=True)) if g != w)
    return [
        f"rank_id: 0 to {len(given) - 1} expected, each once; device {wrong} has {given[wrong]!r}"
    ]


def _pods(table: Table, servers: list[Any]) -> list[str]:
    pods = table.get("super_pod_list")
    if not isinstance(pods, list):
        return ["super_pod_list is missing; version 1.2 needs it"]
    listed = [s.get("server_id") for pod in pods for s in pod.get("server_list", [])]
    if sorted(map(str, listed)) != sorted(str(s.get("server_id")) for s in servers):
        return ["super_pod_list: must list each server of server_list once"]
    return []


def warnings_of(table: Table) -> list[str]:
    """What is odd and allowed: devices of two servers with one address."""
    places = Counter(d["device_ip"] for s in table["server_list"] for d in s["device"])
    twice = [ip for ip, count in places.items() if count > 1]
    return [f"device_ip {ip} is on more than one server" for ip in twice]
