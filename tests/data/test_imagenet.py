"""The names of ImageNet-1k's classes, and whether folders are its classes."""

import pytest

from mindformers_vit.data.imagenet import (
    are_imagenet_folders,
    imagenet_classes,
    imagenet_labels,
)

pytestmark = pytest.mark.fast


def test_a_thousand_classes_in_the_order_of_their_ids():
    ids = list(imagenet_classes())
    assert len(ids) == 1000
    assert ids == sorted(ids)
    assert all(i.startswith("n") and len(i) == 9 and i[1:].isdigit() for i in ids)
    # MindFormers' and the papers' examples
    assert imagenet_classes()["n11939491"] == imagenet_labels()[985] == "daisy"
    assert imagenet_labels()[281] == "tabby, tabby cat"
    assert all(words.strip() == words and words for words in imagenet_labels().values())


def test_folders():
    ids = list(imagenet_classes())
    assert are_imagenet_folders(tuple(ids))
    assert not are_imagenet_folders(ids[:999])
    assert not are_imagenet_folders([*ids[:998], ids[999], ids[998]])
