"""The names of ImageNet-1k's classes, and whether folders are the classes of the weights."""

import pytest

from mindformers_vit.data.class_folders import check_class_folders
from mindformers_vit.data.imagenet import (
    are_imagenet_folders,
    imagenet_classes,
    imagenet_labels,
)
from mindformers_vit.errors import DataError

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


@pytest.mark.parametrize("labels", [imagenet_labels(), None])
def test_imagenets_folders_are_its_classes_whatever_they_are_called(labels):
    check_class_folders(labels, tuple(imagenet_classes()), "image_dir")


def test_folders_with_words_are_still_compared():
    ids = list(imagenet_classes())
    with pytest.raises(DataError, match=r"image_dir: class folder 0 is .*1000 of 1000 differ"):
        check_class_folders(imagenet_labels(), (*ids[:998], ids[999], ids[998]), "image_dir")


def test_a_class_too_many_or_too_few():
    labels = {0: "ant", 1: "bee"}
    with pytest.raises(DataError, match="'cat', but class 2 of the weights is 'None'"):
        check_class_folders(labels, ["ant", "bee", "cat"], "image_dir")
    with pytest.raises(DataError, match="image_dir: 1 class folders, the weights know 2"):
        check_class_folders(labels, ["ant"], "image_dir")
