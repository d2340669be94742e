"""The shapes data set: the same files from the same seed, and no short cut through the colours."""

import importlib.util
import json
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindformers_vit.errors import ConfigError, DataError
from mindformers_vit.tools import shapes
from mindformers_vit.tools.shapes import MANIFEST, ShapesSettings, make_shapes_dataset
from mindformers_vit.tools.shapes_picture import CLASSES, SPLITS, Difficulty, render

pytestmark = pytest.mark.fast
SMALL = ShapesSettings(seed=0, image_size=32, train=26, labelled_per_class=1, val_per_class=1)


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*.jpg"))}


@pytest.fixture
def made(tmp_path):
    make_shapes_dataset(tmp_path / "d", SMALL)
    return tmp_path / "d"


def test_layout(made):
    counts = {
        split: [len(list((made / split / name).glob("*.jpg"))) for name in CLASSES]
        for split in SPLITS
    }
    assert counts == {"train": [3, 3] + [2] * 10, "train_labelled": [1] * 12, "val": [1] * 12}
    with Image.open(made / "val" / "solid_ring" / "solid_ring_000000.jpg") as image:
        assert (image.size, image.mode, image.format) == ((32, 32), "RGB", "JPEG")
    assert json.loads((made / MANIFEST).read_text())["complete"] is True


def test_neither_shape_nor_texture_alone_names_the_class():
    shapes, textures = zip(*CLASSES.values(), strict=True)
    assert {shapes.count(s) for s in shapes} == {2}
    assert {textures.count(t) for t in textures} == {3}
    assert len(set(CLASSES.values())) == 12


def test_same_seed_same_bytes_other_seed_other_pictures(made, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shapes, "WORTH_PROCESSES", 1)
        make_shapes_dataset(tmp_path / "again", SMALL)
    assert files(made) == files(tmp_path / "again")
    other = ShapesSettings(seed=1, image_size=32, train=26, labelled_per_class=1, val_per_class=1)
    make_shapes_dataset(tmp_path / "other", other)
    assert not set(files(made).values()) & set(files(tmp_path / "other").values())


def test_splits_are_disjoint(made):
    assert len(set(files(made).values())) == len(files(made))


def test_complete_set_is_reused_and_partial_set_completed(made):
    before = files(made)
    assert make_shapes_dataset(made, SMALL) == 0
    for name in (
        "train/solid_ring/solid_ring_000001.jpg",
        "val/dotted_disc/dotted_disc_000000.jpg",
    ):
        (made / name).unlink()
    manifest = json.loads((made / MANIFEST).read_text())
    (made / MANIFEST).write_text(json.dumps({**manifest, "complete": False}))
    assert make_shapes_dataset(made, SMALL) == 2
    assert files(made) == before
    assert json.loads((made / MANIFEST).read_text())["complete"] is True


def test_other_settings_are_refused_by_name(made):
    other = ShapesSettings(seed=3, image_size=32, train=26, labelled_per_class=1, val_per_class=1)
    with pytest.raises(DataError, match="seed: 0 there, 3 asked for"):
        make_shapes_dataset(made, other)


def test_strange_folders_are_refused(made, tmp_path):
    stranger = made / "train" / "solid_ring" / "mine.jpg"
    stranger.write_bytes(b"x")
    with pytest.raises(DataError, match=r"mine\.jpg.*no part of this data set"):
        make_shapes_dataset(made, SMALL)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("x")
    with pytest.raises(DataError, match="not empty"):
        make_shapes_dataset(tmp_path / "full", SMALL)
    with pytest.raises(DataError, match="is a file"):
        make_shapes_dataset(tmp_path / "full" / "a.txt", SMALL)
    (made / MANIFEST).write_text("[]")
    with pytest.raises(DataError, match="not a manifest"):
        make_shapes_dataset(made, SMALL)


def test_bad_settings_are_all_named():
    with pytest.raises(ConfigError) as caught:
        ShapesSettings(seed=-1, train=3, difficulty=Difficulty(noise=2, min_scale=0.99))
    assert [p.split(":")[0] for p in caught.value.problems] == [
        "seed", "train", "noise", "min_scale, max_scale",
    ]  # fmt: skip


def test_command_line(tmp_path, caplog):
    path = Path(__file__).parents[2] / "tools" / "make_shapes_dataset.py"
    spec = importlib.util.spec_from_file_location("make_shapes_dataset", path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    command = ["--output_dir", str(tmp_path / "d"), "--image_size", "32", "--train", "12"]
    command += ["--labelled_per_class", "1", "--val_per_class", "1"]
    assert tool.main(command) == 0
    assert len(files(tmp_path / "d")) == 36
    assert tool.main([*command, "--label_maps"]) == 0
    assert len(list((tmp_path / "d" / "label_maps" / "train").rglob("*.npy"))) == 12
    assert tool.main([*command, "--seed", "5"]) == 2
    assert "seed: 0 there, 5 asked for" in caplog.text


def test_fast_enough():
    start = time.process_time()
    for index in range(100):
        render(0, "train", "striped_ring", index, 64, Difficulty())
    assert 100 / (time.process_time() - start) >= 400


def histograms(split: str, per_class: int, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Square roots of colour histograms (pictures, bins^3), and labels."""
    rows, labels = [], []
    for label, name in enumerate(CLASSES):
        for index in range(per_class):
            pixels = render(0, split, name, index, 64, Difficulty()).reshape(-1, 3)
            cells = (pixels // (256 // bins)) @ np.array([bins * bins, bins, 1])
            rows.append(np.sqrt(np.bincount(cells, minlength=bins**3) / len(cells)))
            labels.append(label)
    return np.array(rows), np.array(labels)


def test_colour_alone_stays_near_chance():
    """Nearest mean and logistic regression on colour histograms, at most 2.5 times chance."""
    train, labels = histograms("train", 100, bins=4)
    val, truth = histograms("val", 25, bins=4)
    means = np.stack([train[labels == k].mean(0) for k in range(12)])
    nearest = ((val[:, None] - means) ** 2).sum(-1).argmin(1)
    assert (nearest == truth).mean() <= 2.5 / 12
    centre, spread = train.mean(0), train.std(0) + 1e-3
    train, val = (train - centre) / spread, (val - centre) / spread
    weight, bias, goal = np.zeros((train.shape[1], 12)), np.zeros(12), np.eye(12)[labels]
    for _ in range(400):
        scores = np.exp(train @ weight + bias)
        error = (scores / scores.sum(1, keepdims=True) - goal) / len(train)
        weight -= 0.5 * (train.T @ error + 1e-3 * weight)
        bias -= 0.5 * error.sum(0)
    assert ((train @ weight + bias).argmax(1) == labels).mean() > 0.15  # it did learn its own data
    assert ((val @ weight + bias).argmax(1) == truth).mean() <= 2.5 / 12
