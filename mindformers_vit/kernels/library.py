"""The compiled operators of this process: whether there are any, and how they compute.

MINDFORMERS_VIT_KERNELS=0 turns them off, MINDFORMERS_VIT_AVX512=0 and MINDFORMERS_VIT_AMX=0 compile
them without AVX-512 and without AMX.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
from pathlib import Path

from mindformers_vit import compat
from mindformers_vit.errors import ConfigError
from mindformers_vit.kernels.build import MASKS, BuildError, build

logger = logging.getLogger(__name__)
_matmul = "fp32"


def path() -> Path | None:
    """The library to take operators from; None: this process uses MindSpore's own."""
    return compiled() if compat.device() == "CPU" else None


def matmul() -> str:
    """How the linear layers multiply: "fp32" or "bf16" (summed in float32)."""
    return _matmul


def choose_matmul(wanted: str) -> None:
    """Set what `matmul` returns for networks built from now on.

    Raises:
        ConfigError: bf16 is asked for and cannot be had here.
    """
    global _matmul
    if wanted == "bf16" and compat.device() == "CPU" and not has_bf16():
        raise ConfigError(
            "context.cpu_matmul: 'bf16' given, which needs the compiled kernels and a CPU with "
            "AVX512-BF16; allowed here: fp32"
        )
    _matmul = wanted


def has_bf16() -> bool:
    """Whether `choose_matmul` may be given "bf16"."""
    library = path()
    return library is not None and bool(ctypes.CDLL(str(library)).has_bf16())


def numerics() -> str:
    """Names the arithmetic in use: runs with the same name and settings have the same bits.

    It holds the beginning of the library's key, which other code, compiler or CPU would change.
    """
    library = path()
    if library is None:
        return "plain"
    loaded = ctypes.CDLL(str(library))
    tiles = ", tiles" if loaded.tiles() else ""
    key = library.stem.partition("-")[2][:8]
    return f"kernels {key} of {loaded.lanes()} lanes{tiles}, {_matmul} matmul"


@functools.cache
def compiled() -> Path | None:
    """The library, compiled and loaded if that can be; else one line of the log says why not."""
    if os.environ.get("MINDFORMERS_VIT_KERNELS") == "0":
        _say_plain("MINDFORMERS_VIT_KERNELS=0")
        return None
    masked = [name for name in MASKS if os.environ.get(f"MINDFORMERS_VIT_{name}") == "0"]
    try:
        found = build(masked)
        if ctypes.CDLL(str(found)).start(_threads()) != 0:
            logger.info("kernels without AMX, which the operating system does not allow")
            found = build([*masked, "AMX"])
            ctypes.CDLL(str(found)).start(_threads())
    except BuildError as error:
        _say_plain(str(error))
        return None
    except OSError as error:
        _say_plain(f"the compiled library cannot be loaded: {error}")
        return None
    for name in masked:
        logger.info("kernels without %s: MINDFORMERS_VIT_%s=0", name, name)
    return found


def _say_plain(reason: str) -> None:
    logger.info("MindSpore's own operators, which are slower: %s", reason)


def _threads() -> int:
    """One for each core this process may use, at most OMP_NUM_THREADS."""
    cores = len(os.sched_getaffinity(0))
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(limit)) if limit.isdigit() and int(limit) > 0 else cores
