"""What a run leaves in its output directory, and the logs.

```
output_dir/
  config_<run_mode>.yaml                          the resolved configuration
  metrics.jsonl, summary/rank_0/                  MetricsWriter
  report.html, report/                            the run on one page, and what it is made from
  finished.json                                   the run came to its end
  previous_<n>/                                   what earlier runs left
  log/rank_<n>/info.log, error.log                one of each rank
  log/rank_<n>/logs/                              what MindSpore itself warned of
  checkpoint/rank_0/<prefix>_rank_0-<epoch>_<step>/   training checkpoints
  checkpoint_network/rank_0/                      the network alone: final, and best when evaluated
```
"""

from __future__ import annotations

import logging
from pathlib import Path

import yaml

from mindformers_vit.checkpoint import files
from mindformers_vit.engine.plan import Plan
from mindformers_vit.errors import ConfigError

_FORMAT = "%(asctime)s - mindformers_vit[%(module)s.py:%(lineno)d] - %(levelname)s - %(message)s"


def prepare(plan: Plan) -> Path:
    """Make the directory and open the logs."""
    directory = directory_of(plan)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _log_to(directory / "log" / f"rank_{plan.world.rank}")
    except OSError as error:
        raise ConfigError(f"output_dir: '{directory}': {error.strerror}") from None
    return directory


def directory_of(plan: Plan) -> Path:
    """Where a run writes."""
    return Path(plan.run.output_dir).expanduser()


def write_config(plan: Plan, directory: Path, text: str) -> None:
    """Leave the resolved configuration beside the results."""
    path = directory / f"config_{plan.run.run_mode}.yaml"
    try:
        with files.replacing(path) as temporary:
            files.write_file(temporary, text.encode())
    except OSError as error:
        raise ConfigError(f"output_dir: '{path}': {error.strerror}") from None


def config_text(plan: Plan) -> str:
    """The resolved configuration as a yaml that runs again: no dead keys, every default."""
    values = plan.run.model_dump(mode="json", by_alias=True, exclude_none=True)
    settings = plan.network.model_dump(mode="json", exclude_none=True)
    values["model"]["model_config"] = {"type": type(plan.network).__name__} | settings
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100))


class _LogFile(logging.FileHandler):
    """On a full disk it says nothing, rather than print a traceback for each message."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass


def _log_to(directory: Path) -> None:
    """Messages in files, with time and place; a second run in one process moves them."""
    directory.mkdir(parents=True, exist_ok=True)
    root = logging.getLogger("mindformers_vit")
    root.setLevel(logging.INFO)
    for handler in [h for h in root.handlers if isinstance(h, logging.FileHandler)]:
        root.removeHandler(handler)
        handler.close()
    if not root.hasHandlers():  # a Python session that has set up no logging sees what a shell sees
        root.addHandler(logging.StreamHandler())
    for name, level in (("info.log", logging.INFO), ("error.log", logging.ERROR)):
        handler = _LogFile(directory / name, encoding="utf-8", delay=True)
        handler.setLevel(level)
        handler.setFormatter(logging.Formatter(_FORMAT))
        root.addHandler(handler)
