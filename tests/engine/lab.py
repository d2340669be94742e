"""Tiny data, tiny runs, and train steps that are compiled once for all tests of a session."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from mindformers_vit import cli
from mindformers_vit.checkpoint.store import load_checkpoint
from tests.models.conftest import MAE_TINY, VIT_TINY

NORMALIZE = {
    "type": "Normalize",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "is_hwc": False,
}
CROP = [
    {"type": "RandomResizedCrop", "size": 32, "scale": [0.5, 1.0], "interpolation": "cubic"},
    {"type": "RandomHorizontalFlip", "prob": 0.5},
]
CLASSES = ("ant", "bee", "cat")
# 24 images: 6 steps of 4 for MAE, 3 steps of 2 x 4 for the classifier
MAE = {
    "seed": 0,
    "run_mode": "train",
    "context": {"device_target": "CPU"},
    "runner_config": {"epochs": 2, "batch_size": 4},
    "trainer": {"type": "masked_image_modeling"},
    "train_dataset": {
        "num_parallel_workers": 0,
        "transforms": [*CROP, {"type": "ToTensor"}, NORMALIZE],
    },
    "model": {
        "arch": {"type": "ViTMAEForPreTraining"},
        "model_config": {"type": "ViTMAEConfig", **MAE_TINY},
    },
    "lr_schedule": {"type": "cosine", "learning_rate": 1e-3, "warmup_steps": 2},
    "optimizer": {"type": "adamw", "beta1": 0.9, "beta2": 0.95, "weight_decay": 0.05},
    "callbacks": [
        {"type": "MFLossMonitor"},
        {"type": "MetricsWriter", "tensorboard": False},
        {"type": "CheckpointMonitor", "prefix": "mae"},
    ],
    "processor": {"type": "ViTMAEProcessor"},
}
# everything that draws random numbers, and everything that a step can do
VIT = {
    **MAE,
    "runner_config": {"epochs": 2, "batch_size": 4, "gradient_accumulation_steps": 2},
    "runner_wrapper": {"use_clip_grad": True, "max_grad_norm": 0.5},
    "trainer": {"type": "image_classification"},
    "train_dataset": {
        "num_parallel_workers": 0,
        "transforms": [
            *CROP,
            {"type": "rand_augment_transform", "config_str": "rand-m9-mstd0.5-inc1"},
            {"type": "ToTensor"},
            NORMALIZE,
            {"type": "RandomErasing", "probability": 0.5, "mode": "pixel"},
        ],
        "mixup_op": {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "label_smoothing": 0.1},
    },
    "eval_dataset": {"num_parallel_workers": 0, "batch_size": 8},
    "model": {
        "arch": {"type": "ViTForImageClassification"},
        "model_config": {
            "type": "ViTConfig",
            **VIT_TINY,
            "num_hidden_layers": 2,
            "num_labels": len(CLASSES),
            "drop_path_rate": 0.3,
        },
    },
    "layer_scale": True,
    "layer_decay": 0.65,
    "optimizer": {"type": "adamw", "weight_decay": 0.05},
    "ema": {"decay": 0.9},
    "callbacks": [*MAE["callbacks"][:2], {"type": "CheckpointMonitor", "prefix": "vit"}],
    "processor": {"type": "ViTProcessor"},
}


def picture(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((48, 40), Image.Resampling.BICUBIC)


def class_folders(root: Path, each: int, first_seed: int = 0) -> Path:
    """`each` JPEG files in each of the three classes."""
    for number in range(each * len(CLASSES)):
        folder = root / CLASSES[number % len(CLASSES)]
        folder.mkdir(parents=True, exist_ok=True)
        picture(first_seed + number).save(folder / f"{number:03}.jpg")
    return root


def write(path: Path, values: Mapping[str, Any]) -> Path:
    """A yaml."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values if isinstance(values, dict) else dict(values)))
    return path


def command(config: Path, output: Path, *flags: str) -> int:
    """The command line, in this process; its exit code."""
    return cli.main(["--config", str(config), "--output_dir", str(output), *flags])


def checkpoints(output: Path) -> list[Path]:
    """Training checkpoints, oldest first."""
    found = (output / "checkpoint" / "rank_0").glob("[!.]*")
    return sorted(found, key=lambda path: [int(n) for n in path.name.split("-")[1].split("_")])


