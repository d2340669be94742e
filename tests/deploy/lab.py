"""Small models, folders of results and stand-in programs for the tests of deployment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from mindformers_vit.checkpoint.files import sha256
from mindformers_vit.deploy.model_manifest import manifest_path
from mindformers_vit.models.vit.vit_config import ViTConfig
from mindformers_vit.models.vit.vit_processor import ViTProcessor

CLASSES = 7
SIDE = 8


def processor() -> ViTProcessor:
    return ViTProcessor.for_network(ViTConfig(image_size=SIDE, patch_size=4))


def small_model(
    folder: Path, *, batch: int | None = None, family: str = "vit", opset: int = 11, **changes
) -> Path:
    """A linear classifier of the mean colours as an .onnx file, with a manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {"smlpnet": ("input", "output"), "beit": ("image", "class")}
    names = {**names, "lvvit": ("image", "features")}.get(family, ("image", "output"))
    rng = np.random.default_rng(3)
    weight = rng.normal(size=(CLASSES, 3)).astype(np.float32) * 40
    first = batch or "batch"
    nodes = [
        helper.make_node("ReduceMean", [names[0]], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Gemm", ["mean", "weight"], [names[1]], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(names[0], TensorProto.FLOAT, [first, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(names[1], TensorProto.FLOAT, [first, CLASSES])],
        [numpy_helper.from_array(weight, "weight")],
    )
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=6)
    path = folder / f"small_{'dynamic' if batch is None else f'bs{batch}'}.onnx"
    onnx.save_model(model, path)
    values = {
        "model": path.name,
        "export_format": "onnx",
        "family": family,
        "arch": "ViTForImageClassification",
        "num_labels": CLASSES,
        "opset": opset,
        "operators": {"Gemm": 1, "ReduceMean": 1},
        "precision": "float32",
        "pixels": "normalised",
        "input": {"name": names[0], "dtype": "float32", "shape": [first, 3, SIDE, SIDE]},
        "output": {"name": names[1], "dtype": "float32", "shape": [first, CLASSES]},
        "files": {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)}},
        "verification": None,
        "processor": processor().to_dict(),
        **changes,
    }
    manifest_path(path).write_text(json.dumps(values))
    return path


def small_logits(images: np.ndarray) -> np.ndarray:
    """What `small_model` computes."""
    weight = np.random.default_rng(3).normal(size=(CLASSES, 3)).astype(np.float32) * 40
    return images.mean((2, 3)) @ weight.T


def pictures(root: Path, count: int, *, flat: bool = False) -> Path:
    """Coloured pictures in `CLASSES` folders, or in one with ImageNet's names."""
    rng = np.random.default_rng(5)
    for number in range(count):
        folder = root if flat else root / f"class{number % CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        colour = rng.integers(0, 256, 3, dtype=np.uint8)
        pixels = np.broadcast_to(colour, (12, 10, 3)) // 2 + rng.integers(0, 120, (12, 10, 3))
        name = f"ILSVRC2012_val_{number + 1:08d}.JPEG"
        Image.fromarray(pixels.astype(np.uint8)).save(folder / name, "PNG")
    return root


def label_file(path: Path, labels: Sequence[int]) -> Path:
    """As val_label.txt."""
    names = (f"ILSVRC2012_val_{number + 1:08d}.JPEG" for number in range(len(labels)))
    path.write_text("".join(f"{n} {label}\n" for n, label in zip(names, labels, strict=True)))
    return path


def program(folder: Path, name: str, lines: str) -> Path:
    """A stand-in program: a shell script that first notes its arguments, one a line."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{folder}/{name}.arguments"\n{lines}\n')
    path.chmod(0o755)
    return path


def arguments_of(folder: Path, name: str) -> list[str]:
    """What a stand-in was called with."""
    return (folder / f"{name}.arguments").read_text().splitlines()
