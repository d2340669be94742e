"""What the pipelines share: pictures from anywhere, in batches of one size, through a network.

    inputs -> list_images -> load_image -> processor -> network -> one result per picture

The last batch is filled up to the full size, so that a compiled network sees one shape only.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mindformers_vit.errors import ConfigError, DataError
from mindformers_vit.registry import Registry
from mindformers_vit.tools.image_tools import image_name, list_images, load_image

Array = NDArray[Any]
logger = logging.getLogger(__name__)

tasks: Registry[type[Pipeline]] = Registry("task")


@dataclass(frozen=True)
class Batch:
    """`count` pictures with their names, and their pixels filled up to the batch size."""

    positions: list[int]  # of the pictures in the list
    names: list[str]
    pixel_values: NDArray[np.float32]  # (batch_size, C, H, W); rows from `count` on are filling

    @property
    def count(self) -> int:
        return len(self.names)


class Pipeline:
    """A network and a processor, called with pictures.

    Args:
        network: A MindSpore Cell, or any callable on arrays; its `config` describes it.
        processor: `processor([image, ...]) -> (B, C, H, W) float32`, with `mean` and `std`.
        output_dir: Where results are written; None writes nothing.
        save_file: Another place for the results' text file (its JSON twin lies beside it).
    """

    task = ""

    def __init__(
        self,
        network: Any,
        processor: Any,
        *,
        batch_size: int = 1,
        output_dir: str | Path | None = None,
        save_file: str | Path | None = None,
    ) -> None:
        self.network = network
        self.processor = processor
        self.batch_size = positive("batch_size", batch_size)
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.save_file = None if save_file is None else Path(save_file)
        self.on_bad_image: Callable[[str, DataError], None] | None = None  # None: it is raised
        if getattr(network, "config", None) is None:
            raise ConfigError(f"model: {type(network).__name__} has no config")
        if hasattr(network, "set_train"):
            network.set_train(False)

    def __call__(self, images: Any, *, batch_size: int | None = None) -> list[Any]:
        """One result for each picture; every task fills this in."""
        raise NotImplementedError

    def batches(self, images: Any, batch_size: int | None = None) -> Iterator[Batch]:
        """The pictures in batches of one size; a bad one raises DataError with its name."""
        size = self.batch_size if batch_size is None else positive("batch_size", batch_size)
        sources = list_images(_unstack(images))
        for start in range(0, len(sources), size):
            positions, names, pictures = [], [], []
            for position, source in enumerate(sources[start : start + size], start):
                name = image_name(source, f"image{position}")
                picture = self._load(source, name)
                if picture is not None:
                    positions.append(position)
                    names.append(name)
                    pictures.append(picture)
            if not pictures:
                continue
            pixels = np.ascontiguousarray(self.processor(pictures), np.float32)  # (count, C, H, W)
            if pixels.ndim != 4 or len(pixels) != len(pictures):
                raise DataError(
                    f"processor: {len(pictures)} images became an array of shape {pixels.shape}"
                )
            yield Batch(positions, names, fill(pixels, size))

    def _load(self, source: Any, name: str) -> Image.Image | None:
        """The picture; None for a bad one that `on_bad_image` has taken note of."""
        try:
            return load_image(source, name=name)
        except DataError as error:
            if self.on_bad_image is None:
                raise
            self.on_bad_image(name, error)
            return None

    def run(self, *arrays: Array) -> tuple[Array, ...]:
        """The network's outputs as arrays."""
        mindspore = sys.modules.get("mindspore")
        if mindspore is not None and isinstance(self.network, mindspore.nn.Cell):
            outputs = self.network(*(mindspore.Tensor(array) for array in arrays))
        else:
            outputs = self.network(*arrays)
        outputs = outputs if isinstance(outputs, tuple | list) else (outputs,)
        return tuple(_to_array(output) for output in outputs)

    def write(self, records: list[dict[str, Any]], lines: list[str]) -> None:
        """Log the lines of one call and write its text and JSON file, if there is a place for them.

        Args:
            records: One JSON object a picture, with its file name under `file`.
            lines: One line of text a picture.
        """
        for line in lines:
            logger.info(line)
        if self.save_file is None and self.output_dir is None:
            return
        text = self.save_file or Path(self.output_dir or ".") / f"{self.task}_result.txt"
        make_folder(text.parent)
        if text.suffix != ".json":  # a save_file that ends so must not be overwritten by its twin
            text.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        content = json.dumps(records, indent=2, ensure_ascii=False) + "\n"
        text.with_suffix(".json").write_text(content, encoding="utf-8")


def make_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"output_dir: '{folder}' cannot be made: {error}") from error
    return folder


def fill(array: Array, size: int) -> Array:
    """The rows of the array and then its last row again, up to `size` rows."""
    missing = size - len(array)
    return np.concatenate([array, array[-1:].repeat(missing, axis=0)]) if missing > 0 else array


def positive(name: str, value: int) -> int:
    """The value, or ConfigError if it is no integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name}: must be an integer of at least 1, not {value!r}")
    return value


def _unstack(images: Any) -> Any:
    """A stack of pictures (N, H, W, C) becomes a list of them."""
    if hasattr(images, "asnumpy"):
        images = images.asnumpy()
    return list(images) if isinstance(images, np.ndarray) and images.ndim == 4 else images


def _to_array(output: Any) -> Array:
    if hasattr(output, "asnumpy"):
        if str(output.dtype) == "BFloat16":
            output = output.float()
        output = output.asnumpy()
    array = np.asarray(output)
    return array.astype(np.float32) if array.dtype.kind in "fV" else array
