"""One MAE ViT-B/16 train step on CPU, float32, beside Hugging Face's ViTMAEForPreTraining in torch.

    pip install -r requirements.txt torch==2.13.0 "transformers==4.57.6"
    python benchmarks/mae_train_step.py --batch_size 8 --rounds 5

The two run in processes of their own, in turn, never at the same time, so that a drift of the
machine meets both; the ratio is taken round by round. Both take forward, backward and AdamW.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]


def mindspore_step(batch_size: int) -> Any:
    """A function that runs one step of this project's own compiled train step."""
    sys.path.insert(0, str(REPOSITORY))
    import numpy as np

    from mindformers_vit import AutoModel, compat
    from mindformers_vit.engine.train_step import PretrainForward, TrainStep
    from mindformers_vit.optim.adamw import AdamW
    from mindformers_vit.optim.groups import parameter_rules

    compat.set_device("CPU")
    network = AutoModel.from_pretrained("mae_vit_base_p16", download_checkpoint=False)
    params = network.trainable_params()
    rules = parameter_rules({p.name: tuple(p.shape) for p in params}, weight_decay=0.05)
    step = TrainStep(PretrainForward(network), AdamW(params, rules, betas=(0.9, 0.95)))
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.normal(size=(batch_size, 3, 224, 224)).astype(np.float32),
        "noise": rng.random((batch_size, 196), np.float32),
    }
    return lambda: step([batch], 1e-4)["loss"]


def torch_step(batch_size: int) -> Any:
    """A function that runs one step of Hugging Face's network with torch's AdamW."""
    import torch
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    torch.manual_seed(0)
    network = ViTMAEForPreTraining(ViTMAEConfig(norm_pix_loss=True)).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, (0.9, 0.95), weight_decay=0.05)
    images = torch.randn(batch_size, 3, 224, 224)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = network(images).loss
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def serve(side: str, batch_size: int) -> None:
    """Child process: a line in, `steps` steps, a line of JSON out."""
    start = time.perf_counter()
    step = {"mindspore": mindspore_step, "torch": torch_step}[side](batch_size)
    step()
    print(json.dumps({"first": time.perf_counter() - start}), flush=True)
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            loss = step()
            times.append(time.perf_counter() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps({"times": times, "loss": loss, "peak_gib": peak}), flush=True)


def start(side: str, batch_size: int) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--serve", side, "--batch_size", str(batch_size)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def ask(process: subprocess.Popen[str], question: str | None = None) -> dict[str, Any]:
    if question is not None:
        assert process.stdin
        process.stdin.write(question + "\n")
        process.stdin.flush()
    assert process.stdout
    while line := process.stdout.readline():
        if line.startswith("{"):
            return dict(json.loads(line))
    raise SystemExit("the child process died; run it by hand with --serve")


def compare(batch_size: int, rounds: int, steps: int) -> None:
    sides = {side: start(side, batch_size) for side in ("mindspore", "torch")}
    first = {side: ask(process)["first"] for side, process in sides.items()}
    answers: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, process in sides.items():
            answers[side].append(ask(process, str(steps)))
    medians = {s: [statistics.median(a["times"]) for a in found] for s, found in answers.items()}
    for side, found in medians.items():
        middle = statistics.median(found)
        print(
            f"{side:10s} {batch_size / middle:6.2f} images/s  {middle:6.3f} s/step "
            f"({min(found):.3f}-{max(found):.3f})  first step after {first[side]:.1f} s  "
            f"peak {answers[side][-1]['peak_gib']:.2f} GiB  loss {answers[side][-1]['loss']:.4f}"
        )
    ratios = [t / m for m, t in zip(medians["mindspore"], medians["torch"], strict=True)]
    print(
        f"ratio mindspore/torch in images/s: {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f}-{max(ratios):.2f}), {rounds} rounds of {steps} steps"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--serve", choices=("mindspore", "torch"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.batch_size)
    else:
        compare(arguments.batch_size, arguments.rounds, arguments.steps)
