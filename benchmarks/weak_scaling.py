"""Weak scaling of an MAE ViT-Ti/16 train step: one process on one core, two ranks of one core each.

    python benchmarks/weak_scaling.py --batch_size 32 --rounds 5

Twice the images by twice the cores: the efficiency is images/s of two ranks over twice the images/s
of one process. The two sides take turns and never run at the same time; the ratio is taken round
by round. The share of communication is that of the gradients' reduction alone, timed in the ranks.
CPU time leaves out the waiting, and is what other work on the machine disturbs least.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from turns import middle

REPOSITORY = Path(__file__).resolve().parents[1]
NETWORK = {
    "image_size": 224, "patch_size": 16, "norm_pix_loss": True,
    "hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3, "intermediate_size": 768,
    "decoder_hidden_size": 192, "decoder_num_hidden_layers": 4, "decoder_num_attention_heads": 3,
    "decoder_intermediate_size": 768,
}  # fmt: skip


def train_step(batch_size: int, world: Any) -> tuple[Any, Any]:
    """A function that takes one step, and one that only reduces the gradients."""
    import mindspore as ms
    import numpy as np

    from mindformers_vit import AutoModel, compat
    from mindformers_vit.engine.gradient_mean import GradientMean
    from mindformers_vit.engine.train_step import PretrainForward, TrainStep
    from mindformers_vit.models.mae.mae_config import ViTMAEConfig
    from mindformers_vit.optim.adamw import AdamW
    from mindformers_vit.optim.groups import parameter_rules

    network = AutoModel.from_config(ViTMAEConfig(**NETWORK))
    params = network.trainable_params()
    shapes = [tuple(p.shape) for p in params]
    rules = parameter_rules(
        dict(zip([p.name for p in params], shapes, strict=True)), weight_decay=0
    )
    mean = GradientMean(shapes, world.size, joined=True) if world.size > 1 else None
    step = TrainStep(PretrainForward(network), AdamW(params, rules, betas=(0.9, 0.95)), reduce=mean)
    rng = np.random.default_rng(world.rank)
    batch = {
        "image": rng.normal(size=(batch_size, 3, 224, 224)).astype(np.float32),
        "noise": rng.random((batch_size, 196), np.float32),
    }
    gradients = tuple(ms.Tensor(np.zeros(shape, np.float32)) for shape in shapes)
    reduce = compat.jit(mean) if mean is not None else None

    def reduce_only() -> None:
        if reduce is not None:
            reduce(gradients)[0].asnumpy()

    return lambda: step([batch], 1e-4), reduce_only


def serve(batch_size: int) -> None:
    """Child process: a number of steps a line, a line of JSON back."""
    sys.path.insert(0, str(REPOSITORY))
    from mindformers_vit import compat
    from mindformers_vit.engine import parallel

    size = int(os.environ.get("RANK_SIZE", "1"))
    world = parallel.World(int(os.environ.get("RANK_ID", "0")), size)
    compat.set_device("CPU")
    parallel.join(world)
    step, reduce = train_step(batch_size, world)
    step(), reduce()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps([_timed(step, int(line)), _timed(reduce, int(line))]), flush=True)


def _timed(function: Any, times: int) -> list[tuple[float, float]]:
    """Seconds and CPU seconds of each call."""
    found = []
    for _ in range(times):
        start, cpu = time.perf_counter(), time.process_time()
        function()
        found.append((time.perf_counter() - start, time.process_time() - cpu))
    return found


def start(batch_size: int, environment: Any, core: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", "--batch_size", str(batch_size)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOG_v": "3", **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    os.sched_setaffinity(process.pid, {core})
    return process


class Measured(NamedTuple):
    """Seconds of a step, and of the reduction alone."""

    step: float
    step_cpu: float
    reduction: float
    reduction_cpu: float


def answer(process: subprocess.Popen[str]) -> Any:
    assert process.stdout
    while line := process.stdout.readline():
        if line.startswith(("{", "[[")):
            return json.loads(line)
    raise SystemExit("a child process died; see above")


def ask(processes: list[subprocess.Popen[str]], steps: int) -> Measured:
    """Medians of the slowest process."""
    for process in processes:
        assert process.stdin
        process.stdin.write(f"{steps}\n")
        process.stdin.flush()
    found = []
    for process in processes:
        taken, reductions = answer(process)
        columns = [*zip(*taken, strict=True), *zip(*reductions, strict=True)]
        found.append([statistics.median(column) for column in columns])
    return Measured(*(max(column) for column in zip(*found, strict=True)))


def ranks_of_two() -> list[Any]:
    """The scheduler and the two ranks, as the launcher would start them."""
    sys.path.insert(0, str(REPOSITORY))
    from mindformers_vit.tools import launch
    from mindformers_vit.tools.launch_ranks import ranks_of

    recipe = str(REPOSITORY / "configs/mae/run_mae_vit_tiny_p8_48_cpu.yaml")
    given = launch.build_parser().parse_args([recipe, "[0,2]", "train"])
    return ranks_of(launch.read_launch(given, ["--device_target=CPU"]), 0)


def compare(batch_size: int, rounds: int, steps: int) -> None:
    cores = sorted(os.sched_getaffinity(0))
    scheduler, *both = ranks_of_two()
    introducer = subprocess.Popen(scheduler.command, env={**os.environ, **scheduler.environment})
    one = start(batch_size, {}, cores[0])
    two = [start(batch_size, r.environment, core) for r, core in zip(both, cores, strict=False)]
    for process in (one, *two):
        answer(process)
    alone, paired = [], []
    for _ in range(rounds):
        alone.append(ask([one], steps))
        paired.append(ask(two, steps))
    for process in (one, *two):
        process.communicate()
    introducer.wait(timeout=60)
    pairs = list(zip(alone, paired, strict=True))
    print(f"batch {batch_size} a process; {rounds} rounds of {steps} steps, medians (spread)")
    one_speed = [batch_size / a.step for a in alone]
    two_speed = [2 * batch_size / p.step for p in paired]
    print(f"one process, one core : {middle(one_speed)} images/s")
    print(f"two ranks, a core each: {middle(two_speed)} images/s")
    print(f"efficiency: {middle([a.step / p.step for a, p in pairs])}")
    print(f"... by CPU time: {middle([a.step_cpu / p.step_cpu for a, p in pairs])}")
    print(f"communication: {middle([p.reduction / p.step for p in paired])} of a step")
    print(f"... by CPU time: {middle([p.reduction_cpu / p.step_cpu for p in paired])}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.batch_size)
    else:
        compare(arguments.batch_size, arguments.rounds, arguments.steps)
