"""Label maps follow their images through the transforms, and become targets in the loader."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindformers_vit.data.augment_ops import INCREASING_OPS
from mindformers_vit.data.bad_samples import BadSamples
from mindformers_vit.data.decode import load_rgb
from mindformers_vit.data.geometry import RandomResizedCrop
from mindformers_vit.data.label_maps import LabelMaps, LabelView
from mindformers_vit.data.loader import Loader
from mindformers_vit.data.rng import epoch_order, sample_rng
from mindformers_vit.data.sources import open_source
from mindformers_vit.data.transforms import build_transforms
from mindformers_vit.errors import ConfigError, DataError
from tests.data.helpers import NORMALIZE, TRAIN, class_folders, same

pytestmark = pytest.mark.fast
GRID, SMOOTHING = (4, 4), 0.1
CROP, FLIP = TRAIN[0], TRAIN[1]
END = [{"type": "ToTensor"}, NORMALIZE]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three classes of images, and a map (2, 2, 6, 6) of each."""
    root = tmp_path_factory.mktemp("maps")
    source = open_source(class_folders(root / "images", {"a": 5, "b": 4, "c": 4}))
    rng = np.random.default_rng(0)
    for path in source.paths:
        target = (root / "maps" / Path(path).relative_to(root / "images")).with_suffix(".npy")
        target.parent.mkdir(parents=True, exist_ok=True)
        ids = np.argsort(rng.random((3, 6, 6)), 0)[:2]
        np.save(target, np.stack([rng.normal(4, 2, (2, 6, 6)), ids]).astype(np.float16))
    return root


def maps_of(root, order="straight"):
    dirs = str(root / "maps"), str(root / "images")
    return LabelMaps(*dirs, grid=GRID, num_classes=3, smoothing=SMOOTHING, order=order)


def loader(root, items, maps, workers=0, batch_size=4):
    return Loader(
        open_source(root / "images"),
        build_transforms(items),
        batch_size,
        seed=0,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        num_classes=3,
        label_smoothing=SMOOTHING,
        label_maps=maps,
    )


def dense_at(label_map, y, x):
    """Logits (3,) at a place (y, x) of the map's grid: bilinear, borders repeated, 0 outside."""
    planes = np.zeros((3, 6, 6))
    for m in range(2):
        for i, j in np.ndindex(6, 6):
            planes[int(label_map[1, m, i, j]), i, j] = label_map[0, m, i, j]
    if not (-1 <= y <= 6 and -1 <= x <= 6):
        return np.zeros(3)
    y, x = np.clip(y, 0, 5), np.clip(x, 0, 5)
    i, j = min(int(y), 4), min(int(x), 4)
    fy, fx = y - i, x - j
    top = planes[:, i, j] * (1 - fx) + planes[:, i, j + 1] * fx
    bottom = planes[:, i + 1, j] * (1 - fx) + planes[:, i + 1, j + 1] * fx
    return top * (1 - fy) + bottom * fy


def expected_targets(label_map, label, crop, flipped):
    """From the definitions: where each token's samples lie in the map that is as on the disk."""
    top, left, height, width = crop

    def cell(rows, columns, i, j):
        tall, wide = (
            int(np.ceil(round(max(n * 6, 1) / c, 6))) for n, c in ((height, rows), (width, columns))
        )
        total = np.zeros(3)
        for a, b in np.ndindex(tall, wide):
            down = (i + (a + 0.5) / tall) / rows * max(height, 1 / 6)
            right = (j + (b + 0.5) / wide) / columns * max(width, 1 / 6)
            across = left + right
            column = 5 - (across * 6 - 0.5) if flipped else across * 6 - 0.5
            total += dense_at(label_map, (top + down) * 6 - 0.5, column)
        return total / (tall * wide)

    rows = [cell(1, 1, 0, 0), *(cell(*GRID, i, j) for i, j in np.ndindex(*GRID))]
    p = np.exp(rows) / np.exp(rows).sum(-1, keepdims=True)
    off = SMOOTHING / 3
    truth = np.eye(3)[label] * (1 - SMOOTHING) + off
    return np.concatenate([truth[None], p * (1 - SMOOTHING + off) + off])


@pytest.mark.parametrize("items", [[FLIP, CROP], [CROP, FLIP]], ids=["flip first", "crop first"])
def test_targets_of_a_batch_from_their_definition(folders, items):
    source, seen = open_source(folders / "images"), set()
    crop = RandomResizedCrop(**{k: v for k, v in CROP.items() if k != "type"})
    for batch in loader(folders, [*items, *END], maps_of(folders)).epoch(3):
        assert batch["target"].shape == (4, 2 + 16, 3)
        for row, index in enumerate(batch["index"].tolist()):
            image = load_rgb(source.paths[index])
            rng = sample_rng(0, 3, index, "augment")
            if items[0] is FLIP:
                flipped = rng.random() < 0.5
                box = crop.draw_box(image.height, image.width, rng)
            else:
                box = crop.draw_box(image.height, image.width, rng)
                flipped = rng.random() < 0.5
            left, top, right, bottom = box
            if flipped and items[0] is CROP:  # where the box is in the mirrored image
                left, right = image.width - right, image.width - left
            fractions = (
                top / image.height,
                left / image.width,
                (bottom - top) / image.height,
                (right - left) / image.width,
            )
            path = Path(source.paths[index])
            label_map = np.load(folders / "maps" / path.parent.name / f"{path.stem}.npy")
            expected = expected_targets(label_map, source.labels[index], fractions, flipped)
            np.testing.assert_allclose(batch["target"][row], expected, atol=2e-6)
            seen.add(bool(flipped))
    assert seen == {False, True}


