"""What a run will need, from formulas: memory of a card by part, traffic, steps, storage, files.

The formulas and how well they were met are in docs/scaling.md. Needs no MindSpore.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from importlib import import_module

from pydantic import Field

from mindformers_vit.config.schema import Positive
from mindformers_vit.config.strict import StrictModel
from mindformers_vit.engine.plan import Plan
from mindformers_vit.errors import ConfigError

_FLOAT = 4  # bytes
_PER_TOKEN_WIDTH = 14  # numbers that a block keeps for its gradient, a token and unit of width
_PER_TOKEN_HIDDEN = 6  # ... and unit of the MLP's width
_PER_ATTENTION = 1.2  # ... and entry of the attention
_PER_PIXEL = {"image_classification": 12, "masked_image_modeling": 20}  # ... and pixel of the image
_CPU_PROCESS, _CPU_BLOCK = 550 * 2**20, 40 * 2**20  # MindSpore and its compiled graph, on CPU
_IMAGENET = 1_281_167


class Cluster(StrictModel):
    """What the run is planned for."""

    servers: Positive = 1
    devices_per_server: Positive = 8
    images: Positive | None = None  # of the training set
    samples_per_second: float | None = Field(None, gt=0)  # of one device, measured

    @property
    def cards(self) -> int:
        return self.servers * self.devices_per_server


@dataclass(frozen=True)
class Blocks:
    """Equal transformer blocks."""

    depth: int
    tokens: int
    width: int
    hidden: int
    heads: int

    @property
    def kept(self) -> float:
        """Numbers that one block keeps of an image until its gradient is taken."""
        by_token = _PER_TOKEN_WIDTH * self.width + _PER_TOKEN_HIDDEN * self.hidden
        return self.tokens * by_token + _PER_ATTENTION * self.heads * self.tokens**2


@dataclass(frozen=True)
class Memory:
    """Bytes of one card, by part."""

    weights: int
    gradients: int  # and their sums, where they are accumulated
    moments: int
    average: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.moments + self.average + self.activations


def memory_of(plan: Plan, *, recompute: bool = False, shards: int = 1) -> Memory:
    """The memory of one card in float32.

    Args:
        recompute: blocks keep their input only, and are computed again for the gradient.
        shards: cards that share the moments of the optimiser.
    """
    height, width = plan.network.image_hw
    pixels = _PER_PIXEL[plan.family.task] * plan.network.num_channels * height * width
    per_image = sum(_kept_by(b, recompute) for b in blocks_of(plan)) + pixels
    held = _held(plan)
    return replace(
        held,
        moments=math.ceil(held.moments / shards),
        activations=round(_FLOAT * plan.run.runner_config.batch_size * per_image),
    )


def _held(plan: Plan) -> Memory:
    """Everything but the activations, which is known of every family."""
    everything, trained = _parameters(plan)
    return Memory(
        weights=_FLOAT * everything,
        gradients=_FLOAT * trained * min(plan.run.runner_config.gradient_accumulation_steps, 2),
        moments=_FLOAT * trained * (1 if plan.run.optimizer.type == "lars" else 2),
        average=_FLOAT * trained if plan.run.ema is not None else 0,
        activations=0,
    )


def cpu_process(plan: Plan) -> int:
    """Bytes of a process on CPU besides `memory_of`: MindSpore and the compiled graph."""
    return _CPU_PROCESS + _CPU_BLOCK * sum(blocks.depth for blocks in blocks_of(plan))


def blocks_of(plan: Plan) -> list[Blocks]:
    """The transformer blocks of the network.

    Raises:
        ConfigError: the family has none, or others than ViT's.
    """
    c = plan.network
    encoder = (c.hidden_size, getattr(c, "intermediate_size", 0))  # other families have none
    if plan.family.task == "masked_image_modeling":
        tokens, visible = c.num_patches + 1, round(c.num_patches * (1 - c.mask_ratio)) + 1
        decoder = (c.decoder_hidden_size, c.decoder_intermediate_size)
        return [
            Blocks(c.num_hidden_layers, visible, *encoder, c.num_attention_heads),
            Blocks(c.decoder_num_hidden_layers, tokens, *decoder, c.decoder_num_attention_heads),
        ]
    if plan.family.name != "vit":
        raise ConfigError(
            f"model.arch.type: no memory formula for {plan.family.arch}; there are formulas for "
            "ViTMAEForPreTraining and ViTForImageClassification"
        )
    return [Blocks(c.num_hidden_layers, c.num_patches + 1, *encoder, c.num_attention_heads)]


def _kept_by(blocks: Blocks, recompute: bool) -> float:
    if not recompute:
        return blocks.depth * blocks.kept
    return blocks.depth * blocks.tokens * blocks.width + blocks.kept


def _parameters(plan: Plan) -> tuple[int, int]:
    """Numbers in all parameters, and in those that are trained."""
    name = plan.family.name
    module = import_module(f"mindformers_vit.models.{name}.{name}_params")
    specs = module.parameter_specs(plan.network).values()
    trained = sum(math.prod(spec.shape) for spec in specs if spec.trainable)
    return sum(math.prod(spec.shape) for spec in specs), trained


def describe(plan: Plan, cluster: Cluster) -> str:
    """The forecast in words and numbers."""
    total, trained = _parameters(plan)
    heading = f"{plan.family.arch}: {total:,} parameters, {trained:,} of them trained"
    try:
        memory = _memory_lines(plan, cluster)
    except ConfigError as error:  # the rest is known all the same
        memory = [str(error)]
    return "\n".join([heading, *memory, *_run_lines(plan, cluster)])


def _memory_lines(plan: Plan, cluster: Cluster) -> list[str]:
    rows = [
        ("", memory_of(plan)),
        ("recomputation", memory_of(plan, recompute=True)),
        (f"moments on {cluster.cards} cards", memory_of(plan, shards=cluster.cards)),
        ("both", memory_of(plan, recompute=True, shards=cluster.cards)),
    ]
    names = [field.name for field in fields(Memory)] + ["total"]
    table = [f"{'':>20}" + "".join(f"{name:>13}" for name in names)]
    for title, memory in rows:
        cells = "".join(f"{getattr(memory, name) / 2**20:>13,.0f}" for name in names)
        table.append(f"{title or 'as configured':>20}{cells}")
    return [
        f"memory of a card in MiB, float32, {plan.run.runner_config.batch_size} images at a time:",
        *table,
        f"on CPU a process needs {cpu_process(plan) / 2**20:,.0f} MiB besides",
    ]


def _run_lines(plan: Plan, cluster: Cluster) -> list[str]:
    runner = plan.run.runner_config
    batch = runner.batch_size * cluster.cards * runner.gradient_accumulation_steps
    images = cluster.images or _IMAGENET
    steps = images // batch
    if steps == 0:
        raise ConfigError(f"--images: {images} given, but one update takes {batch} images")
    held = _held(plan)
    reduced = _FLOAT * _parameters(plan)[1]
    sent = round(2 * (cluster.cards - 1) / cluster.cards * reduced)
    saved = held.weights + held.moments + held.average
    return [
        f"{cluster.cards} cards ({cluster.servers} x {cluster.devices_per_server}): {batch:,} "
        f"images an update, {steps:,} updates an epoch of {images:,} images"
        f"{'' if cluster.images else ' (ImageNet-1K; --images)'}, {steps * runner.epochs:,} in all",
        f"all-reduced an update: {reduced:,} bytes of gradients; in a ring a card sends {sent:,}",
        _storage(cluster),
        f"a training checkpoint: {saved / 2**20:,.0f} MiB",
    ]


def _storage(cluster: Cluster) -> str:
    speed = cluster.samples_per_second
    if speed is None:
        return (
            f"from storage: {cluster.cards} x the images/s of one card; measure it on one card "
            "and give --samples_per_second"
        )
    return f"from storage: {cluster.cards * speed:,.0f} images/s, {speed:g} by each card"
