"""Training checkpoints that survive being killed at any moment, a full disk and a flipped bit.

    root/{prefix}_rank_0-{epoch}_{step}/
        {prefix}_rank_0-{epoch}_{step}.safetensors   parameters by name, optimizer.*, ema.*
        state.json      whatever the engine must know to go on
        config.yaml     the resolved configuration of the run
        manifest.json   sizes and SHA-256 of the three

A save is written into a hidden sibling directory, file by file forced to the disk, and appears by
one rename; only then are old ones removed. So a visible directory is whole, or it was damaged
later, which the manifest tells.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindformers_vit.checkpoint import files, manifest
from mindformers_vit.checkpoint.manifest import FileEntry, Manifest, check_files, read_manifest
from mindformers_vit.checkpoint.weights import FORMATS, Arrays, read_weights, write_weights
from mindformers_vit.errors import CheckpointError, SaveError

logger = logging.getLogger(__name__)

STATE = "state.json"
CONFIG = "config.yaml"
_ANY_NAME = re.compile(r"[^.].*_rank_\d+-\d+_\d+")


@dataclass(frozen=True)
class Checkpoint:
    """A saved checkpoint: where it is and its manifest."""

    path: Path
    manifest: Manifest


# Named here because the method `list` hides the type inside the class.
Found = list[Checkpoint | CheckpointError]
Checkpoints = list[Checkpoint]


class CheckpointStore:
    """The checkpoints of one run under `root`; rank 0 writes them for all.

    Args:
        root: directory, made by the first save.
        prefix: start of every name.
        keep_max: how many of the newest stay; the best one stays besides.
        keep_every_n_epochs: the newest one of each such epoch stays too.
        file_format: "safetensors" or "ckpt", for the tensors.
    """

    def __init__(
        self,
        root: str | Path,
        prefix: str = "mindformers",
        keep_max: int = 5,
        file_format: str = "safetensors",
        keep_every_n_epochs: int | None = None,
    ) -> None:
        if keep_max < 1:
            raise CheckpointError(f"keep_max must be at least 1, given {keep_max}")
        if file_format not in FORMATS:
            allowed = ", ".join(FORMATS)
            raise CheckpointError(f"file_format: unknown '{file_format}', allowed: {allowed}")
        self.root = Path(root)
        self.keep_max = keep_max
        self.keep_every_n_epochs = keep_every_n_epochs
        self.file_format = file_format
        self._stem = f"{prefix}_rank_0-"
        self._name = re.compile(re.escape(self._stem) + r"\d+_\d+")

    def save(
        self,
        tensors: Mapping[str, np.ndarray[Any, Any]],
        state: Mapping[str, Any],
        config_text: str,
        *,
        best: bool = False,
    ) -> Checkpoint:
        """Write a checkpoint, then remove what is beyond `keep_max`.

        Args:
            tensors: every array by name.
            state: JSON-able, with integers `epoch` and `step` (within the epoch) in it.
            config_text: of config.yaml.
            best: protect this one from removal, in place of the one protected before.

        Raises:
            SaveError: nothing was saved; the checkpoints there were are untouched.
        """
        name = f"{self._stem}{int(state['epoch'])}_{int(state['step'])}"
        target = self.root / name
        temporary = self.root / f".tmp-{name}-{os.getpid()}"
        try:
            files.make_dirs(self.root)
            self._remove_leftovers()
            files.make_dirs(temporary)
            saved = self._write(temporary, name, tensors, state, config_text, best)
            self._commit(temporary, target)
        except BaseException as error:
            files.remove_quietly(temporary)
            if not isinstance(error, OSError | TypeError | ValueError | CheckpointError):
                raise
            raise SaveError(f"{target}: the checkpoint cannot be saved: {error}") from error
        self._rotate(name)
        return Checkpoint(target, saved)

    def list(self) -> Checkpoints:
        """Checkpoints with a sound manifest, newest first; their other files are not read."""
        return [c for c in _scan(self.root, self._name) if isinstance(c, Checkpoint)]

    def latest_valid(self) -> Checkpoint | None:
        """`newest_valid` of this prefix."""
        return newest_valid(self.root, self._name)

    # ---- writing

    def _write(
        self,
        directory: Path,
        name: str,
        tensors: Mapping[str, np.ndarray[Any, Any]],
        state: Mapping[str, Any],
        config_text: str,
        best: bool,
    ) -> Manifest:
        weights = f"{name}.{self.file_format}"
        write_weights(directory / weights, tensors)
        files.write_file(directory / STATE, (json.dumps(dict(state), indent=1) + "\n").encode())
        files.write_file(directory / CONFIG, config_text.encode())
        entries = {
            n: FileEntry((directory / n).stat().st_size, files.sha256(directory / n))
            for n in (weights, STATE, CONFIG)
        }
        made = Manifest(
            epoch=int(state["epoch"]),
            step=int(state["step"]),
            rank=0,
            world_size=1,
            best=best,
            config_sha256=hashlib.sha256(config_text.encode()).hexdigest(),
            weights=weights,
            files=entries,
        )
        files.write_file(directory / manifest.FILE_NAME, made.render().encode())
        files.fsync(directory)
        return made

    def _commit(self, temporary: Path, target: Path) -> None:
        """Let the finished directory appear; one of the same step steps aside first."""
        aside = self.root / f".old-{target.name}"
        if target.exists():
            files.remove(aside)
            files.rename(target, aside)
        try:
            files.rename(temporary, target)
        except OSError:
            if aside.exists() and not target.exists():
                files.rename(aside, target)
            raise

    def _rotate(self, just_saved: str) -> None:
        """Remove what is too old. The save is done: a failure here is only logged."""
        try:
            found = self.list()
            keep = {c.path.name for c in found[: self.keep_max]} | {just_saved}
            keep.add(next((c.path.name for c in found if c.manifest.best), just_saved))
            if self.keep_every_n_epochs:
                newest = {c.manifest.epoch: c.path.name for c in reversed(found)}
                keep |= {n for e, n in newest.items() if e % self.keep_every_n_epochs == 0}
            for checkpoint in found:
                if checkpoint.path.name not in keep:
                    self._remove(checkpoint.path)
            for aside in self._hidden(".old-"):
                if (self.root / aside.name.removeprefix(".old-")).exists():
                    files.remove(aside)
        except OSError as error:
            logger.warning("%s: old checkpoints cannot be removed: %s", self.root, error)

    def _remove(self, path: Path) -> None:
        """Remove a checkpoint so that a kill in between leaves no half of it visible."""
        hidden = self.root / f".tmp-{path.name.removeprefix('.old-')}-{os.getpid()}"
        files.rename(path, hidden)
        files.remove(hidden)

    def _remove_leftovers(self) -> None:
        """Remove what a killed run left unfinished."""
        for path in self._hidden(".tmp-"):
            files.remove(path)

    # ---- looking

    def _hidden(self, start: str) -> Sequence[Path]:
        return [p for p in self.root.iterdir() if p.name.startswith(start + self._stem)]


def newest_valid(root: Path, name: re.Pattern[str] = _ANY_NAME) -> Checkpoint | None:
    """The newest checkpoint in `root` whose every byte is as saved; why others are skipped is
    logged.
    """
    for found in _scan(root, name):
        try:
            if isinstance(found, CheckpointError):
                raise found
            check_files(found.path, found.manifest)
            return found
        except CheckpointError as error:
            logger.warning("skipping a checkpoint: %s", error)
    return None


def directories_in(root: Path, pattern: re.Pattern[str] = _ANY_NAME) -> list[Path]:
    """Every directory named like a checkpoint, or set aside from such a name, by name."""
    found = []
    for path in sorted(root.iterdir()) if root.is_dir() else []:
        name = path.name.removeprefix(".old-")
        stepped_aside = name != path.name and (root / name).exists()
        if pattern.fullmatch(name) and path.is_dir() and not stepped_aside:
            found.append(path)
    return found


def _scan(root: Path, pattern: re.Pattern[str]) -> Found:
    """Every directory named like a checkpoint, newest first, or what is wrong with it."""
    sound, bad = [], []
    for path in directories_in(root, pattern):
        try:
            sound.append(Checkpoint(path, read_manifest(path)))
        except CheckpointError as error:
            bad.append(error)
    sound.sort(key=lambda c: c.manifest.order, reverse=True)
    return [*bad, *sound]


def load_checkpoint(path: str | Path) -> tuple[Arrays, dict[str, Any], str]:
    """Tensors, state, config text, every byte checked; CheckpointError if missing or damaged."""
    path = Path(path)
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such checkpoint directory")
    found = read_manifest(path)
    check_files(path, found)
    state: dict[str, Any] = json.loads((path / STATE).read_text(encoding="utf-8"))
    return read_weights(path / found.weights), state, (path / CONFIG).read_text(encoding="utf-8")
