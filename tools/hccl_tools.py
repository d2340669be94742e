"""Make this server's rank table: `python tools/hccl_tools.py --device_num "[0,8)"`, or check one:
`python tools/hccl_tools.py --check FILE`. See `mindformers_vit/tools/rank_table.py`.

Exit codes: 0 done or sound, 2 bad usage, no such device, or an unsound table.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mindformers_vit.errors import ConfigError
from mindformers_vit.tools import hccn, rank_table, rank_table_check


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--device_num", default="[0,8)", help='which of the visible devices; "[0,8)": 0 to 7')
    add("--visible_devices", help="physical ids, for example 4,5,6,7; default: all of the server")
    add("--server_ip", default="", help="address of this server for the others")
    add("--device_num_per_node", type=int, default=8, help="devices of the server")
    add("--output_dir", default=".", help="where the file is written")
    add(
        "--version", choices=rank_table_check.VERSIONS, default="1.0", help="1.2: Atlas super-nodes"
    )
    add("--check", nargs="+", metavar="FILE", help="check rank tables, make none")
    return parser


def main(argv: list[str] | None = None) -> int:
    given = build_parser().parse_args(argv)
    try:
        return check(given.check) if given.check else make(given)
    except ConfigError as error:
        print("\n".join(f"error: {problem}" for problem in error.problems), file=sys.stderr)
        return error.exit_code


def check(paths: list[str]) -> int:
    """Say of each file what is wrong with it."""
    problems: list[str] = []
    for path in paths:
        try:
            table = rank_table_check.read_table(path)
        except ConfigError as error:
            problems += error.problems
            continue
        ranks = rank_table.device_of_rank(table)
        print(f"{path}: sound, {len(table['server_list'])} servers, {len(ranks)} ranks")
        for warning in rank_table_check.warnings_of(table):
            print(f"{path}: {warning}")
    if problems:
        raise ConfigError(problems)
    return 0


def make(given: argparse.Namespace) -> int:
    """Write the table of this server."""
    devices = chosen(given.device_num, given.visible_devices, given.device_num_per_node)
    server = given.server_ip or hccn.own_address()
    rank_table_check.check_server_id(server)
    ips = hccn.device_ips(devices)
    listed = [{"device_id": str(d), "device_ip": ips[d]} for d in devices]
    pod = None
    if given.version == "1.2":
        ids, pod = hccn.super_device_ids(devices)
        for entry, device in zip(listed, devices, strict=True):
            entry["super_device_id"] = ids[device]
    table = rank_table.make_table(server, listed, super_pod_id=pod)
    print(f"Completed: hccl file was saved in: {rank_table.write_table(table, given.output_dir)}")
    return 0


def chosen(device_num: str, visible_devices: str | None, per_node: int) -> list[int]:
    """Physical ids: `device_num` counts among the visible ones."""
    places = rank_table.parse_range(device_num)
    visible = range(per_node) if visible_devices is None else _ids(visible_devices)
    if places.stop > len(visible):
        limit = f"the server has {per_node} (--device_num_per_node {per_node})"
        if visible_devices is not None:
            limit = f"--visible_devices names {len(visible)}"
        raise ConfigError(f"--device_num: '{device_num}' given, but {limit}")
    picked = [visible[place] for place in places]
    outside = [d for d in picked if d >= per_node]
    if outside:
        raise ConfigError(
            f"--visible_devices: {outside[0]} given, but the server has devices 0 to "
            f"{per_node - 1} (--device_num_per_node {per_node})"
        )
    return picked


def _ids(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ConfigError(f"--visible_devices: '{text}' given; expected for example 4,5,6,7")
    ids = [int(part) for part in parts]
    if len(set(ids)) < len(ids):
        raise ConfigError(f"--visible_devices: '{text}' names a device twice")
    return ids


if __name__ == "__main__":
    sys.exit(main())
