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
import math
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mindformers_vit.cli import read_command_line
from mindformers_vit.compat import resolve_device
from mindformers_vit.config.loader import find_config
from mindformers_vit.config.schema import RunConfig
from mindformers_vit.config.strict import validate
from mindformers_vit.engine.run_lock import only_run_in
from mindformers_vit.errors import ConfigError
from mindformers_vit.tools.launch_ranks import ROOT, Launch, checkpoints_of, ranks_of
from mindformers_vit.tools.rank_table import device_of_rank, parse_range
from mindformers_vit.tools.rank_table_check import Table, read_table
from mindformers_vit.tools.ranks import Rank, noted_signals, run

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
        _claim(launch)
        if launch.is_whole or given.wait:
            return run(lambda attempt: _announced(launch, attempt), max_restarts=given.max_restarts)
        return _in_background(launch, argv)
    except ConfigError as error:
        print("\n".join(f"error: {problem}" for problem in error.problems), file=sys.stderr)
        return error.exit_code


def read_launch(given: argparse.Namespace, flags: Sequence[str]) -> Launch:
    """The arguments, checked together with the configuration of the run."""
    table, config, asked, mode, count = _words(given.words)
    _check_options(given, mode)
    ranks, devices, size = _ranks(asked, count)
    command = [f"--config={find_config(config).resolve()}", "--use_parallel=True"]
    command += [f"--run_mode={mode}", *flags]
    settings = validate(RunConfig, read_command_line(command)[0])
    target = settings.context.device_target
    listed = None if table is None else read_table(table)
    if listed is None or target == "CPU":  # where the ranks meet without it
        table = None
        _check_master(given.master_addr, ranks, size)
    else:
        devices = _devices(listed, str(table), ranks, size)
    directory = ROOT if Path.cwd() == ROOT / "scripts" else Path.cwd()
    output = (directory / Path(settings.output_dir).expanduser()).resolve()
    return Launch(
        command=tuple(command),
        table=table,
        ranks=ranks,
        devices=devices,
        size=size,
        directory=directory,
        output=output,
        device=resolve_device(target),
        master=(given.master_addr, given.master_port or (8118 if size > len(ranks) else None)),
        trains=settings.is_training,
        old=checkpoints_of(output) if settings.resume_training is False else frozenset(),
    )


def _words(words: Sequence[str]) -> tuple[Path | None, str, str, str, str | None]:
    """Rank table, configuration, range of ranks, mode, number of all ranks."""
    table, rest = None, list(words)
    if not rest[0].endswith((".yaml", ".yml")):
        table = None if rest[0].lower() == "none" else Path(rest[0]).resolve()
        rest = rest[1:]
    if len(rest) not in (3, 4):
        raise ConfigError(
            f"'{' '.join(words)}' given; expected RANK_TABLE_FILE CONFIG [0,8] RUN_MODE "
            "[RANK_SIZE] [-- flags of the run]"
        )
    return table, rest[0], rest[1], rest[2], rest[3] if len(rest) == 4 else None


def _check_options(given: argparse.Namespace, mode: str) -> None:
    problems = []
    if mode not in _MODES:
        problems.append(
            f"RUN_MODE: '{mode}' given, several ranks can do: {', '.join(_MODES)}; for "
            "anything else use run_mindformer.py"
        )
    if given.max_restarts < 0:
        problems.append(f"--max_restarts: 0 or more is expected, given {given.max_restarts}")
    if given.master_port is not None and not 0 < given.master_port < 2**16:
        problems.append(f"--master_port: 1 to 65535 is expected, given {given.master_port}")
    if problems:
        raise ConfigError(problems)


def _ranks(asked: str, count: str | None) -> tuple[range, Sequence[int], int]:
    """This server's ranks, their devices if no rank table tells them, and how many all are."""
    found = parse_range(asked)
    size = len(found) if count is None else _product(count)
    if size == len(found):  # [4,8] of a server on its own: devices 4 to 7, ranks 0 to 3
        return range(size), found, size
    if found.stop > size:
        raise ConfigError(f"RANK_SIZE: {size} given, but the ranks '{asked}' go up to {found[-1]}")
    return found, range(len(found)), size


def _product(text: str) -> int:
    """ "96" or, as the document's shell makes it, "8*12"."""
    if not re.fullmatch(r"\d{1,6}(\*\d{1,6})*", text, re.ASCII):
        raise ConfigError(f"RANK_SIZE: '{text}' given; a number is expected")
    return math.prod(int(factor) for factor in text.split("*"))


def _devices(table: Table, name: str, ranks: range, size: int) -> list[int]:
    """The device of each of these ranks, which must be one server's."""
    listed = device_of_rank(table)
    if size != len(listed):
        raise ConfigError(f"RANK_SIZE: {size} given, but '{name}' has {len(listed)} ranks")
    servers = {listed[rank][1] for rank in ranks}
    if len(servers) > 1:
        raise ConfigError(
            f"ranks {ranks[0]} to {ranks[-1]} are on the servers {', '.join(sorted(servers))} of "
            f"'{name}'; one server's are expected"
        )
    return [listed[rank][0] for rank in ranks]


def _check_master(address: str, ranks: range, size: int) -> None:
    if size > len(ranks) and address == "127.0.0.1":
        raise ConfigError(
            "--master_addr: missing; the ranks are on several servers, and there is no rank table "
            "in use, so each must be told the address of rank 0's server"
        )


def _claim(launch: Launch) -> None:
    """Make the directory of the logs; refuse where another run trains, before it is touched."""
    logs = launch.output / "log"
    try:
        logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"output_dir: '{logs}': {error.strerror}") from None
    if launch.trains and launch.ranks[0] == 0:  # on another server rank 0 may have begun
        with only_run_in(launch.output):
            pass


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
    command = [sys.executable, "-m", "mindformers_vit.tools.launch", "--wait", *argv]
    with log.open("wb") as stream:
        waiter = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    told, end = False, time.monotonic() + _WATCHED
    with noted_signals() as came:
        while waiter.poll() is None and (told or time.monotonic() < end):
            time.sleep(0.1)
            while came:
                told = True
                waiter.send_signal(came.pop(0))
    if waiter.returncode is None:
        print(
            f"ranks {launch.ranks[0]} to {launch.ranks[-1]} of {launch.size} run in the background "
            f"as process {waiter.pid} (kill it to stop them; --wait waits here), log {log}"
        )
        return 0
    print(log.read_text(encoding="utf-8", errors="replace"), end="")
    return waiter.returncode


if __name__ == "__main__":
    sys.exit(main())
