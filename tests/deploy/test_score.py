"""Folders as ais_bench and ais_infer write them (made by hand) are scored, tampered ones not."""

import json

import numpy as np
import pytest

from mindformers_vit import cli
from mindformers_vit.deploy.score import score, write_score
from mindformers_vit.errors import ConfigError, DataError
from tests.deploy.lab import label_file

pytestmark = pytest.mark.fast
IMAGES, CLASSES = 21, 10
RNG = np.random.default_rng(15)
LOGITS = RNG.normal(size=(IMAGES, CLASSES)).astype(np.float32)
LABELS = [int(row.argsort()[::-1][i % 7]) for i, row in enumerate(LOGITS)]
# by the rank that the label was given, without the code under test
HITS = tuple(sum(i % 7 < k for i in range(IMAGES)) for k in range(1, 6))


def write(path, rows, kind):
    """One result, by the facts of the formats: %f and a space, NPY with its axis, bare float32."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "txt":
        path.write_text("".join("".join("%f " % x for x in row) + "\n" for row in rows))  # noqa: UP031
    elif kind == "npy":
        np.save(path, rows)
    else:
        path.write_bytes(rows.astype("<f4").tobytes())


def folder_of(root, kind, *, names, size=1, padded=True):
    """Results of files of `size` images each, the last filled up with rows of zeros."""
    for number in range(-(-IMAGES // size)):
        rows = LOGITS[number * size : (number + 1) * size]
        if padded and len(rows) < size:
            rows = np.concatenate([rows, np.zeros((size - len(rows), CLASSES), np.float32)])
        write(root / f"{names(number)}_0.{kind}", rows, kind)
    (root / "sumary.json").write_text('{"NPU_compute_time": {"mean": 1.0}}')  # the old tool's
    root.with_name(root.name + "_summary.json").write_text("{}")  # ais_bench's
    return root


def numbered(number):
    return f"input_{number:05d}"


def stem(number):
    return f"ILSVRC2012_val_{number + 1:08d}"


@pytest.fixture
def labels(tmp_path):
    return label_file(tmp_path / "val_label.txt", LABELS)


@pytest.mark.parametrize("kind", ["txt", "npy", "bin"])
@pytest.mark.parametrize(("names", "size"), [(numbered, 1), (numbered, 8), (stem, 1)])
def test_folders_of_the_three_formats(tmp_path, labels, kind, names, size):
    folder = folder_of(tmp_path / "r", kind, names=names, size=size)
    found = score(folder, label_file=labels, num_classes=CLASSES)
    assert (found.images, found.classes, found.hits) == (IMAGES, CLASSES, HITS)
    assert HITS == (3, 6, 9, 12, 15)


def test_a_last_file_without_padding(tmp_path, labels):
    folder = folder_of(tmp_path / "r", "npy", names=numbered, size=8, padded=False)
    assert score(folder, label_file=labels).hits == HITS


def test_spach_batches_by_the_order_of_the_class_folders(tmp_path):
    places = sorted((f"n{label:02d}", i) for i, label in enumerate(LABELS))
    for folder, i in places:
        path = tmp_path / "val" / folder / f"{i:03d}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert set(LABELS) == set(range(CLASSES))  # no class folder is empty
    for position, (_, i) in enumerate(places):
        write(tmp_path / "r" / f"batch-{position:05d}_0.npy", LOGITS[i : i + 1], "npy")
    found = score(tmp_path / "r", image_dir=tmp_path / "val")
    assert (found.images, found.hits) == (IMAGES, HITS)


def test_numbers_that_count_another_order(tmp_path, labels):
    """SPACH's batches count class folders, the other scripts the eight digits, in folders, too."""
    folder = folder_of(tmp_path / "r", "npy", names=lambda number: f"batch-{number:05d}")
    with pytest.raises(ConfigError, match=r"batch-00000_0.npy: its name has only a number"):
        score(folder, label_file=labels)
    for i, label in enumerate(LABELS):
        path = tmp_path / "val" / f"n{label:02d}" / f"{stem(i)}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    folder = folder_of(tmp_path / "r2", "npy", names=numbered)
    with pytest.raises(ConfigError, match=r"input_00000_0.npy: its name has only a number"):
        score(folder, image_dir=tmp_path / "val")


def test_class_folders_that_do_not_number_the_classes(tmp_path):
    for i in range(IMAGES):
        path = tmp_path / "val" / f"n{i % 3}" / f"{i:03d}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    folder = folder_of(tmp_path / "r", "npy", names=numbered)
    message = r"val: 3 class folders, but .*input_00000_0.npy has 10 classes"
    with pytest.raises(DataError, match=message):
        score(folder, image_dir=tmp_path / "val")


