"""`models`: what there is, how large it is, and where its weights are. No MindSpore here."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from mindformers_vit.models.cost import multiply_adds, parameters_of
from mindformers_vit.models.layers.parameters import count
from mindformers_vit.models.published import PUBLISHED
from mindformers_vit.models.sources import find_source
from mindformers_vit.registry import ModelFamily, families

# top-1 on ImageNet-1k, in per cent, as the publisher of the weights states it
TOP1 = {
    "vit_base_p16": 83.664, "vit_large_p16": 85.952, "vit_huge_p14": 86.928,
    "beit_base_p16_224": 85.2, "beit_base_p16_384": 86.82, "beit_large_p16_224": 87.396,
    "beit_large_p16_384": 88.408, "beit_large_p16_512": 88.6,
    "lvvit_t": 79.1, "lvvit_s": 83.3, "lvvit_s_384": 84.4, "lvvit_m": 84.0, "lvvit_m_384": 85.4,
    "lvvit_m_448": 85.5, "lvvit_l_448": 86.2, "lvvit_l_512": 86.4,
    "smlpnet_tiny": 81.25, "smlpnet_small": 83.1, "smlpnet_base": 83.4,
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One model name."""

    name: str
    parameters: int
    multiply_adds: int  # of one image
    pixels: tuple[int, int]
    top1: float | None
    weights: str

    def line(self) -> str:
        height, width = self.pixels
        size = str(height) if height == width else f"{height}x{width}"
        top1 = "-" if self.top1 is None else f"{self.top1:.1f}"
        return (
            f"  {self.name:<18} {_short(self.parameters):>6} {_short(self.multiply_adds):>6} "
            f"{size:>4} {top1:>5}  {self.weights}"
        )


def entries(family: ModelFamily) -> Iterator[Entry]:
    """A family's models; where weights lie is seen from the working directory."""
    for name, settings in family.variants.items():
        config = family.config_class(**settings)
        specs = parameters_of(family, config)
        yield Entry(
            name,
            count(specs, trainable_only=True),
            multiply_adds(family, config),
            config.image_hw,
            TOP1.get(name),
            _weights(name),
        )


def _weights(name: str) -> str:
    here = find_source(name).weights
    if here is not None:
        return str(here)
    if name not in PUBLISHED:
        return "none published"
    published = PUBLISHED[name]
    host = ".".join(urlsplit(published.url).netloc.split(".")[-2:])
    return f"{host}, {published.licence}"


def _short(number: int) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.{1 if number < 100 * size else 0}f} {letter}"
    return str(number)


def parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog="mindformers-vit models",
        description="The models that a yaml, AutoModel and pipeline know by name: parameters, "
        "multiply-adds of one image, resolution, published top-1 on ImageNet-1k, weights.",
        epilog="Weights are fetched when a run or from_pretrained first needs them.",
    )


def main(argv: list[str]) -> int:
    """Print the list."""
    parser().parse_args(argv)
    for family in families():
        print(f"{family.name}  ({family.task}, {family.arch})")
        print(f"  {'name':<18} {'params':>6} {'MACs':>6} {'px':>4} {'top-1':>5}  weights")
        for entry in entries(family):
            print(entry.line())
        print()
    return 0
