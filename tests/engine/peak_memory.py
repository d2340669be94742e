"""Run by test_forecast.py: three train steps of a network, then the peak memory in MiB."""

import json
import sys
from pathlib import Path

import numpy as np

from mindformers_vit import compat
from mindformers_vit.engine.forecast import cpu_process, memory_of
from tests.engine.forecast_plans import plan_of


def main() -> None:
    plan = plan_of(**json.loads(sys.argv[1]))
    compat.set_device("CPU")
    from mindformers_vit.engine.loop import Length
    from mindformers_vit.engine.train import _train_step
    from mindformers_vit.models.auto import AutoModel

    network = AutoModel.from_config(plan.network)
    step = _train_step(plan, network, Length(1, 3, 1))
    batch, side = plan.run.runner_config.batch_size, plan.network.image_hw[0]
    rng = np.random.default_rng(0)
    arrays = {"image": rng.standard_normal((batch, 3, side, side)).astype(np.float32)}
    if plan.labelled:
        arrays["target"] = np.full((batch, plan.network.num_labels), 0.01, np.float32)
    else:
        arrays["noise"] = rng.random((batch, plan.network.num_patches)).astype(np.float32)
    for _ in range(3):
        step([arrays], 1e-4)
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    found = {"peak": peak, "process": cpu_process(plan), "forecast": memory_of(plan).total}
    print("FOUND " + json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