def trained(output: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors (parameters, moments, averages) and state of the newest training checkpoint."""
    tensors, state, _ = load_checkpoint(checkpoints(output)[-1])
    return tensors, state


def digest(tensors: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        total.update(f"{name} {array.dtype} {array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def assert_same(first: Path, second: Path) -> None:
    """Two output directories hold the same training to the last bit."""
    (one, state), (other, other_state) = trained(first), trained(second)
    assert one.keys() == other.keys()
    differ = [name for name in one if one[name].tobytes() != other[name].tobytes()]
    assert differ == []
    assert state == other_state
    assert metrics(first) == metrics(second)
    networks = [saved_network(output) for output in (first, second)]
    assert digest(networks[0]) == digest(networks[1])


def saved_network(output: Path) -> dict[str, np.ndarray]:
    return network_in(output / "checkpoint_network" / "rank_0")


def network_in(folder: Path) -> dict[str, np.ndarray]:
    from mindformers_vit.checkpoint.weights import read_weights

    (path,) = [p for p in folder.iterdir() if p.suffix in (".ckpt", ".safetensors")]
    return read_weights(path)


def metrics(output: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what a clock says."""
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in lines]


@contextmanager
def own_process() -> Iterator[None]:
    """Undo what a run does to its process: the package's logger and MindSpore's mode."""
    logger = logging.getLogger("mindformers_vit")
    before = list(logger.handlers), logger.level, logger.propagate
    logger.handlers.clear()
    try:
        yield
    finally:
        for handler in logger.handlers:
            handler.close()
        logger.handlers[:], level, logger.propagate = before
        logger.setLevel(level)
        mindspore = sys.modules.get("mindspore")
        if mindspore is not None:
            mindspore.set_context(mode=mindspore.PYNATIVE_MODE)  # its default


# ---- compiling once, and not at all


def eager() -> None:
    """PyNative mode, where a test itself calls a network on a few images.

    In graph mode a call is compiled; if it is one of a method, each of its Cells alone.
    """
    from mindformers_vit import compat

    compat.set_device("CPU", mode=1)


_compiled: dict[str, tuple[Any, Any]] = {}  # settings -> network, TrainStep


def share_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of the same settings get the train step that the first one compiled, made as new.

    Compiling takes ten seconds, the step milliseconds. Everything else of a run stays real, and
    tests in a process of their own compare with it.
    """
    from mindformers_vit import compat
    from mindformers_vit.engine import train

    compat.set_device("CPU")  # and graph mode
    monkeypatch.setattr(train, "load_network", partial(_load_network, train.load_network))
    monkeypatch.setattr(train, "_train_step", partial(_train_step, train._train_step))


def _key(plan: Any) -> str:
    run = plan.run
    uses_scale = plan.network.compute_dtype == "float16"
    parts = [
        run.runner_wrapper.model_dump(exclude=None if uses_scale else {"scale_sense"}),
        run.optimizer.model_dump(exclude={"type"}),
        run.ema.model_dump() if run.ema else None,
        [run.layer_decay if run.layer_scale else 1.0, run.context.mode],
        [run.runner_config.batch_size, run.runner_config.gradient_accumulation_steps],
        plan.network.model_dump(exclude={"id2label", "checkpoint_name_or_path"}),
    ]
    return json.dumps(parts)


def _load_network(original: Any, plan: Any, weights: Any, network: Any = None) -> Any:
    fresh = original(plan, weights, network)
    if network is not None or _key(plan) not in _compiled:
        return fresh
    network = _compiled[_key(plan)][0]
    network.load_arrays(fresh.state_arrays())
    network.config = fresh.config
    return network


def _train_step(original: Any, plan: Any, network: Any, length: Any) -> Any:
    key = _key(plan)
    if key not in _compiled:
        _compiled[key] = network, original(plan, network, length)
    held, step = _compiled[key]
    if held is not network:
        return original(plan, network, length)
    make_new(step, plan.run.runner_wrapper.scale_sense)
    network.set_train(True)
    return step


def make_new(step: Any, scale_sense: Any = None) -> None:
    """Put a used train step into the state that its constructor makes."""
    from mindspore import ops

    from mindformers_vit.engine.loss_scale import LossScale

    sums = step._sums if step.accumulation > 1 else ()
    for param in (*step.optimizer.state().values(), *sums):
        ops.assign(param, ops.zeros_like(param))
    if step.ema is not None:
        for param, copy in zip(step.ema.params, step.ema.copies, strict=True):
            ops.assign(copy, param.value())
    if step.loss_scale is not None:
        step.loss_scale = LossScale(scale_sense)
