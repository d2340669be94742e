"""Start the ranks of a run on this server; `scripts/run_distribute.sh` calls it.

    run_distribute.sh [RANK_TABLE_FILE] CONFIG [0,8] RUN_MODE [RANK_SIZE] [-- flags of the run]

With a rank table the ranks meet through HCCL. Without one (leave it out, or write none), and
always on CPU, they meet through MindSpore's dynamic cluster, as msrun's do: a scheduler process
beside rank 0, and addresses in the environment.

In the directory where it is called, except in scripts/: from there the ranks run in the repository.
Exit codes: 0 done, 2 bad usage, else that of the first rank that failed (128 + n for signal n).
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mindformers_vit.compat import resolve_device
from mindformers_vit.config.loader import find_config, load_yaml
from mindformers_vit.errors import ConfigError
from mindformers_vit.tools.launch_ranks import ROOT, Launch, ranks_of
from mindformers_vit.tools.rank_table import device_of_rank, parse_range
from mindformers_vit.tools.rank_table_check import read_table
from mindformers_vit.tools.ranks import Rank, run

_MODES = ("train", "finetune", "eval")
_WATCHED = 5.0  # seconds before a server's part of a run is left to the background


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run_distribute.sh",
        usage="%(prog)s [options] [RANK_TABLE_FILE] CONFIG [0,8] RUN_MODE [RANK_SIZE] [-- flags]",
        description="Start the ranks of a run on this server and wait for them.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("words", nargs="+", metavar="ARGUMENT", help="[0,8]: ranks 0 to 7; RUN_MODE: train ...")
    add("--dry_run", action="store_true", help="print every command, start nothing")
    add("--max_restarts", type=int, default=0, metavar="N", help="after a rank has died")
    add("--wait", action="store_true", help="also where other servers have the other ranks")
    add("--master_addr", default="127.0.0.1", help="server of rank 0, where there is no rank table")
    add("--master_port", type=int, help="free port there; default: found, 8118 on several servers")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Start, wait, and return the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    own = argv[: argv.index("--")] if "--" in argv else argv
    given = build_parser().parse_args(own)
    try:
        launch = read_launch(given, argv[len(own) + 1 :])
        if given.dry_run:
            print("\n".join(rank.shell() for rank in ranks_of(launch, 0)))
            return 0
        if launch.is_whole or given.wait:
            return run(lambda attempt: _announced(launch, attempt), max_restarts=given.max_restarts)
        return _in_background(launch, argv)
    except ConfigError as error:
        print("\n".join(f"error: {problem}" for problem in error.problems), file=sys.stderr)
        return error.exit_code


def read_launch(given: argparse.Namespace, flags: Sequence[str]) -> Launch:
    """The arguments, checked."""
    words = list(given.words)
    table = None
    if not words[0].endswith((".yaml", ".yml")):
        table = None if words[0].lower() == "none" else Path(words[0]).resolve()
        words = words[1:]
    if len(words) not in (3, 4):
        raise ConfigError(
            f"'{' '.join(given.words)}' given; expected RANK_TABLE_FILE CONFIG [0,8] RUN_MODE "
            "[RANK_SIZE] [-- flags of the run]"
        )
    if words[2] not in _MODES:
        raise ConfigError(
            f"RUN_MODE: '{words[2]}' given, several ranks can do: {', '.join(_MODES)}; for "
            "anything else use run_mindformer.py"
        )
    if given.max_restarts < 0:
        raise ConfigError(f"--max_restarts: 0 or more is expected, given {given.max_restarts}")
    ranks = parse_range(words[1])
    size = _product(words[3]) if len(words) == 4 else len(ranks)
    first_device = 0
    if size == len(ranks):  # [4,8] of a server on its own: devices 4 to 7, ranks 0 to 3
        first_device, ranks = ranks[0], range(size)
    if ranks.stop > size:
        raise ConfigError(
            f"RANK_SIZE: {size} given, but the ranks '{words[1]}' go up to {ranks[-1]}"
        )
    config = find_config(words[0]).resolve()
    here = Path.cwd()
    directory = ROOT if here == ROOT / "scripts" else here
    values = load_yaml(config)
    context = values.get("context") or {}
    target = _flag(flags, "device_target", "context.device_target") or context.get("device_target")
    output = _flag(flags, "output_dir") or values.get("output_dir") or "./output"
    several = size > len(ranks)
    launch = Launch(
        config=config,
        table=None if target == "CPU" else table,
        ranks=ranks,
        size=size,
        first_device=first_device,
        mode=words[2],
        flags=tuple(flags),
        directory=directory,
        output=(directory / Path(output).expanduser()).resolve(),
        device=target if target not in (None, "auto") else resolve_device("auto"),
        master=(given.master_addr, given.master_port or (8118 if several else None)),
    )
    _check_network(launch)
    return launch


def _product(text: str) -> int:
    """ "96" or, as the document's shell makes it, "8*12"."""
    if not re.fullmatch(r"\d+(\*\d+)*", text):
        raise ConfigError(f"RANK_SIZE: '{text}' given; a number is expected")
    total = 1
    for factor in text.split("*"):
        total *= int(factor)
    return total


def _flag(flags: Sequence[str], *names: str) -> str | None:
    """The last value given to a flag of the run."""
    found = None
    for place, flag in enumerate(flags):
        name, equals, value = flag.removeprefix("--").partition("=")
        if flag.startswith("--") and name in names:
            found = value if equals else next(iter(flags[place + 1 :]), None)
    return found


def _check_network(launch: Launch) -> None:
    """That every rank of this server can be found by the others."""
    if launch.table is not None:
        devices = device_of_rank(read_table(launch.table))
        if launch.size != len(devices):
            raise ConfigError(
                f"RANK_SIZE: {launch.size} given, but '{launch.table}' has {len(devices)} ranks"
            )
        servers = {devices[rank][1] for rank in launch.ranks}
        if len(servers) > 1:
            raise ConfigError(
                f"ranks {launch.ranks[0]} to {launch.ranks[-1]} are on the servers "
                f"{', '.join(sorted(servers))} of '{launch.table}'; one server's are expected"
            )
    elif not launch.is_whole and launch.master[0] == "127.0.0.1":
        raise ConfigError(
            "--master_addr: missing; the ranks are on several servers, and there is no rank table "
            "in use, so each must be told the address of rank 0's server"
        )


def _announced(launch: Launch, attempt: int) -> list[Rank]:
    ranks = ranks_of(launch, attempt)
    for rank in ranks:
        print(f"{rank.name}: log {rank.log}", flush=True)
    return ranks


def _in_background(launch: Launch, argv: list[str]) -> int:
    """One server of several: leave the waiting to a process of its own, as the document's loop
    over the servers needs; what fails in the first seconds is still reported here.
    """
    log = launch.output / "log" / f"launcher_{launch.ranks[0]}-{launch.ranks.stop}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mindformers_vit.tools.launch", "--wait", *argv]
    with log.open("wb") as stream:
        waiter = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    previous = signal.signal(signal.SIGTERM, lambda *_: waiter.terminate())
    try:
        code = waiter.wait(timeout=_WATCHED)
    except subprocess.TimeoutExpired:
        print(
            f"ranks {launch.ranks[0]} to {launch.ranks[-1]} of {launch.size} run in the background "
            f"as process {waiter.pid} (kill it to stop them; --wait waits here), log {log}"
        )
        return 0
    finally:
        signal.signal(signal.SIGTERM, previous)
    print(log.read_text(encoding="utf-8", errors="replace"), end="")
    return code


if __name__ == "__main__":
    sys.exit(main())
