"""The name of the Ascend chip in this machine."""

from __future__ import annotations

import re
import shutil
import subprocess

from mindformers_vit.errors import ConfigError

_ROW = re.compile(r"^\|\s*\d+\s+(?P<name>\w+)\s*\|\s*(?:OK|Warning|Alarm|Critical)\b", re.M)


def soc_version(given: str | None = None) -> str:
    """`Ascend310P3`: as given, else what `npu-smi info` shows.

    Raises:
        ConfigError: there is no npu-smi, it fails, or it shows several kinds of chips or none.
    """
    if given:
        return given if given.startswith("Ascend") else f"Ascend{given}"
    program = shutil.which("npu-smi")
    if program is None:
        raise ConfigError("soc_version: no npu-smi here to ask; give --soc_version Ascend310P3")
    done = subprocess.run([program, "info"], capture_output=True, text=True, check=False)
    names = sorted({match["name"] for match in _ROW.finditer(done.stdout)})
    if done.returncode or len(names) != 1:
        shown = ", ".join(names) or "no chip"
        raise ConfigError(
            f"soc_version: `npu-smi info` ended with exit code {done.returncode} and shows "
            f"{shown}; give --soc_version"
        )
    return f"Ascend{names[0]}"
