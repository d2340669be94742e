"""The command line: `python run_mindformer.py ...` and `mindformers-vit ...`.

It turns flags into one mapping, and errors into one screen and an exit code: 0 done, 1 failed,
2 bad usage, configuration, data or checkpoint, 130 and 143 ended by SIGINT and SIGTERM
(docs/reliability.md).
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from mindformers_vit import cli_help, compat
from mindformers_vit.commands import find_command
from mindformers_vit.config.loader import find_config, load_yaml, parse_override, set_dotted
from mindformers_vit.config.schema import RUN_MODES, RunConfig
from mindformers_vit.errors import ConfigError, Interrupted, MindFormersViTError
from mindformers_vit.registry import nearest

# flag, dotted keys it sets, type, help
_FLAGS: list[tuple[str, tuple[str, ...], str, str]] = [
    ("run_mode", ("run_mode",), "mode", " | ".join(RUN_MODES)),
    ("train_dataset_dir", ("train_dataset.data_loader.dataset_dir",), "str", "training images"),
    ("eval_dataset_dir", ("eval_dataset.data_loader.dataset_dir",), "str", "evaluation images"),
    ("load_checkpoint", ("load_checkpoint",), "str", "weight file, directory or model name"),
    (
        "resume_training",
        ("resume_training",),
        "auto",
        "go on exactly where the newest checkpoint was taken: auto (the default: if there is one), "
        "True (there must be one), False (a new run)",
    ),
    ("force_resume", ("force_resume",), "switch", "resume although settings have changed"),
    ("epochs", ("runner_config.epochs",), "int", "passes over the training images"),
    ("batch_size", ("runner_config.batch_size",), "batch", "images of one forward pass"),
    (
        "gradient_accumulation_steps",
        ("runner_config.gradient_accumulation_steps",),
        "int",
        "batches of one update",
    ),
    (
        "num_samples",
        ("train_dataset.data_loader.num_samples", "eval_dataset.data_loader.num_samples"),
        "int",
        "use only so many images",
    ),
    ("do_eval", ("do_eval",), "bool", "evaluate during training"),
    ("export_format", ("export.export_format",), "str", "onnx | mindir | air"),
    ("opset", ("export.opset",), "int", "of the exported ONNX file"),
    ("predict_batch_size", ("predict.batch_size",), "int", "images of one forward pass"),
    ("device_target", ("context.device_target",), "str", "auto | CPU | Ascend | GPU"),
    ("device_id", ("context.device_id",), "int", "which device"),
    ("mode", ("context.mode",), "int", "0 graph, 1 PyNative"),
    ("seed", ("seed",), "int", "of everything random; 0 is a seed"),
    ("output_dir", ("output_dir",), "str", "where everything is written"),
    ("use_parallel", ("use_parallel",), "bool", "several devices"),
    ("sink_mode", ("runner_config.sink_mode",), "bool", "MindFormers', ignored"),
    ("profile", ("profile",), "bool", "MindFormers', ignored"),
    ("auto_trans_ckpt", ("auto_trans_ckpt",), "bool", "MindFormers', ignored"),
    ("only_save_strategy", ("only_save_strategy",), "bool", "MindFormers', ignored"),
    ("src_strategy_path_or_dir", ("src_strategy_path_or_dir",), "str", "MindFormers', ignored"),
    ("strategy_load_checkpoint", ("strategy_load_checkpoint",), "str", "MindFormers', ignored"),
    ("remote_save_url", ("remote_save_url",), "str", "MindFormers', ignored"),
]


_METAVARS = {
    "bool": "True|False",
    "switch": "True",
    "auto": "auto|True|False",
    "int": "N",
    "batch": "N",
}


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns its exit code and never raises what a user caused."""
    return compat.note_end(_answer(argv))


def _answer(argv: list[str] | None) -> int:
    """The exit code; whatever the user caused is said in one screen."""
    _log_to_terminal()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        with _all_written():
            return _run(sys.argv[1:] if argv is None else argv)
    except MindFormersViTError as error:
        print(_screen(error), file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # `... | head` has seen enough
        _drop_output()
        return 128 + signal.SIGPIPE
    except OSError as error:
        _drop_output()
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        print(f"interrupted {error}".rstrip(), file=sys.stderr)
        return error.exit_code if isinstance(error, Interrupted) else 130


@contextlib.contextmanager
def _all_written() -> Iterator[None]:
    """What stdout cannot take is an error here, and not when Python ends."""
    try:
        yield
    except SystemExit:  # of argparse, with its help
        _flush()
        raise
    _flush()


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _drop_output() -> None:
    """What stdout still cannot take goes nowhere."""
    try:
        _flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _interrupt(number: int, _: Any) -> None:
    """SIGTERM ends a run as Ctrl-C does; once MindSpore has computed, it turns Ctrl-C into one."""
    raise Interrupted(number)


def _log_to_terminal() -> None:
    """Messages alone on the terminal; the log files have time and place as well."""
    logger = logging.getLogger("mindformers_vit")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    compat.hush()
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler(sys.stderr))


