"""The type that matrix products are computed in."""

from __future__ import annotations

import mindspore as ms

from mindformers_vit import compat

_TYPES = {"float32": ms.float32, "float16": ms.float16, "bfloat16": ms.bfloat16}


def ms_dtype(name: str) -> ms.Type:
    """MindSpore's type of that name on this device; "auto" as `compat.resolve_dtype` says.

    Raises:
        ConfigError: the device has no matrix product of that type.
    """
    return _TYPES[compat.resolve_dtype(name, compat.device())]
