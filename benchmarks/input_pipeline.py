"""Images per second of our Loader against a torch DataLoader with the same Pillow transforms.

    python benchmarks/input_pipeline.py [--rounds 15] [--workers 0 1 2]

400 JPEGs of 500x375, RandomResizedCrop(224, bicubic) + flip + normalise, batches of 32. The torch
side is what its users write: Image.open(path).convert("RGB"), crop, resize, flip, ToTensor,
Normalize, default collate. Both sides keep their workers over the epochs; rounds alternate, the
first epoch of each (start-up) is not counted. Bound: ratio of the medians >= 1.5 at every count of
workers. MINDFORMERS_VIT_KERNELS=0 shows what is left of it without a compiler.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from plot import keep_result
from turns import middle

from mindformers_vit.data.loader import Loader
from mindformers_vit.data.sources import open_source
from mindformers_vit.data.transforms import build_transforms

IMAGES, WIDTH, HEIGHT, BATCH, SIDE = 400, 500, 375, 32, 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TRANSFORMS = [
    {"type": "RandomCropDecodeResize", "size": SIDE, "interpolation": "cubic"},
    {"type": "RandomHorizontalFlip", "prob": 0.5},
    {"type": "ToTensor"},
    {"type": "Normalize", "mean": MEAN, "std": STD, "is_hwc": False},
]


def make_images(folder: Path) -> float:
    """Write the JPEGs in four classes: 1/f noise with edges; returns the mean size in bytes."""
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        layers: list[np.ndarray[Any, Any]] = []
        for octave in range(2, 9):
            cells = rng.normal(size=(2**octave * 3 // 4, 2**octave, 3)) * 0.72**octave
            small = [Image.fromarray(cells[..., c].astype(np.float32)) for c in range(3)]
            layers.append(np.stack([_enlarged(plane) for plane in small], axis=-1))
        field = np.sum(layers, axis=0)
        field[:, rng.integers(100, 400) :] *= -1
        pixels = np.clip(128 + 55 * field / field.std(), 0, 255).astype(np.uint8)
        path = folder / f"class{number % 4}" / f"{number:04d}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path, quality=85)
    return statistics.mean(path.stat().st_size for path in folder.rglob("*.jpg"))


def _enlarged(plane: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(plane.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


class PillowDataset(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """torchvision's ImageFolder and transforms, written out."""

    def __init__(self, folder: Path) -> None:
        self.items = [(str(p), int(p.parent.name[-1])) for p in sorted(folder.rglob("*.jpg"))]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        path, label = self.items[index]
        with open(path, "rb") as file:  # noqa: PTH123 - as torchvision's pil_loader
            image = Image.open(file).convert("RGB")
        image = image.crop(_draw_box(*image.size)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        if torch.rand(1).item() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        tensor = torch.from_numpy(np.array(image, copy=True)).permute(2, 0, 1).contiguous()
        tensor = tensor.to(torch.float32).div(255)
        mean, std = torch.tensor(MEAN).view(-1, 1, 1), torch.tensor(STD).view(-1, 1, 1)
        return tensor.sub_(mean).div_(std), label


def _draw_box(width: int, height: int) -> tuple[int, int, int, int]:
    for _ in range(10):
        area = width * height * random.uniform(0.08, 1.0)
        aspect = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = random.randint(0, width - w), random.randint(0, height - h)
            return left, top, left + w, top + h
    return 0, 0, width, height


@contextlib.contextmanager
def ours(folder: Path, workers: int) -> Iterator[Callable[[int], Any]]:
    loader = Loader(
        open_source(folder), build_transforms(TRANSFORMS), BATCH,
        seed=0, shuffle=True, drop_last=True, num_workers=workers,
    )  # fmt: skip
    with loader:
        yield loader.epoch


@contextlib.contextmanager
def theirs(folder: Path, workers: int) -> Iterator[Callable[[int], Any]]:
    loader = torch.utils.data.DataLoader(
        PillowDataset(folder), BATCH, shuffle=True, drop_last=True,
        num_workers=workers, persistent_workers=workers > 0,
    )  # fmt: skip
    yield lambda _: iter(loader)  # its workers end when the loader is collected


def images_per_second(epoch: Iterator[Any]) -> float:
    start = time.perf_counter()
    batches = sum(1 for _ in epoch)
    return batches * BATCH / (time.perf_counter() - start)


def compare(folder: Path, workers: int, rounds: int) -> tuple[list[float], list[float]]:
    """Images per second, round by round; who goes first alternates."""
    first, second = list[float](), list[float]()
    with ours(folder, workers) as mine, theirs(folder, workers) as other:
        for number in range(rounds + 1):
            turns = [(mine, first), (other, second)]
            for epoch, speeds in turns if number % 2 else reversed(turns):
                speeds.append(images_per_second(epoch(number)))
    return first[1:], second[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    torch.set_num_threads(1)  # its small operations are slower with two, much so on a busy machine
    with tempfile.TemporaryDirectory() as name:
        size = make_images(Path(name))
        print(f"{IMAGES} JPEGs of {WIDTH}x{HEIGHT}, {size / 1024:.0f} KB each; images/s")
        print(
            "workers | ours median (min-max) | torch median (min-max) | ratio (min-max of rounds)"
        )
        bars: dict[str, list[float]] = {}
        for workers in args.workers:
            mine, other = compare(Path(name), workers, args.rounds)
            ratios = [a / b for a, b in zip(mine, other, strict=True)]
            ratio = statistics.median(mine) / statistics.median(other)
            bars |= {f"this project, {workers} workers": mine}
            bars |= {f"torch DataLoader, {workers} workers": other}
            print(
                f"{workers:7d} | {middle(mine, 0)} | {middle(other, 0)} | "
                f"{ratio:.2f} ({min(ratios):.2f}-{max(ratios):.2f})",
                flush=True,
            )
    keep_result("input_pipeline", "Training images loaded, 500 x 375 to 224", "images/s", bars)


if __name__ == "__main__":
    main()