def _run(argv: list[str]) -> int:
    command = find_command(argv[0]) if argv else None
    if command is not None:
        return command(argv[1:])
    values, dry_run = read_command_line(argv)
    from mindformers_vit.engine.plan import make_plan

    recipe = find_config(build_parser().parse_known_args(argv)[0].config)
    plan = make_plan(values, recipe)
    from mindformers_vit.engine import run

    if dry_run:
        print(run.describe(plan))
        return 0
    result = run.run(plan)
    if plan.run.run_mode == "eval" and plan.world.is_first:
        from mindformers_vit.metrics import figure

        print("\n".join(f"{name}  {figure(name, value):>8}" for name, value in result.items()))
    return 0


def _screen(error: MindFormersViTError) -> str:
    """The error on one screen."""
    if isinstance(error, ConfigError) and len(error.problems) > 1:
        head, lines = f"{len(error.problems)} problems:\n  ", str(error).splitlines()
    else:
        head, lines = "error: ", str(error).splitlines() or [type(error).__name__]
    more = [f"... and {len(lines) - 20} more"] if len(lines) > 20 else []
    return head + "\n  ".join([*lines[:20], *more])


def build_parser() -> argparse.ArgumentParser:
    """The flags; every key of the yaml can also be set as --section.key=value."""
    parser = argparse.ArgumentParser(
        prog="run_mindformer.py",
        description="Train, evaluate and use vision transformers on MindSpore.",
        epilog=cli_help.epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=cli_help.USAGE,
        allow_abbrev=False,
    )
    groups = cli_help.groups(parser)
    groups["config"].add_argument("--config", required=True, metavar="FILE", help="yaml of the run")
    groups["dry_run"].add_argument(
        "--dry_run", action="store_true", help="check everything, run nothing"
    )
    groups["predict_data"].add_argument(
        "--predict_data", nargs="+", metavar="IMAGE", help="files, directories or URLs"
    )
    groups[""].add_argument(
        "--options", nargs="+", metavar="KEY=VALUE", help="settings, dotted keys"
    )
    types: dict[str, Any] = {"int": int, "str": str, "mode": str, "auto": _auto, "batch": _batch}
    types |= {"bool": _boolean, "switch": _boolean}
    for flag, _, kind, text in _FLAGS:
        choices = RUN_MODES if kind == "mode" else None
        hidden = argparse.SUPPRESS if text.startswith("MindFormers'") else text
        bare: dict[str, Any] = {"nargs": "?", "const": True} if kind == "switch" else {}
        metavar = cli_help.METAVARS.get(flag, "VALUE") if kind == "str" else _METAVARS.get(kind)
        groups.get(flag, groups[""]).add_argument(
            f"--{flag}", type=types[kind], choices=choices, metavar=metavar, help=hidden, **bare
        )
    return parser


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"'{text}' given, True or False is expected")
    return text.lower() == "true"


def _auto(text: str) -> bool | str:
    return "auto" if text.lower() == "auto" else _boolean(text)


def _batch(text: str) -> int | str:
    """A number of images; an export may leave it open."""
    try:
        return text if text == "dynamic" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"'{text}' given, a number or dynamic is expected"
        ) from None


def read_command_line(argv: list[str]) -> tuple[dict[str, Any], bool]:
    """All settings of a run as one mapping, and whether it is a dry run."""
    parser = build_parser()
    arguments, rest = parser.parse_known_args(argv)
    values = load_yaml(find_config(arguments.config))
    for text in [*(arguments.options or []), *_dotted(rest, parser)]:
        values = set_dotted(values, *parse_override(text))
    for flag, keys, _, _ in _FLAGS:
        given = getattr(arguments, flag)
        if given is None:
            continue
        if flag == "batch_size" and values.get("run_mode") == "export":
            keys = ("export.batch_size",)
        for key in keys:
            if flag == "num_samples" and not values.get(key.partition(".")[0]):
                continue
            values = set_dotted(values, key, given)
    if arguments.predict_data:
        values = set_dotted(values, "predict.data", arguments.predict_data)
    return values, arguments.dry_run


def _dotted(rest: list[str], parser: argparse.ArgumentParser) -> list[str]:
    """What argparse does not know: --a.b=v and --a.b v, and keys at the yaml's top."""
    keys = RunConfig.key_names()
    known = [option for action in parser._actions for option in action.option_strings]
    known += [f"--{key}" for key in keys]
    found, place = [], 0
    while place < len(rest):
        name, equals, value = rest[place].partition("=")
        place += 1
        if not name.startswith("--") or name[2:].partition(".")[0] not in keys:
            raise ConfigError(f"unknown argument '{name}'{nearest(name, known)}; see --help")
        if not equals:
            if place == len(rest):
                raise ConfigError(f"{name}: a value is expected")
            value, place = rest[place], place + 1
        found.append(f"{name[2:]}={value}")
    return found


if __name__ == "__main__":
    sys.exit(main())
