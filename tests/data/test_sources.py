"""Folders and label files, the good ones and each of the bad ones."""

import os
from pathlib import Path

import pytest

from mindformers_vit.data.sources import open_source
from mindformers_vit.errors import DataError
from tests.data.helpers import class_folders, picture

pytestmark = pytest.mark.fast


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    root = tmp_path / "val"
    root.mkdir()
    for number, ending in enumerate(("JPEG", "png", "jpg"), start=1):
        picture(number).save(root / f"ILSVRC2012_val_{number:08d}.{ending}")
    return root


def labels(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "val_label.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_class_folders(tmp_path):
    root = class_folders(tmp_path, {"b": 2, "a": 1, "c": 1})
    (root / "b" / "deep").mkdir()
    picture(9).save(root / "b" / "deep" / "X.JPEG")
    (root / "b" / "notes.txt").write_text("no image")
    (root / ".hidden").mkdir()
    source = open_source(root)
    assert source.classes == ("a", "b", "c")
    names = [str(Path(path).relative_to(root)) for path in source.paths]
    assert names == ["a/0.png", "b/0.png", "b/1.png", "b/deep/X.JPEG", "c/0.png"]
    assert source.labels.tolist() == [0, 1, 1, 1, 2]
    assert source.labels.dtype == "int32"


def test_class_folders_without_labels(tmp_path):
    source = open_source(class_folders(tmp_path, {"b": 2, "a": 1}), labelled=False)
    assert source.labels is None and source.classes is None
    assert len(source) == 3


def test_flat_folder_matches_by_stem(flat, tmp_path):
    lines = ["ilsvrc2012_val_00000002.jpeg 7", "ILSVRC2012_val_00000001 65", ""]
    source = open_source(flat, labels(tmp_path, *lines, "val/ILSVRC2012_val_00000003.JPEG 0"))
    assert source.labels.tolist() == [65, 7, 0]
    assert [Path(p).name[-8:] for p in source.paths] == ["001.JPEG", "0002.png", "0003.jpg"]


def test_bare_folder_is_searched_whole(flat):
    assert len(open_source(flat.parent, labelled=False)) == 3


def test_num_samples_takes_classes_in_turn_and_is_a_prefix(tmp_path):
    root = class_folders(tmp_path, {"a": 9, "b": 9, "c": 2})
    small, large = (open_source(root, num_samples=n) for n in (7, 10))
    assert small.labels.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert set(small.paths) < set(large.paths)
    assert large.paths == open_source(root, num_samples=10).paths
    assert [p[-5] for p in small.paths[:3]] != ["0", "1", "2"]  # by hash, not the first names
    assert len(open_source(root, num_samples=99)) == 20
    with pytest.raises(DataError, match="num_samples must be at least 1, given 0"):
        open_source(root, num_samples=0)


def test_folder_errors(tmp_path, flat):
    with pytest.raises(DataError, match=r"dataset_dir .*/nowhere does not exist"):
        open_source(tmp_path / "nowhere")
    file = flat / "ILSVRC2012_val_00000002.png"
    with pytest.raises(DataError, match=r"dataset_dir .*00002\.png is not a folder"):
        open_source(file)
    with pytest.raises(DataError, match=r"no class folder .*; for a flat folder give a label_file"):
        open_source(flat)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"empty holds no image; image endings known: \.jpg"):
        open_source(empty, labelled=False)


def test_empty_class_folders_are_named(tmp_path):
    root = class_folders(tmp_path, {"a": 1, "b": 0, "d": 0})
    with pytest.raises(DataError, match="2 of 3 class folders hold no image: 'b', 'd'; image end"):
        open_source(root)


def test_images_beside_class_folders_are_reported(tmp_path, caplog):
    root = class_folders(tmp_path, {"a": 1})
    picture(0).save(root / "stray.png")
    assert len(open_source(root)) == 1
    assert "1 images outside the class folders are not used" in caplog.text


def test_label_file_problems_come_together(flat, tmp_path):
    path = labels(tmp_path, "ILSVRC2012_val_00000001.JPEG 1", "other.jpg 3")
    with pytest.raises(DataError) as error:
        open_source(flat, path)
    assert "no label for 2 images: 'ILSVRC2012_val_00000002.png', 'ILSVRC" in str(error.value)
    assert f"no image in {flat} for 1 lines: 'other.jpg'" in str(error.value)


def test_label_file_lines(flat, tmp_path):
    path = labels(tmp_path, "a.jpg 1", "a.png 2", "b.jpg", "c.jpg x", "d.jpg -1")
    with pytest.raises(DataError) as error:
        open_source(flat, path)
    assert str(error.value).split("\n") == [
        f"{path}:2: 'a.png' is labelled twice, first on line 1",
        f"{path}:3: expected '<file name> <class index>', given 'b.jpg'",
        f"{path}:4: expected '<file name> <class index>', given 'c.jpg x'",
        f"{path}:5: expected '<file name> <class index>', given 'd.jpg -1'",
    ]


def test_label_file_missing_empty_and_ambiguous(flat, tmp_path):
    with pytest.raises(DataError, match=r"label file .*none\.txt cannot be read: .*No such file"):
        open_source(flat, tmp_path / "none.txt")
    with pytest.raises(DataError, match="is empty"):
        open_source(flat, labels(tmp_path))
    picture(0).save(flat / "ILSVRC2012_val_00000002.bmp")
    lines = [f"ILSVRC2012_val_{number:08d}.JPEG 0" for number in (1, 2, 3)]
    with pytest.raises(DataError, match=r"00002\.bmp' and '.*00002\.png' differ only in ending"):
        open_source(flat, labels(tmp_path, *lines))


def test_loops_of_links_end_and_count_each_image_once(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.jpg").write_bytes(b"")
    (tmp_path / "a" / "to_b").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    source = open_source(tmp_path, labelled=False)
    assert sorted(Path(p).name for p in source.paths) == ["a.jpg", "b.jpg"]


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.jpg").write_bytes(b"")
    real = os.scandir

    def scandir(path):
        if Path(path).name == "a":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match="a: the folder cannot be read: Permission denied"):
        open_source(tmp_path, labelled=False)