def prepared(tmp_path, size):
    """A manifest of inputs as `deploy preprocess` writes it."""
    names = [f"ILSVRC2012_val_{i + 1:08d}.JPEG" for i in range(IMAGES)]
    records = [
        {"name": f"{numbered(n)}.bin", "images": names[n * size : (n + 1) * size]}
        for n in range(-(-IMAGES // size))
    ]
    values = {
        "image_dir": "/images",
        "batch_size": size,
        "dtype": "float32",
        "shape": [3, 8, 8],
        "processor": {},
        "files": records,
    }
    folder = tmp_path / "inputs"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize("size", [1, 8])
def test_a_manifest_says_what_is_in_which_file(tmp_path, labels, size):
    folder = folder_of(tmp_path / "r", "npy", names=numbered, size=size)
    found = score(folder, label_file=labels, input_dir=prepared(tmp_path, size))
    assert (found.images, found.hits) == (IMAGES, HITS)


def test_the_oldest_names(tmp_path, labels):
    for i in range(IMAGES):
        write(tmp_path / "r" / f"sample_id_{i}_output_0.bin", LOGITS[i : i + 1], "bin")
    inputs = prepared(tmp_path, 1)
    found = score(tmp_path / "r", label_file=labels, input_dir=inputs, num_classes=CLASSES)
    assert found.hits == HITS
    with pytest.raises(DataError, match="its name has only a number; give --input"):
        score(tmp_path / "r", label_file=labels, num_classes=CLASSES)


def test_of_equal_logits_the_lowest_class_is_first(tmp_path):
    for i in range(2):
        write(tmp_path / "r" / f"{stem(i)}_0.txt", np.ones((1, CLASSES)), "txt")
    labels = label_file(tmp_path / "l.txt", [0, 2])
    assert score(tmp_path / "r", label_file=labels).hits == (1, 1, 2, 2, 2)


# ---- what is wrong is named


def remove(folder, path):
    path.unlink()


def twice(folder, path):
    np.save(path.with_suffix(".npy"), np.zeros((1, CLASSES)))


def cut(folder, path):
    path.write_text(path.read_text()[:20] + "\n")


def short_line(folder, path):
    path.write_text(path.read_text() + "1.0 2.0 \n")


def not_finite(folder, path):
    path.write_text("nan " * CLASSES + "\n")


def words(folder, path):
    path.write_text("one two\n")


def empty(folder, path):
    path.write_text("")


def stray(folder, path):
    (folder / "notes.log").write_text("")


def second_output(folder, path):
    path.rename(path.with_name(path.name.replace("_0.", "_1.")))


def same_number(folder, path):
    write(folder / "input_000004_0.txt", LOGITS[:1], "txt")


def too_many(folder, path):
    write(folder / f"{numbered(IMAGES)}_0.txt", LOGITS[:1], "txt")


TAMPERED = [
    (remove, "no result for number 00004"),
    (twice, "input_00004_0.txt: a second result of one input; the other is input_00004_0.npy"),
    (cut, r"input_00004_0.txt: rows of \d numbers, expected 10 classes"),
    (short_line, "input_00004_0.txt: empty, or its lines have different lengths"),
    (not_finite, "input_00004_0.txt: holds a number that is not finite"),
    (words, "input_00004_0.txt: not a table of numbers"),
    (empty, "input_00004_0.txt: empty, or"),
    (stray, "notes.log: not a result; expected <input>_0.bin, .npy or .txt"),
    (second_output, "input_00004_1.txt: output 1 given, a classifier has output 0 only"),
    (same_number, r"input_0+4_0.txt: a second result of one input; see input_0+4_0.txt"),
    (too_many, "input_00021_0.txt: .*val_label.txt has only 21 images"),
]


@pytest.mark.parametrize(("tamper", "message"), TAMPERED, ids=[t.__name__ for t, _ in TAMPERED])
def test_tampered_folders_are_refused(tmp_path, labels, tamper, message):
    folder = folder_of(tmp_path / "r", "txt", names=numbered)
    tamper(folder, folder / "input_00004_0.txt")
    with pytest.raises(DataError, match=message):
        score(folder, label_file=labels, num_classes=CLASSES)


@pytest.mark.parametrize(("size", "given"), [(1, "42 bytes"), (1, "0 bytes")])
def test_a_bin_of_the_wrong_size(tmp_path, labels, size, given):
    folder = folder_of(tmp_path / "r", "bin", names=numbered)
    (folder / "input_00002_0.bin").write_bytes(b"0" * int(given.split()[0]))
    message = f"input_00002_0.bin: {given} given, expected a multiple of 40"
    with pytest.raises(DataError, match=message):
        score(folder, label_file=labels, num_classes=CLASSES)
    with pytest.raises(DataError, match="does not say how many classes it has; give --num_classes"):
        score(folder, label_file=labels)


@pytest.mark.parametrize("kind", ["npy", "bin"])
def test_a_file_in_the_middle_with_rows_missing(tmp_path, labels, kind):
    folder = folder_of(tmp_path / "r", kind, names=numbered, size=8)
    write(folder / f"input_00001_0.{kind}", LOGITS[8:15], kind)
    with pytest.raises(DataError, match=rf"input_00001_0.{kind}: 7 rows given, expected 8"):
        score(folder, label_file=labels, num_classes=CLASSES)
    with pytest.raises(DataError, match=rf"input_00001_0.{kind}: 7 rows given, expected 8"):
        score(folder, label_file=labels, num_classes=CLASSES, input_dir=prepared(tmp_path, 8))


def test_an_image_that_the_manifest_names_twice(tmp_path, labels):
    folder = folder_of(tmp_path / "r", "npy", names=numbered, size=8)
    path = prepared(tmp_path, 8) / "manifest.json"
    path.write_text(path.read_text().replace("00000002.JPEG", "00000003.JPEG"))
    message = "input_00000_0.npy: 'ilsvrc2012_val_00000003' is in input_00000_0.npy, too"
    with pytest.raises(DataError, match=message):
        score(folder, label_file=labels, input_dir=path.parent)


def test_results_that_the_manifest_does_not_name(tmp_path, labels):
    folder = folder_of(tmp_path / "r", "npy", names=numbered)
    inputs = prepared(tmp_path, 1)
    (folder / "input_00003_0.npy").rename(folder / "input_00099_0.npy")
    with pytest.raises(DataError, match=r"input_00099_0.npy: no input of the manifest has this"):
        score(folder, label_file=labels, input_dir=inputs)
    (folder / "input_00099_0.npy").unlink()
    with pytest.raises(DataError, match="no result for input_00003_0"):
        score(folder, label_file=labels, input_dir=inputs)


def test_stems_that_are_missing_or_unknown(tmp_path, labels):
    folder = folder_of(tmp_path / "r", "npy", names=stem)
    (folder / f"{stem(3)}_0.npy").rename(folder / "ILSVRC2012_val_00000099_0.npy")
    with pytest.raises(DataError, match="no result for ilsvrc2012_val_00000004"):
        score(folder, label_file=labels)
    write(folder / f"{stem(3)}_0.npy", LOGITS[3:4], "npy")
    with pytest.raises(DataError, match="has no label for 'ILSVRC2012_val_00000099'"):
        score(folder, label_file=labels)


def test_numbers_need_an_order(tmp_path):
    folder = folder_of(tmp_path / "r", "npy", names=numbered)
    other = tmp_path / "other.txt"
    other.write_text("".join(f"cat{i}.jpg {label}\n" for i, label in enumerate(LABELS)))
    with pytest.raises(ConfigError, match=r"its name has only a number, and the names in .*other"):
        score(folder, label_file=other)


def test_a_label_that_the_head_has_not(tmp_path):
    folder = folder_of(tmp_path / "r", "npy", names=numbered)
    labels = label_file(tmp_path / "l.txt", [*LABELS[:-1], 10])
    with pytest.raises(DataError, match=r"input_00020_0.npy: 10 classes, but a label is 10"):
        score(folder, label_file=labels)


# ---- the command


def test_the_document_and_the_numbers(tmp_path, labels, capsys):
    folder = folder_of(tmp_path / "r", "txt", names=numbered, size=8)
    output = tmp_path / "result.json"
    argv = ["deploy", "score", "--result", str(folder), "--label_file", str(labels)]
    assert cli.main([*argv, "--output", str(output)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "Top1 accuracy: 14.29% (3 of 21)"
    assert json.loads(output.read_text()) == {
        "title": "Overall statistical evaluation",
        "value": [
            {"key": "Number of images", "value": "21"},
            {"key": "Number of classes", "value": "10"},
            {"key": "Top1 accuracy", "value": "14.29%"},
            {"key": "Top2 accuracy", "value": "28.57%"},
            {"key": "Top3 accuracy", "value": "42.86%"},
            {"key": "Top4 accuracy", "value": "57.14%"},
            {"key": "Top5 accuracy", "value": "71.43%"},
        ],
    }
    numbers = json.loads((tmp_path / "result_metrics.json").read_text())
    assert numbers["metrics"]["Top5 Accuracy"] == 15 / 21
    assert numbers["hits"] == {"Top1": 3, "Top2": 6, "Top3": 9, "Top4": 12, "Top5": 15}


def test_errors_end_with_exit_code_2(tmp_path, labels, capsys):
    folder = folder_of(tmp_path / "r", "txt", names=numbered)
    (folder / "input_00007_0.txt").unlink()
    output = tmp_path / "result.json"
    argv = ["deploy", "score", "--result", str(folder), "--output", str(output)]
    assert cli.main([*argv, "--label_file", str(labels)]) == 2
    assert capsys.readouterr().err.endswith("no result for number 00007\n")
    assert cli.main(argv) == 2
    assert "give either --label_file or --image_dir" in capsys.readouterr().err
    assert not output.exists()


def test_nothing_is_half_written(tmp_path, labels, monkeypatch):
    found = score(folder_of(tmp_path / "r", "npy", names=numbered), label_file=labels)
    output = tmp_path / "result.json"
    output.write_text("before")
    monkeypatch.setattr("mindformers_vit.checkpoint.files.os.write", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_score(found, output)
    assert output.read_text() == "before"
