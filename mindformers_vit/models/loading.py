"""What a network may leave out of, or not find in, a weight file: rules as data. No MindSpore."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mindformers_vit.checkpoint.merge import Resize
from mindformers_vit.models.layers.parameters import Init

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class LoadingRules:
    """Arguments for `checkpoint.merge`, and the first values of what the file does not give."""

    allow_new: tuple[str, ...] = ()  # patterns of the network's names
    allow_unused: tuple[str, ...] = ()  # patterns of the file's names
    resize: Mapping[str, Resize] = field(default_factory=dict)
    new_values: Mapping[str, Init] = field(default_factory=dict)  # name -> instead of its own
    copies: Mapping[str, str] = field(default_factory=dict)  # network's name <- the file's
