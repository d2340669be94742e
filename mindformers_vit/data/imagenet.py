"""The 1,000 classes of ImageNet-1k (ILSVRC 2012) in the order that every published head has: that
of their WordNet ids, which are also the names of the class folders.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

_FILE = Path(__file__).with_name("imagenet_classes.txt")


@functools.cache
def imagenet_classes() -> dict[str, str]:
    """WordNet id -> words: "n01440764" -> "tench, Tinca tinca"."""
    lines = _FILE.read_text(encoding="utf-8").splitlines()
    split = (line.partition("\t") for line in lines if not line.startswith("#"))
    return {wordnet_id: words for wordnet_id, _, words in split}


def imagenet_labels() -> dict[int, str]:
    """Class index -> words, as `id2label`."""
    return dict(enumerate(imagenet_classes().values()))


def are_imagenet_folders(folders: Sequence[str]) -> bool:
    """Whether these class folders are ImageNet-1k's, all of them and in their order."""
    return list(folders) == list(imagenet_classes())
