"""Whether class folders are the classes that a network was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mindformers_vit.data.imagenet import are_imagenet_folders
from mindformers_vit.errors import DataError


def check_class_folders(
    labels: Mapping[int, str] | None, classes: Sequence[str] | None, where: str
) -> None:
    """Refuse folders that are not the classes of the weights in the same order.

    ImageNet's folders are WordNet ids where the labels of published weights are words.

    Args:
        labels: class index -> name, of the weights; None if they have no names.
        classes: names of the folders in their order; None if there are none.
        where: the setting that named the folders.

    Raises:
        DataError: it names the first class that differs.
    """
    if labels is None or classes is None or list(labels.values()) == list(classes):
        return
    if are_imagenet_folders(classes) and not set(labels.values()) & set(classes):
        return
    pairs = [(i, labels.get(i), name) for i, name in enumerate(classes) if labels.get(i) != name]
    if not pairs:
        raise DataError(f"{where}: {len(classes)} class folders, the weights know {len(labels)}")
    index, known, given = pairs[0]
    raise DataError(
        f"{where}: class folder {index} is '{given}', but class {index} of the weights is "
        f"'{known}' ({len(pairs)} of {len(classes)} differ)"
    )
