"""The batch that a run broke on, kept for its user to look at."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mindformers_vit.checkpoint import files
from mindformers_vit.engine.parallel import ONE, World

if TYPE_CHECKING:
    from mindformers_vit.data.loader import Loader


def save_step_batch(
    loader: Loader, directory: Path, epoch: int, step: int, accumulation: int, world: World = ONE
) -> str:
    """Make the batch of a step again and write it to an `.npz`; says where, and of which images.

    Each rank writes its own part.

    The arrays are those of the batch dict (docs/architecture.md), (accumulation * B, ...), and
    `path`, the files. Epochs and steps count from 1.
    """
    batches = list(islice(loader.epoch(epoch - 1, (step - 1) * accumulation), accumulation))
    arrays = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    paths = [loader.path_of(int(index)) for index in arrays["index"]]
    rank = f"_rank_{world.rank}" if world.size > 1 else ""
    target = directory / f"bad_batch_epoch_{epoch}_step_{step}{rank}.npz"
    try:
        with files.replacing(target) as temporary:
            np.savez(temporary, path=np.array(paths), **arrays)
    except OSError as error:
        return f"not saved ({error})"
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return f"in {target} ({', '.join(paths[:3])}{more})"