def test_the_images_are_those_without_label_maps(folders):
    """The view draws nothing: pixels are the same with it; workers and resuming change nothing."""
    items = [FLIP, TRAIN[2], CROP, *END, TRAIN[5]]
    plain = list(loader(folders, items, None).epoch(0))
    mapped = list(loader(folders, items, maps_of(folders)).epoch(0))
    for one, other in zip(plain, mapped, strict=True):
        assert np.array_equal(one["image"], other["image"])
        assert np.array_equal(one["index"], other["index"])
        assert np.array_equal(one["target"], other["target"][:, 0])  # the true label
    assert same(list(loader(folders, items, maps_of(folders)).epoch(0, 2)), mapped[2:])
    with loader(folders, items, maps_of(folders), workers=2) as several:
        assert same(list(several.epoch(0)), mapped)
    swapped = next(loader(folders, items, maps_of(folders, "reference")).epoch(0))
    assert not np.allclose(swapped["target"][:, 2:], mapped[0]["target"][:, 2:])


@pytest.mark.parametrize("op", [op for op in INCREASING_OPS if op.matrix], ids=lambda op: op.name)
def test_a_map_is_warped_as_its_image(op):
    """A map with a place a pixel is the image's own red channel, warped to the nearest."""
    pixels = np.random.default_rng(1).integers(1, 200, (24, 30, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    view = LabelView(np.stack([pixels[None, ..., 0], pixels[None, ..., 1]]).astype(np.float32))
    strength = op.strength(7.3)
    view.warp(op.matrix(image.size, strength), image.size)
    warped = np.asarray(op.apply(image, strength, (0, 0, 0), Image.Resampling.NEAREST))
    differ = warped[..., 0] != view.label_map[0, 0]
    assert differ.mean() < 0.01  # ties of rounding
    assert (warped[..., 0] != pixels[..., 0]).mean() > 0.5


def test_a_warp_after_a_crop_turns_the_crop():
    label_map = np.random.default_rng(2).normal(size=(2, 1, 20, 20)).astype(np.float32)
    view = LabelView(label_map)
    view.cut((20, 10, 60, 70), (100, 100))  # of an image of 100 x 100
    assert view.crop == pytest.approx((0.1, 0.2, 0.6, 0.4))
    view.warp((1, 0, 10, 0, 1, 0), (40, 60))  # ten pixels of the crop: two places of the map
    expected = np.zeros_like(label_map[0])
    expected[..., :18] = label_map[0][..., 2:]
    np.testing.assert_array_equal(view.label_map[0], expected)


def test_crops_of_crops_and_flips():
    view = LabelView(np.zeros((2, 1, 4, 4), np.float32))
    view.cut((10, 0, 60, 100), (100, 100))
    view.cut((25, 20, 50, 80), (50, 100))
    assert view.crop == pytest.approx((0.2, 0.35, 0.6, 0.25))
    view.flip()
    assert view.crop == pytest.approx((0.2, 0.4, 0.6, 0.25))


@pytest.mark.parametrize("dataset_dir", ["images", "."])
def test_folders_relative_to_where_one_is(dataset_dir, folders, monkeypatch):
    monkeypatch.chdir(folders / "images" if dataset_dir == "." else folders)
    maps = LabelMaps(str(folders / "maps"), dataset_dir, grid=GRID, num_classes=3)
    assert maps.missing(open_source(dataset_dir).paths) == []


def test_missing_and_damaged_maps_are_named(folders, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(folders, root)
    maps = maps_of(root)
    paths = open_source(root / "images").paths
    assert maps.missing(paths) == []
    (root / "maps" / "b" / "1.npy").unlink()
    shutil.rmtree(root / "maps" / "c")
    gone = maps.missing(paths)
    assert gone[0] == str(root / "maps" / "b" / "1.npy")
    assert len(gone) == 5
    with pytest.raises(DataError, match=r"maps/[bc]/\d\.npy: cannot be read as a label map"):
        list(loader(root, [CROP, *END], maps).epoch(0))
    for path in (root / "maps" / "a").iterdir():
        np.save(path, np.zeros((2, 6, 6)))
    order = epoch_order(0, 0, 13, shuffle=True)
    first = next(paths[i] for i in order if "/a/" in paths[i] or "/c/" in paths[i])
    first = Path(first).with_suffix(".npy").name
    with pytest.raises(DataError, match=rf"maps/[abc]/{first}: "):
        list(loader(root, [CROP, *END], maps, batch_size=1).epoch(0))


def test_bad_images_in_a_row_have_the_targets_of_the_one_that_stands_in(folders, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(folders, root)
    source = open_source(root / "images")
    for path in source.paths[:2]:
        Path(path).write_text("not an image")
    batches = Loader(
        source, build_transforms([CROP, *END]), 4, seed=0, shuffle=False, drop_last=True,
        num_workers=0, num_classes=3, label_maps=maps_of(root),
        bad_samples=BadSamples("train_dataset", 13, 2, tmp_path),
    )  # fmt: skip
    batch = next(batches.epoch(0))
    assert batch["index"].tolist() == [2, 2, 2, 3]
    assert np.array_equal(batch["target"][[0, 1]], batch["target"][[2, 2]])


def test_label_maps_do_not_go_with_mixup(folders):
    from mindformers_vit.data.mixup import Mixup

    with pytest.raises(ConfigError, match="label_maps need labels and num_classes, and go without"):
        Loader(
            open_source(folders / "images"), build_transforms([CROP, *END]), 4, seed=0,
            shuffle=True, drop_last=True, num_workers=0, label_maps=maps_of(folders),
            mixup=Mixup(num_classes=3),
        )  # fmt: skip
