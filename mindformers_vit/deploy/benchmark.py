"""Images a second of an exported model, per batch size, with the spread."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindformers_vit.deploy.backends import Session, open_session
from mindformers_vit.deploy.model_manifest import ModelManifest, read_model_manifest
from mindformers_vit.errors import ConfigError

WARMUP = 2  # runs before those that count


@dataclass(frozen=True)
class Throughput:
    """Of one batch size. Images a second are batch size / latency, 1000 · bs / ms.

    Attributes:
        latency_ms: median of the runs.
        fastest_ms, slowest_ms: of the runs.
    """

    runtime: str
    batch_size: int
    runs: int
    latency_ms: float
    fastest_ms: float
    slowest_ms: float

    @property
    def images_per_second(self) -> float:
        return 1000 * self.batch_size / self.latency_ms

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"images_per_second": self.images_per_second}


def benchmark(
    models: Sequence[str | Path],
    *,
    batch_sizes: Sequence[int] = (),
    backend: str = "onnxruntime",
    loop: int = 20,
) -> list[Throughput]:
    """Time runs on random input, without reading or writing files.

    Args:
        models: exported files; one of an open batch is timed with every batch size.
        batch_sizes: for those; a model of its own size is timed with that.
        backend: "onnxruntime" or "openvino".
        loop: runs of each batch size; the sizes take turns, so that all see the same machine.

    Raises:
        ConfigError: a model of an open batch and no batch sizes, or the other way round.
    """
    cases = []
    for model in models:
        manifest = read_model_manifest(model)
        session = open_session(Path(model), manifest, backend)
        cases += [(session, _input(manifest, size)) for size in _sizes(manifest, batch_sizes)]
    times: list[list[float]] = [[] for _ in cases]
    for run in range(WARMUP + loop):
        for (session, images), own in zip(cases, times, strict=True):
            begun = time.perf_counter()
            session(images)
            if run >= WARMUP:
                own.append(1000 * (time.perf_counter() - begun))
    return [
        _throughput(session, len(images), own)
        for (session, images), own in zip(cases, times, strict=True)
    ]


def _sizes(manifest: ModelManifest, batch_sizes: Sequence[int]) -> Sequence[int]:
    own = manifest.batch_size
    if own is None:
        if not batch_sizes:
            raise ConfigError(f"{manifest.model}: its batch is open; give --batch_sizes")
        return batch_sizes
    if batch_sizes and own not in batch_sizes:
        raise ConfigError(f"{manifest.model}: takes {own} images, --batch_sizes does not name that")
    return [own]


def _input(manifest: ModelManifest, size: int) -> np.ndarray[Any, Any]:
    shape = (size, *(int(n) for n in manifest.input.shape[1:]))
    numbers = np.random.default_rng(0).integers(0, 256, shape)
    return numbers.astype(manifest.input.dtype) if manifest.pixels == "uint8" else (
        (numbers / 128 - 1).astype(np.float32)
    )  # fmt: skip


def _throughput(session: Session, size: int, times: Sequence[float]) -> Throughput:
    median, fastest, slowest = (float(f(times)) for f in (np.median, np.min, np.max))
    return Throughput(session.name, size, len(times), median, fastest, slowest)


def table(found: Sequence[Throughput]) -> str:
    """Markdown: images a second (slowest to fastest run), and the best batch size named."""
    lines = [
        "| runtime | batch size | images/s (of runs) | latency ms | runs |",
        "|---|---|---|---|---|",
    ]
    for item in found:
        slow, fast = (1000 * item.batch_size / ms for ms in (item.slowest_ms, item.fastest_ms))
        lines.append(
            f"| {item.runtime} | {item.batch_size} | {item.images_per_second:.2f} "
            f"({slow:.2f}-{fast:.2f}) | {item.latency_ms:.2f} | {item.runs} |"
        )
    best = max(found, key=lambda item: item.images_per_second)
    lines += ["", f"Best: batch size {best.batch_size}, {best.images_per_second:.2f} images/s."]
    return "\n".join(lines)
