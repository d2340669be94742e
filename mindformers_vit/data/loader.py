"""Batches for training, evaluation and prediction, from an `ImageSource` and its transforms.

A batch is a function of (source, transforms, seed, epoch, step): the number of workers, the
rank layout and where the epoch was entered change nothing. With workers, pixels are decoded in
child processes (`pool.py`) straight into shared memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from mindformers_vit.data.bad_samples import BadSamples
from mindformers_vit.data.batches import BadSample, Batch, BatchPlan, Recipe, Sample
from mindformers_vit.data.label_maps import LabelMaps
from mindformers_vit.data.mixup import Mixup
from mindformers_vit.data.pool import WorkerPool
from mindformers_vit.data.ring import Ring
from mindformers_vit.data.rng import epoch_order
from mindformers_vit.data.sampling import batch_positions, num_batches, repeated
from mindformers_vit.data.sources import ImageSource
from mindformers_vit.data.transforms import Compose
from mindformers_vit.errors import ConfigError, DataError


class Loader:
    """`len(loader)` batches an epoch on each rank; `loader.epoch(e)` iterates over them.

    Keep as many batches as you like: they are never overwritten. Use as a context manager, or
    call `close`; the worker processes live from the first epoch until then.

    Args:
        batch_size: samples in a batch of this rank.
        drop_last: True for training (every batch is full); False for evaluation (the tail is
            padded with repeats, and batches have `valid`).
        num_workers: processes that decode; 0 decodes here.
        mixup: needs labels and an even batch; brings its own label smoothing.
        num_classes: given, batches have soft `target`s; `mixup.num_classes` goes before it.
        noise_length: patches of an image, for MAE; 0 is none.
        drop_noise_length: residual branches of the network; 0 is none.
        token_grid: rows and columns of patches, for MixToken's box; None is none.
        label_maps: targets of every token instead of the image's; not with mixup.
        with_labels: None takes the labels if the source has any.
        repeated_augmentation: copies of a sample in a row, each augmented on its own.
        bad_samples: lists samples that cannot be made: in training the next good one of the source
            stands in, in evaluation the row is not `valid`. None raises DataError.

    Raises:
        ConfigError: with every setting that does not fit the others.
        DataError: too few samples for one batch, or a label outside `num_classes`.
    """

    def __init__(
        self,
        source: ImageSource,
        transforms: Compose,
        batch_size: int,
        *,
        seed: int,
        shuffle: bool,
        drop_last: bool,
        num_workers: int,
        rank: int = 0,
        world_size: int = 1,
        mixup: Mixup | None = None,
        num_classes: int | None = None,
        label_smoothing: float = 0.0,
        noise_length: int = 0,
        drop_noise_length: int = 0,
        token_grid: tuple[int, int] | None = None,
        label_maps: LabelMaps | None = None,
        with_labels: bool | None = None,
        repeated_augmentation: int = 1,
        bad_samples: BadSamples | None = None,
    ) -> None:
        labelled = source.labels is not None if with_labels is None else with_labels
        if mixup is not None and mixup.num_classes is not None:
            num_classes = mixup.num_classes
        problems = _problems(batch_size, num_workers, rank, world_size, noise_length)
        problems += _label_problems(
            source, labelled, batch_size, mixup, num_classes, label_smoothing
        )
        if label_maps is not None and (not labelled or num_classes is None or mixup is not None):
            problems.append("label_maps need labels and num_classes, and go without mixup_op")
        if problems:
            raise ConfigError(problems)
        self._source = source
        self._seed, self._shuffle = seed, shuffle
        self._rank, self._world_size, self._num_workers = rank, world_size, num_workers
        self._copies = repeated_augmentation
        self._recipe = Recipe(
            transforms=transforms,
            image_shape=transforms.output_shape(),
            batch_size=batch_size,
            seed=seed,
            labelled=labelled,
            padded=not drop_last,
            mixup=mixup,
            num_classes=num_classes if labelled else None,
            label_smoothing=label_smoothing,
            noise_length=noise_length,
            drop_noise_length=drop_noise_length,
            token_grid=token_grid,
            label_maps=label_maps,
        )
        self._bad_samples = bad_samples
        self._bad: set[int] = set()  # positions
        self._length = num_batches(len(source), batch_size * world_size, drop_last=drop_last)
        self._check_data()
        self._pool: WorkerPool | None = None
        self._ring: Ring | None = None  # not while an epoch uses it

    def __len__(self) -> int:
        return self._length

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """The batches of that epoch from `start_batch` on (to resume in the middle)."""
        if not 0 <= start_batch <= self._length:
            raise ConfigError(
                f"start_batch must be in 0..{self._length} (batches in an epoch), "
                f"given {start_batch}"
            )
        plans = self._plans(epoch, start_batch)
        if not self._num_workers:
            return self._run_here(plans)
        if self._pool is None:
            self._pool = WorkerPool(self._recipe, self._num_workers)
        return self._pool.run(plans, self._without)

    def path_of(self, index: int) -> str:
        """The file of a sample, by the `index` in its batch."""
        return self._source.paths[index]

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the workers that run now."""
        return [] if self._pool is None else self._pool.pids

    def close(self) -> None:
        """End the worker processes; safe to call twice. A later epoch starts new ones."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _plans(self, epoch: int, start_batch: int) -> Iterator[BatchPlan]:
        order = epoch_order(self._seed, epoch, len(self._source), shuffle=self._shuffle)
        order, copies = repeated(order, self._copies)
        places = np.arange(len(order))
        size, rank, world_size = self._recipe.batch_size, self._rank, self._world_size
        for step in range(start_batch, self._length):
            taken, valid = batch_positions(places, step, size, rank, world_size)
            positions, numbers = order[taken].tolist(), copies[taken].tolist()
            yield self._plan(epoch, step, positions, numbers, valid.tolist())

    def _plan(
        self,
        epoch: int,
        step: int,
        positions: list[int],
        copies: list[int],
        valid: Sequence[bool],
    ) -> BatchPlan:
        """The batch of these positions; where one is known to be bad, the next good one."""
        paths, labels = self._source.paths, self._source.labels
        good = [self._stand_in(position) for position in positions]
        samples = tuple(
            Sample(paths[i], i, -1 if labels is None else int(labels[i]), epoch, copy)
            for i, copy in zip(good, copies, strict=True)
        )
        counts = zip(valid, positions, good, strict=True)
        return BatchPlan(epoch, step, samples, tuple(v and i == j for v, i, j in counts))

    def _stand_in(self, position: int) -> int:
        while position in self._bad:
            position = (position + 1) % len(self._source)
        return position

    def _without(self, plan: BatchPlan, error: BadSample) -> BatchPlan:
        """The same batch, once its bad sample is listed."""
        if self._bad_samples is None:
            raise error
        sample = plan.samples[error.row]
        self._bad_samples.add(sample.path, str(error))
        self._bad.add(sample.index)
        positions = [sample.index for sample in plan.samples]
        copies = [sample.copy for sample in plan.samples]
        return self._plan(plan.epoch, plan.step, positions, copies, plan.valid)

    def _run_here(self, plans: Iterable[BatchPlan]) -> Iterator[Batch]:
        ring, self._ring = self._ring or Ring(self._recipe.fields(), 3, spare=2, shared=False), None
        try:
            for plan in plans:
                slot = ring.take()
                try:
                    self._fill(plan, ring.arrays(slot))
                except BaseException:
                    ring.put_back(slot)
                    raise
                yield ring.give(slot)
        finally:
            self._ring = ring  # its memory is mapped already: the next epoch starts faster

    def _fill(self, plan: BatchPlan, out: Batch) -> None:
        while True:
            try:
                return self._recipe.fill(plan, out)
            except BadSample as error:
                plan = self._without(plan, error)

    def _check_data(self) -> None:
        size, labels = len(self._source), self._source.labels
        wanted = self._recipe.batch_size * self._world_size
        if not self._length:
            raise DataError(
                f"the data set has {size} samples, fewer than one batch of {wanted} "
                f"(batch_size {self._recipe.batch_size} x {self._world_size} ranks)"
            )
        classes = self._recipe.num_classes
        if labels is not None and classes is not None and int(labels.max()) >= classes:
            at = int(labels.argmax())
            raise DataError(
                f"{self._source.paths[at]} has class {labels[at]}, "
                f"but num_classes is {classes} (classes 0..{classes - 1})"
            )


def _problems(
    batch_size: int, num_workers: int, rank: int, world_size: int, noise_length: int
) -> list[str]:
    found = []
    if batch_size < 1:
        found.append(f"batch_size must be at least 1, given {batch_size}")
    if num_workers < 0:
        found.append(f"num_parallel_workers must be 0 or more, given {num_workers}")
    if not 0 <= rank < world_size:
        found.append(f"rank must be in 0..{world_size - 1}, given {rank}")
    if noise_length < 0:
        found.append(f"noise_length must be 0 or more, given {noise_length}")
    return found


def _label_problems(
    source: ImageSource,
    labelled: bool,
    batch_size: int,
    mixup: Mixup | None,
    num_classes: int | None,
    label_smoothing: float,
) -> list[str]:
    found = []
    if labelled and source.labels is None:
        found.append("with_labels is True but the data set has no labels")
    if not 0 <= label_smoothing < 1:
        found.append(f"label_smoothing must be in [0, 1), given {label_smoothing}")
    if mixup is not None and batch_size % 2:
        found.append(f"mixup_op needs an even batch_size, given {batch_size}")
    if mixup is not None and not labelled:
        found.append("mixup_op needs a labelled data set")
    if labelled and num_classes is None and (mixup is not None or label_smoothing):
        found.append("num_classes is needed for mixup_op and label_smoothing")
    return found
