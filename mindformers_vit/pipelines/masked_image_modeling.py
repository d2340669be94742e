"""masked_image_modeling: hide patches of each picture and show what the network makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindformers_vit.data.rng import sample_noise
from mindformers_vit.errors import ConfigError
from mindformers_vit.pipelines.base import Batch, Pipeline, fill, make_folder, tasks
from mindformers_vit.pipelines.pictures import composite, reconstruct, to_image
from mindformers_vit.tools.image_tools import image_stem


@tasks.register("masked_image_modeling")
class MaskedImageModelingPipeline(Pipeline):
    """`pipe(images)` -> one dict a picture:

    `info` the file written ("" without output_dir), `data` the reconstruction with the visible
    patches pasted in, `reconstruction`, `masked`, `original` (PIL RGB), `mask` (L,) 1 = removed,
    `loss` of this picture. The file shows original | masked | reconstruction | pasted.

    Args:
        mask_ratio: Must be the network's own; a network is built for one ratio.
        seed: The hidden patches are a function of the seed and the position in the list.
    """

    task = "masked_image_modeling"

    def __init__(
        self,
        network: Any,
        processor: Any,
        *,
        batch_size: int = 1,
        output_dir: str | Path | None = "./output",
        save_file: str | Path | None = None,
        mask_ratio: float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            network, processor, batch_size=batch_size, output_dir=output_dir, save_file=save_file
        )
        if not hasattr(network.config, "norm_pix_loss"):
            raise ConfigError(
                f"model: {type(network).__name__} does not reconstruct images "
                "(task masked_image_modeling); give a masked autoencoder"
            )
        own = network.config.mask_ratio
        if mask_ratio is not None and mask_ratio != own:
            raise ConfigError(
                f"mask_ratio: {mask_ratio} asked for, but this network was built with {own}; "
                "give the model by name or folder, or build it with that mask_ratio"
            )
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ConfigError(f"seed: must be an integer of at least 0, not {seed!r}")
        self.seed = seed
        self._taken: set[str] = set()  # names of files, in lower case

    def __call__(self, images: Any, *, batch_size: int | None = None) -> list[dict[str, Any]]:
        names: list[str] = []
        results: list[dict[str, Any]] = []
        for batch in self.batches(images, batch_size):
            results += self.batch_results(batch)
            names += batch.names
        records = [
            {"file": name, "picture": result["info"], "loss": result["loss"]}
            for name, result in zip(names, results, strict=True)
        ]
        lines = [f"{r['file']}: loss {r['loss']:.6f} {r['picture']}".rstrip() for r in records]
        self.write(records, lines)
        return results

    def batch_results(self, batch: Batch) -> list[dict[str, Any]]:
        """The results of one batch; nothing is logged."""
        patch = self.network.config.patch_size
        height, width = batch.pixel_values.shape[2:]
        length = (height // patch) * (width // patch)
        noise = np.stack(
            [sample_noise(self.seed, 0, position, "mask", length) for position in batch.positions]
        )
        noise = fill(noise, len(batch.pixel_values))  # (B, L)
        _, pred, mask = self.run(batch.pixel_values, noise)  # (B, L, P*P*C), (B, L)
        return [
            self._result(batch.names[k], batch.pixel_values[k], pred[k], mask[k])
            for k in range(batch.count)
        ]

    def _result(
        self, name: str, pixels: NDArray[np.float32], pred: NDArray[Any], mask: NDArray[Any]
    ) -> dict[str, Any]:
        made = reconstruct(
            pixels,
            pred,
            mask,
            patch=self.network.config.patch_size,
            mean=self.processor.mean,
            std=self.processor.std,
            norm_pix_loss=self.network.config.norm_pix_loss,
        )
        shown = {
            "original": to_image(made.original),
            "masked": to_image(made.masked),
            "reconstruction": to_image(made.predicted),
            "data": to_image(made.pasted),
        }
        info = ""
        if self.output_dir is not None:
            stem = self._unique(f"{image_stem(name)}_reconstruction")
            file = make_folder(self.output_dir) / f"{stem}.png"
            composite(list(shown.values())).save(file)
            info = str(file)
        return {"info": info, **shown, "mask": mask, "loss": made.loss}

    def _unique(self, stem: str) -> str:
        """Each file name once: `cat`, `cat_2`, `cat_3` (upper and lower case are one)."""
        name, count = stem, 1
        while name.lower() in self._taken:
            count += 1
            name = f"{stem}_{count}"
        self._taken.add(name.lower())
        return name
