"""What an Ascend server says about its devices: their addresses, its own, its super-node."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path

from mindformers_vit.errors import ConfigError
from mindformers_vit.tools.rank_table_check import check_server_id, is_address

HCCN_CONF = Path("/etc/hccn.conf")


def device_ips(devices: Iterable[int], conf: Path | None = None) -> dict[int, str]:
    """Device id -> address, from `hccn_tool -i N -ip -g`, else from `address_N=` in hccn.conf.

    Raises:
        ConfigError: neither knows a device; it says which and what was tried.
    """
    conf = HCCN_CONF if conf is None else conf
    listed = _listed(conf)
    found, missing = {}, []
    for device in devices:
        address = _ask(["hccn_tool", "-i", str(device), "-ip", "-g"], r"ipaddr\s*:\s*(\S+)")
        address = address or listed.get(device)
        if address is None or not is_address(address):
            missing.append(str(device))
        else:
            found[device] = address
    if missing:
        raise ConfigError(
            f"no address found for device {', '.join(missing)}: 'hccn_tool -i {missing[0]} -ip -g' "
            f"gives none and '{conf}' has no line 'address_{missing[0]}='. Run this on the Ascend "
            "server, outside a container or with the driver's tools mounted into it"
        )
    return found


def super_device_ids(devices: Iterable[int]) -> tuple[dict[int, str], str]:
    """Device id -> id in the super-node, and the super-node's id, from `npu-smi info`.

    Two chips make a card: device 5 is chip 1 of card 2.
    """
    found, pods = {}, set()
    for device in devices:
        card, chip = divmod(device, 2)
        command = ["npu-smi", "info", "-t", "spod-info", "-i", str(card), "-c", str(chip)]
        sdid = _ask(command, r"SDID\s*:\s*(\d+)")
        pod = _ask(command, r"Super Pod ID\s*:\s*(\d+)")
        if sdid is None or pod is None:
            raise ConfigError(
                f"no super-node found for device {device}: '{' '.join(command)}' gives no SDID "
                "or no Super Pod ID; --version 1.2 is for Atlas super-nodes"
            )
        found[device] = sdid
        pods.add(pod)
    return found, "-".join(sorted(pods))


def _ask(command: list[str], pattern: str) -> str | None:
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(pattern, answer.stdout)
    return match[1] if match else None


def _listed(conf: Path) -> dict[int, str]:
    try:
        text = conf.read_text(encoding="utf-8")
    except OSError:
        return {}
    return {int(d): ip for d, ip in re.findall(r"^\s*address_(\d+)\s*=\s*(\S+)", text, re.M)}


def own_address() -> str:
    """The address of this server's name.

    Raises:
        ConfigError: the name has none, or only one that other servers cannot use.
    """
    name = socket.gethostname()
    try:
        address = str(socket.getaddrinfo(name, None)[0][4][0])
    except OSError as error:
        raise ConfigError(
            f"server_ip: the name of this server, '{name}', has no address ({error}); give "
            "--server_ip the address that the other servers use"
        ) from None
    return check_server_id(address)
