"""Copy loaded arrays into parameters, in place.

`Parameter.set_data`, and `load_param_into_net` with it, cut a parameter off from every function
that was compiled with it before: the function goes on with the old memory and Python no longer
sees what it writes (MindSpore 2.10, measured). An in-place copy works before and after compiling.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, ops

from mindformers_vit.errors import CheckpointError


def assign(parameters: Mapping[str, Parameter], arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Copy each array into the parameter of its name, cast to the parameter's type.

    Parameters without an array keep their values; `merge` has reported them. Raises
    CheckpointError for an array without a parameter, or of another shape, before any is copied.
    """
    for name, array in arrays.items():
        if name not in parameters:
            raise CheckpointError(f"there is no parameter '{name}' to load into")
        if tuple(parameters[name].shape) != array.shape:
            shape = tuple(parameters[name].shape)
            raise CheckpointError(f"'{name}': loaded {array.shape}, the parameter has {shape}")
    for name, array in arrays.items():
        param = parameters[name]
        ops.assign(param, Tensor(np.array(array)).astype(param.dtype))


def to_arrays(parameters: Mapping[str, Parameter]) -> dict[str, np.ndarray[Any, Any]]:
    """The values by name, bfloat16 as float32 (which numpy has); they do not change later."""
    return {
        name: np.array((p.astype(ms.float32) if p.dtype == ms.bfloat16 else p).asnumpy())
        for name, p in parameters.items()
    }
