"""Every difference between devices, MindSpore versions and execution modes. MindSpore is imported
here when first needed, nowhere by the layers above the networks.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

from mindformers_vit.errors import ConfigError

logger = logging.getLogger(__name__)
ENDED = "MINDFORMERS_VIT_ENDED"  # names the file where a rank leaves its exit code
_RECURSION_LIMIT = 10_000  # the compiler nests a call for each parameter of an update
_HUSHED = {"GLOG_v": "3"}
_GLOG_THRESHOLD = "_ZN3fLI21FLAGS_stderrthresholdE"  # of the C++ half: 1 warnings, 2 errors


def _has_ascend() -> bool:
    return any(Path("/dev").glob("davinci[0-9]*"))


def missing_device(target: str) -> list[str]:
    """The problem, if an Ascend is asked for and this machine shows none."""
    if target != "Ascend" or _has_ascend():
        return []
    return [
        "context.device_target: 'Ascend' given, but this machine has none (no /dev/davinci*); "
        "give --device_target CPU, or auto"
    ]


def resolve_device(target: str) -> str:
    """ "auto" becomes "Ascend" on a machine that has one, else "CPU"."""
    if target != "auto":
        return target
    return "Ascend" if _has_ascend() else "CPU"


def note_end(code: int) -> int:
    """Leave the exit code for the launcher, if one has started this process; returns it.

    MindSpore's cluster threads may crash a process that shuts down when all is done (2.10).
    """
    if path := os.environ.get(ENDED):
        Path(path).write_text(str(code), encoding="utf-8")
    return code


def hush() -> None:
    """MindSpore says errors only, unless the user has set how much it is to say."""
    os.environ |= _HUSHED | os.environ


def log_to(directory: Path) -> None:
    """MindSpore's warnings go to `directory/rank_<n>/logs`, its errors to the terminal, too.

    It reads how to log once, when it is imported; later, or where the user has set it, nothing
    is changed.
    """
    given = {name: value for name, value in os.environ.items() if name.startswith("GLOG_")}
    if given not in ({}, _HUSHED) or "mindspore" in sys.modules:
        return
    to_file = {"GLOG_logtostderr": "0", "GLOG_log_dir": str(directory.resolve())}
    os.environ |= {"GLOG_v": "2", "GLOG_stderrthreshold": "3", **to_file}
    import ctypes

    import mindspore as ms

    for path in (Path(ms.__file__).parent / "lib").glob("lib*glog.so*"):
        try:  # whatever GLOG_stderrthreshold says, it stays at warnings
            ctypes.c_int.in_dll(ctypes.CDLL(str(path)), _GLOG_THRESHOLD).value = 2
        except (OSError, ValueError):  # another glog: the terminal shows warnings as well
            continue


def set_device(target: str, *, device_id: int = 0, mode: int = 0, memory: str | None = None) -> str:
    """Choose device and mode for this process; returns the device's name.

    MindSpore takes a device once, before its first kernel; asking again for the same one is fine.

    Raises:
        ConfigError: this MindSpore cannot use the device here, or uses another one already.
    """
    import mindspore as ms

    _refuse_compile_cache()
    name = resolve_device(target)
    try:
        ms.set_device(name, device_id)
    except (RuntimeError, ValueError) as error:
        if (name, device_id) != (device(), ms.get_context("device_id")):
            reason = str(error).strip().splitlines()[0]
            raise ConfigError(
                f"context.device_target: '{name}' cannot be used on this machine: {reason}"
            ) from None
    if memory and name != "CPU":
        ms.runtime.set_memory(max_size=memory)
    ms.set_context(mode=ms.GRAPH_MODE if mode == 0 else ms.PYNATIVE_MODE)
    if ms.get_context("deterministic") != "ON":
        ms.set_deterministic(True)
    ms.set_recursion_limit(_RECURSION_LIMIT)
    return name


def _refuse_compile_cache() -> None:
    """MindSpore's cache loses the weights of a compiled function: it computes on, with noise.

    A cached graph takes its weights from the Cell that is compiled, and a `jit` of a function has
    none (2.10). Its graphs are known by the order of compiling and the script's own imports.
    """
    import mindspore as ms

    asked = os.environ.pop("MS_COMPILER_CACHE_ENABLE", "0") == "1"
    if asked or ms.get_context("enable_compile_cache"):
        ms.set_context(enable_compile_cache=False)
        logger.warning(
            "MindSpore's compile cache is switched off: it gives training steps wrong weights"
        )


def device() -> str:
    """The device this process computes on: "CPU", "Ascend" or "GPU"."""
    import mindspore as ms

    return str(ms.get_context("device_target"))


def resolve_dtype(wanted: str, device_name: str) -> str:
    """The type of the matmuls: float32 on CPU, float16 on Ascend, unless one is asked for."""
    if wanted == "auto":
        return "float32" if device_name == "CPU" else "float16"
    if wanted == "bfloat16" and device_name == "CPU":
        raise ConfigError(
            "context.compute_dtype: bfloat16 matmul does not exist in MindSpore on CPU; "
            "allowed there: auto, float32, float16"
        )
    return wanted


def jit(function: Any) -> Any:
    """`function` compiled into one graph (in PyNative mode: left as it is)."""
    import mindspore as ms

    if ms.get_context("mode") == ms.PYNATIVE_MODE:
        return function
    return ms.jit(function)
