"""ViT-B/16 as this project exports it, beside Hugging Face's as torch exports it, in ONNX Runtime.

    pip install -r requirements-test.txt "transformers==4.57.6"
    python benchmarks/onnx_speed.py --batch_sizes 1 8 --rounds 15

Both files run in one process, in turn, so that a drift of the machine meets both; the ratio is
taken round by round. On a machine with other work, `--threads 1` and processor time say more:
several threads also wait for each other. Nodes are counted as the exporters write them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mindformers_vit.deploy.session import OnnxSession


def ours(folder: Path, batch_size: int, opset: int) -> Path:
    from mindformers_vit import AutoModel, compat
    from mindformers_vit.deploy.onnx_export.trace import GraphOptions, trace

    compat.set_device("CPU")
    network = AutoModel.from_config("vit_base_p16")
    path = folder / f"ours_{batch_size}.onnx"
    onnx.save_model(trace(network, GraphOptions(opset=opset, batch_size=batch_size)), path)
    return path


def hugging_face(folder: Path, batch_size: int, opset: int) -> Path:
    import torch
    from transformers import ViTConfig, ViTForImageClassification

    network = ViTForImageClassification(ViTConfig(num_labels=1000)).eval()
    path = folder / f"hugging_face_{batch_size}.onnx"
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        images = torch.zeros(batch_size, 3, 224, 224)
        torch.onnx.export(network, (images,), path, opset_version=opset, dynamo=False)
    return path


def compare(folder: Path, batch_size: int, opset: int, rounds: int, threads: int) -> None:
    files = {make.__name__: make(folder, batch_size, opset) for make in (ours, hugging_face)}
    sessions = {name: OnnxSession(path, threads) for name, path in files.items()}
    images = np.random.default_rng(0).normal(size=(batch_size, 3, 224, 224)).astype(np.float32)
    runs = max(1, 4 // batch_size)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sessions}
    for number in range(rounds + 1):
        for name, session in sessions.items():
            both = timed(session, images, runs)
            if number:  # the first round warms up
                times[name].append(both)
    for name, found in times.items():
        speeds = [batch_size / seconds for seconds, _ in found]
        nodes = len(onnx.load(files[name]).graph.node)
        print(
            f"batch {batch_size}  opset {opset}  {name:13s} {statistics.median(speeds):6.2f} "
            f"images/s ({min(speeds):.2f}-{max(speeds):.2f})  {nodes} nodes"
        )
    for kind, clock in enumerate(("wall clock", "processor time")):
        pairs = zip(times["ours"], times["hugging_face"], strict=True)
        ratios = [theirs[kind] / own[kind] for own, theirs in pairs]
        print(
            f"batch {batch_size}  opset {opset}  {clock} ratio {statistics.median(ratios):.3f} "
            f"({min(ratios):.3f}-{max(ratios):.3f}) over {rounds} rounds of {runs} runs"
        )


def timed(session: Any, images: np.ndarray[Any, Any], runs: int) -> tuple[float, float]:
    """Seconds of a run by the clock and of the processor, the means of some."""
    begun, used = time.perf_counter(), time.process_time()
    for _ in range(runs):
        session(images)
    return (time.perf_counter() - begun) / runs, (time.process_time() - used) / runs


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--opset", type=int, default=17)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=0, help="0: one a core")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        for size in arguments.batch_sizes:
            compare(Path(made), size, arguments.opset, arguments.rounds, arguments.threads)
