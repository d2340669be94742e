"""What `--help` says around the flags, and the completion of a shell."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from mindformers_vit.commands import COMMANDS
from mindformers_vit.errors import ConfigError

GROUPS = {  # title -> flags
    "what to run": (
        "config", "run_mode", "dry_run", "load_checkpoint", "resume_training", "force_resume",
    ),
    "data": ("train_dataset_dir", "eval_dataset_dir", "num_samples", "predict_data"),
    "training": (
        "epochs", "batch_size", "gradient_accumulation_steps", "do_eval", "seed",
    ),
    "prediction and export": ("predict_batch_size", "export_format", "opset"),
    "device and output": ("device_target", "device_id", "mode", "output_dir", "use_parallel"),
}  # fmt: skip
METAVARS = {
    "train_dataset_dir": "DIR", "eval_dataset_dir": "DIR", "output_dir": "DIR",
    "load_checkpoint": "WEIGHTS", "device_target": "DEVICE", "export_format": "FORMAT",
}  # fmt: skip
USAGE = """\
%(prog)s --config FILE [--run_mode MODE] [flags]
       mindformers-vit COMMAND ..."""
EXAMPLES = """\
examples:
  # pretrain a masked autoencoder, then fine-tune and evaluate a classifier
  mindformers-vit --config configs/mae/run_mae_vit_tiny_p8_48_cpu.yaml \\
      --run_mode train --train_dataset_dir data/train --output_dir out/mae
  mindformers-vit --config configs/vit/run_vit_tiny_p8_48_cpu.yaml \\
      --run_mode finetune --load_checkpoint out/mae \\
      --train_dataset_dir data/train --output_dir out/vit
  mindformers-vit --config configs/vit/run_vit_tiny_p8_48_cpu.yaml \\
      --run_mode eval --load_checkpoint out/vit --eval_dataset_dir data/val

any key of the yaml is a flag, too:
  --optimizer.weight_decay=0.1    or    --options optimizer.weight_decay=0.1

commands (mindformers-vit COMMAND --help says more):
"""


def epilog() -> str:
    lines = [f"  {name:<18} {text}" for name, (_, text) in COMMANDS.items()]
    return EXAMPLES + "\n".join(lines)


def groups(parser: argparse.ArgumentParser) -> Mapping[str, argparse._ArgumentGroup]:
    """The groups in their order; flag -> its group, "" for the rest."""
    found: dict[str, argparse._ArgumentGroup] = {}
    for title, flags in GROUPS.items():
        group = parser.add_argument_group(title)
        found |= dict.fromkeys(flags, group)
    return {"": parser.add_argument_group("more"), **found}


def completion(argv: list[str]) -> int:
    """`completion bash|zsh|tcsh`: print the script for that shell."""
    from mindformers_vit.cli import build_parser

    parser = argparse.ArgumentParser(
        prog="mindformers-vit completion",
        description="Print a completion script.",
        epilog='example: eval "$(mindformers-vit completion bash)"',
    )
    try:
        import shtab
    except ImportError:
        raise ConfigError("completion needs shtab: pip install 'mindformers_vit[cli]'") from None
    parser.add_argument("shell", choices=shtab.SUPPORTED_SHELLS)
    shell = parser.parse_args(argv).shell
    whole = build_parser()
    whole.prog = "mindformers-vit"
    whole.add_argument("command", nargs="?", choices=list(COMMANDS))
    for action in whole._actions:
        if action.dest in ("config", "load_checkpoint", "predict_data"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.dest.endswith("_dir"):
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    print(shtab.complete(whole, shell))
    return 0
