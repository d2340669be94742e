"""`verify-checkpoint DIR`: is every byte of these training checkpoints as it was saved?"""

from __future__ import annotations

import argparse
from pathlib import Path

from mindformers_vit.checkpoint.manifest import FILE_NAME
from mindformers_vit.checkpoint.store import directories_in, load_checkpoint
from mindformers_vit.errors import CheckpointError

_BELOW = ("", "rank_0", "checkpoint/rank_0")


def main(argv: list[str]) -> int:
    """0: all are whole; 1: one is damaged; CheckpointError: there is none."""
    parser = argparse.ArgumentParser("mindformers-vit verify-checkpoint", description=__doc__)
    parser.add_argument("directory", help="a checkpoint, their folder, or an output directory")
    root = Path(parser.parse_args(argv).directory).expanduser()
    found = find_checkpoints(root)
    if not found:
        raise CheckpointError(f"'{root}' holds no training checkpoint")
    bad = 0
    for path in found:
        try:
            tensors, state, _ = load_checkpoint(path)
        except CheckpointError as error:
            bad += 1
            print(f"BAD   {path}\n      {error}")
            continue
        place = f"epoch {state['epoch']}, step {state['step']}"
        print(f"whole {path} ({place}, {len(tensors)} tensors)")
    print(f"{len(found)} checkpoints, {bad} damaged")
    return 1 if bad else 0


def find_checkpoints(root: Path) -> list[Path]:
    """Checkpoint directories in or below what is given, by name."""
    if (root / FILE_NAME).is_file():
        return [root]
    found = [path for below in _BELOW for path in directories_in(root / below)]
    return found or [path for path in directories_in(root.parent) if path == root]
