"""What report.html costs the quickstart's pretraining, start to end.

    python benchmarks/report_cost.py [--epochs 12]

The seconds that the report's hooks take, as a part of the training's (without the start, and with
compiling).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIG = REPOSITORY / "configs/mae/run_mae_vit_tiny_p8_48_cpu.yaml"
HOOKS = ("on_train_begin", "on_step_end", "on_epoch_end", "on_train_end")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", default="12")
    parser.add_argument("--data", default=str(REPOSITORY / "quickstart/data"))
    given = parser.parse_args()
    sys.path.insert(0, str(REPOSITORY))
    from mindformers_vit import cli
    from mindformers_vit.engine.callbacks.report_writer import ReportWriter

    began, spent = [], []

    def timed(hook: Any) -> Any:
        def run(writer: ReportWriter, loop: Any) -> None:
            start = time.perf_counter()
            began.append(start)
            hook(writer, loop)
            spent.append(time.perf_counter() - start)

        return run

    for name in HOOKS:
        setattr(ReportWriter, name, timed(getattr(ReportWriter, name)))
    flags = ["--config", str(CONFIG), "--run_mode", "train", "--epochs", given.epochs]
    flags += ["--train_dataset_dir", f"{given.data}/train", "--eval_dataset_dir"]
    with tempfile.TemporaryDirectory() as folder:
        if cli.main([*flags, f"{given.data}/val", "--output_dir", folder]):
            raise SystemExit("the run failed")
    total = time.perf_counter() - began[0]
    print(f"{sum(spent):.2f} of {total:.1f} s: {100 * sum(spent) / total:.2f} %")


if __name__ == "__main__":
    main()
