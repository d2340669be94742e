"""Images to the input files of a run, by the model's own processor, and what is in which file."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from mindformers_vit.checkpoint import files
from mindformers_vit.config.strict import StrictModel
from mindformers_vit.data.loader import Loader
from mindformers_vit.data.sources import ImageSource, open_source
from mindformers_vit.deploy.formats import Array, base_of, numbered_name
from mindformers_vit.deploy.model_manifest import Pixels, parsed
from mindformers_vit.errors import ConfigError, DataError

MANIFEST = "manifest.json"
Naming = Literal["number", "stem"]


class InputRecord(StrictModel):
    """One input file: the images in it, by their path below the image folder."""

    name: str
    images: tuple[str, ...]


class InputManifest(StrictModel):
    """What a folder of input files holds. Files may end in padding: rows that are no image."""

    format_version: Literal[1] = 1
    image_dir: str
    batch_size: int  # images and padding of each file
    dtype: Literal["float32", "uint8"]
    shape: tuple[int, int, int]
    processor: dict[str, Any]
    id2label: dict[int, str] | None = None  # the model's, to be compared with class folders
    files: tuple[InputRecord, ...]

    @property
    def num_images(self) -> int:
        return sum(len(record.images) for record in self.files)


def preprocess(
    processor: Any,
    image_dir: str | Path,
    output_dir: str | Path,
    *,
    batch_size: int = 1,
    naming: Naming = "number",
    pixels: Pixels = "normalised",
    num_workers: int = 0,
    num_samples: int | None = None,
    id2label: dict[int, str] | None = None,
) -> InputManifest:
    """Write every image below a folder, once, into input files with a manifest, or no folder.

    Args:
        processor: of the model.
        image_dir: searched whole; the order is that of the paths.
        output_dir: new or empty.
        batch_size: images of a file; the last file is filled up with zeros.
        naming: "number" (input_00000.bin) or "stem" (the image's own name, batch size 1).
        pixels: "normalised" float32, or "uint8" for a model that normalises itself.
        num_workers: processes that decode; 0: this one.
        num_samples: only so many images, evenly chosen.
        id2label: names of the model's classes, for the manifest.

    Raises:
        ConfigError: the folder is not empty, or the settings do not fit together.
        DataError: an image cannot be read, or two have the same name.
    """
    source = _open(Path(image_dir), num_samples)
    names = _names(source, batch_size, naming)
    loader = Loader(
        source, processor.transforms, batch_size, seed=0, shuffle=False, drop_last=False,
        num_workers=num_workers, with_labels=False,
    )  # fmt: skip
    with finished_folder(Path(output_dir)) as folder, closing(loader):
        manifest = InputManifest(
            image_dir=str(Path(image_dir).absolute()),
            batch_size=batch_size,
            dtype="float32" if pixels == "normalised" else "uint8",
            shape=processor.transforms.output_shape(),
            processor=processor.to_dict(),
            id2label=id2label,
            files=_write(loader, source, processor, Path(image_dir), folder, names, pixels),
        )
        text = json.dumps(manifest.model_dump(mode="json"), indent=1) + "\n"
        files.write_file(folder / MANIFEST, text.encode())
    return manifest


@contextmanager
def finished_folder(path: Path) -> Iterator[Path]:
    """A folder to write to that gets its name when the block ends well, and else is removed."""
    if path.is_dir() and any(path.iterdir()):
        raise ConfigError(f"{path}: not empty; give a new folder, so that nothing old is scored")
    files.make_dirs(path.parent)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    files.remove(temporary)
    temporary.mkdir()
    try:
        yield temporary
        files.rename(temporary, path)
    except BaseException:
        files.remove_quietly(temporary)
        raise


def _open(image_dir: Path, num_samples: int | None) -> ImageSource:
    has_folders = image_dir.is_dir() and any(
        path.is_dir() for path in image_dir.iterdir() if not path.name.startswith(".")
    )
    return open_source(image_dir, labelled=has_folders, num_samples=num_samples)


def _names(source: ImageSource, batch_size: int, naming: Naming) -> list[str]:
    if naming == "number":
        return [numbered_name(number) for number in range(-(-len(source) // batch_size))]
    if batch_size != 1:
        raise ConfigError(f"naming 'stem' needs batch size 1, given {batch_size}")
    names = [f"{base_of(Path(path).name)}.bin" for path in source.paths]
    for name, count in Counter(names).items():
        if count > 1:
            same = [path for path, own in zip(source.paths, names, strict=True) if own == name]
            raise DataError(f"{same[0]} and {same[1]} would both become {name}; use naming number")
    return names


def _write(
    loader: Loader,
    source: ImageSource,
    processor: Any,
    image_dir: Path,
    folder: Path,
    names: Sequence[str],
    pixels: Pixels,
) -> tuple[InputRecord, ...]:
    found = []
    for batch, name in zip(
        tqdm(loader.epoch(0), total=len(names), unit="file", disable=None), names, strict=True
    ):
        valid = batch["valid"]
        images: Array = np.where(valid[:, None, None, None], batch["image"], np.float32(0))
        if pixels == "uint8":
            images = to_pixels(images, processor)
        path = folder / name
        path.write_bytes(images.tobytes())
        paths = [Path(source.paths[i]) for i in batch["index"][valid].tolist()]
        below = tuple(path.relative_to(image_dir).as_posix() for path in paths)
        found.append(InputRecord(name=name, images=below))
    return tuple(found)


def to_pixels(images: Array, processor: Any) -> Array:
    """Normalised images (N, 3, H, W) back as the uint8 pixels that they were made of."""
    std, mean = (np.array(v).reshape(1, -1, 1, 1) for v in (processor.std, processor.mean))
    pixels: Array = np.rint((images * std + mean) * 255).clip(0, 255).astype(np.uint8)
    return pixels


def read_input_manifest(folder: str | Path) -> InputManifest | None:
    """The manifest of a folder of input files, None if it has none; ConfigError if it is bad."""
    path = Path(folder) / MANIFEST
    return parsed(InputManifest, path) if path.is_file() else None
