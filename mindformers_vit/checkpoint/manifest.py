"""`manifest.json` of a training checkpoint: what was saved, and the size and SHA-256 of each file.

It is written last and carries its own checksum, so a directory whose manifest holds is whole.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mindformers_vit.checkpoint import files
from mindformers_vit.errors import CheckpointError

FILE_NAME = "manifest.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class FileEntry:
    """One file of the checkpoint."""

    size: int  # bytes
    sha256: str  # hexadecimal


@dataclass(frozen=True)
class Manifest:
    """Everything about a checkpoint that is known without reading its tensors."""

    epoch: int
    step: int  # within the epoch
    rank: int
    world_size: int
    best: bool  # the best one when it was saved; the newest such is never rotated away
    config_sha256: str  # of config.yaml's text
    weights: str  # name of the tensor file
    files: dict[str, FileEntry]
    format_version: int = FORMAT_VERSION

    @property
    def order(self) -> tuple[int, int]:
        """What "newer" means: later in training, whatever the clock said."""
        return self.epoch, self.step

    def render(self) -> str:
        """The text of manifest.json, with the checksum of its own content."""
        content = asdict(self)
        text = json.dumps(content, sort_keys=True)
        checksum = hashlib.sha256(text.encode()).hexdigest()
        return json.dumps({"checksum": checksum, **content}, indent=1, sort_keys=True) + "\n"


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a checkpoint directory; CheckpointError if it is missing or damaged."""
    path = directory / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8")
        manifest = _from_dict(json.loads(text))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path}: damaged: {error}") from error
    if manifest.format_version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format version {manifest.format_version}, this release reads {FORMAT_VERSION}"
        )
    if manifest.render() != text:
        raise CheckpointError(f"{path}: damaged: its checksum does not hold")
    return manifest


def check_files(directory: Path, manifest: Manifest) -> None:
    """Compare each file with the manifest, sizes first; CheckpointError names the first bad one."""
    for name, entry in manifest.files.items():
        path = directory / name
        size = path.stat().st_size if path.is_file() else None
        if size != entry.size:
            given = "missing" if size is None else f"{size} bytes"
            raise CheckpointError(f"{path}: {given}, the manifest says {entry.size} bytes")
    for name, entry in manifest.files.items():
        try:
            digest = files.sha256(directory / name)
        except OSError as error:
            raise CheckpointError(f"{directory / name}: cannot be read: {error}") from error
        if digest != entry.sha256:
            raise CheckpointError(f"{directory / name}: damaged: its SHA-256 is not the manifest's")


def _from_dict(content: dict[str, Any]) -> Manifest:
    content.pop("checksum")
    entries = {name: FileEntry(**entry) for name, entry in content.pop("files").items()}
    if any(Path(name).name != name for name in entries):
        raise ValueError("a file name leads out of the directory")
    return Manifest(files=entries, **content)
