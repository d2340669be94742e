"""What is compared, each in a process of its own.

    python benchmarks/sides.py WORK SIDE [BATCH [IMAGE [DEPTH]]]

A line with a number in, so many turns, a line of JSON out. `turns.py` starts them.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
PRODUCT = 2048  # rows, columns and depth of the product that measures the machine
Turn = Callable[[], float]


class Size(NamedTuple):
    """Images of a turn, pixels of their side, blocks of the encoder."""

    batch: int = 8
    image: int = 224
    depth: int = 12

    def images(self) -> tuple[int, int, int, int]:
        """Their shape (B, 3, H, W)."""
        return self.batch, 3, self.image, self.image


BASE = Size()


def _prepare(side: str) -> None:
    """This project: "ours", "ours plain" (MindSpore's operators) or "ours bf16"."""
    os.environ["MINDFORMERS_VIT_KERNELS"] = "0" if side == "ours plain" else "1"
    sys.path.insert(0, str(REPOSITORY))
    from mindformers_vit import compat
    from mindformers_vit.kernels import library

    compat.set_device("CPU")
    library.choose_matmul("bf16" if side == "ours bf16" else "fp32")


def our_train_step(side: str, size: Size) -> Turn:
    """One step of MAE ViT-B/16 by this project's compiled train step."""
    _prepare(side)
    from mindformers_vit import AutoModel
    from mindformers_vit.engine.train_step import PretrainForward, TrainStep
    from mindformers_vit.models.mae.mae_config import ViTMAEConfig
    from mindformers_vit.optim.adamw import AdamW
    from mindformers_vit.optim.groups import parameter_rules

    config = ViTMAEConfig(image_size=size.image, num_hidden_layers=size.depth)
    network: Any = AutoModel.from_config(config)
    params = network.trainable_params()
    rules = parameter_rules({p.name: tuple(p.shape) for p in params}, weight_decay=0.05)
    step = TrainStep(PretrainForward(network), AdamW(params, rules, betas=(0.9, 0.95)))
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.normal(size=size.images()).astype(np.float32),
        "noise": rng.random((size.batch, config.num_patches), np.float32),
    }
    return lambda: float(step([batch], 1e-4)["loss"])


def torch_train_step(side: str, size: Size) -> Turn:
    """One step of Hugging Face's network with torch's AdamW; compiled and bf16 as `side` says."""
    import torch
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    torch.manual_seed(0)
    config = ViTMAEConfig(norm_pix_loss=True, image_size=size.image, num_hidden_layers=size.depth)
    network = ViTMAEForPreTraining(config).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, (0.9, 0.95), weight_decay=0.05)
    images = torch.randn(size.images())
    forward: Any = torch.compile(network) if "compiled" in side else network

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled="bf16" in side):
            loss = forward(images).loss
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def our_forward(side: str, size: Size) -> Turn:
    """ViT-B/16's logits by this project."""
    _prepare(side)
    import mindspore as ms

    from mindformers_vit import AutoModel, compat

    network: Any = AutoModel.from_pretrained("vit_base_p16", download_checkpoint=False)
    network.set_train(False)
    forward = compat.jit(network)
    images = ms.Tensor(np.ones(size.images(), np.float32))
    return lambda: float(forward(images).asnumpy()[0, 0])


def _torch_vit() -> Any:
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(ViTConfig(num_labels=1000)).eval()


def torch_forward(side: str, size: Size) -> Turn:
    """The same network of Hugging Face in torch."""
    import torch

    network = _torch_vit()
    forward: Any = torch.compile(network) if "compiled" in side else network
    images = torch.ones(size.images())

    def turn() -> float:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, "bf16" in side):
            return float(forward(images).logits[0, 0])

    return turn


def onnx_forward(side: str, size: Size) -> Turn:
    """The same network in ONNX Runtime, exported by torch."""
    import onnxruntime
    import torch

    images = torch.ones(size.images())
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "vit.onnx")
        torch.onnx.export(_torch_vit(), (images,), path, dynamo=False)
        session = onnxruntime.InferenceSession(path)
    feed = {session.get_inputs()[0].name: images.numpy()}
    return lambda: float(session.run(None, feed)[0][0, 0])


def our_product(side: str, size: Size) -> Turn:
    """A square product by the compiled kernel, whatever the size of images."""
    _prepare(side)
    import mindspore as ms

    from mindformers_vit import compat
    from mindformers_vit.kernels import cells

    product = compat.jit(cells.made(cells.MatMul))
    a = ms.Tensor(np.random.default_rng(0).random((PRODUCT, PRODUCT), np.float32))
    return lambda: float(product(a, a).asnumpy()[0, 0])


def torch_product(side: str, size: Size) -> Turn:
    """The same by torch, of bf16 matrices where `side` says so."""
    import torch

    a = torch.rand(PRODUCT, PRODUCT).to(torch.bfloat16 if "bf16" in side else torch.float32)
    return lambda: float(torch.mm(a, a)[0, 0])


OURS = ("ours", "ours plain", "ours bf16")
TORCH = ("torch", "torch compiled", "torch bf16", "torch bf16 compiled")
WORK: dict[str, dict[str, Callable[[str, Size], Turn]]] = {
    "gemm": {
        **dict.fromkeys(("ours", "ours bf16"), our_product),
        **dict.fromkeys(("torch", "torch bf16"), torch_product),
    },
    "train": {
        **dict.fromkeys(OURS, our_train_step),
        **dict.fromkeys(TORCH, torch_train_step),
    },
    "forward": {
        **dict.fromkeys(OURS, our_forward),
        **dict.fromkeys(TORCH, torch_forward),
        "onnxruntime": onnx_forward,
    },
}


def serve(work: str, side: str, size: Size) -> None:
    """Answer until the input ends."""
    start = time.perf_counter()
    turn = WORK[work][side](side, size)
    turn()
    print(json.dumps({"first": time.perf_counter() - start}), flush=True)
    for line in sys.stdin:
        times, cpu = list[float](), time.process_time()
        for _ in range(int(line)):
            start = time.perf_counter()
            result = turn()
            times.append(time.perf_counter() - start)
        cpu = (time.process_time() - cpu) / int(line)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        answer = {"times": times, "cpu": cpu, "result": result, "peak_gib": peak}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], Size(*map(int, sys.argv[3:])))
