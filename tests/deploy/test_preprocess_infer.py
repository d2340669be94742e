"""Images to input files to results: nothing is lost, doubled, or of the wrong size."""

import json
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from mindformers_vit import cli
from mindformers_vit.deploy.benchmark import Throughput, benchmark, table
from mindformers_vit.deploy.formats import input_files, natural_key
from mindformers_vit.deploy.infer import infer
from mindformers_vit.deploy.model_manifest import manifest_path, read_model_manifest
from mindformers_vit.deploy.preprocess import preprocess, read_input_manifest
from mindformers_vit.deploy.score import score
from mindformers_vit.errors import ConfigError, DataError
from tests.deploy import lab
from tests.deploy.lab import CLASSES, SIDE, label_file, pictures, processor, small_model

pytestmark = pytest.mark.fast
COUNT = 19
ONE = 3 * SIDE * SIDE * 4


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return pictures(tmp_path_factory.mktemp("images") / "val", COUNT)


@pytest.fixture(scope="module")
def expected(images):
    """Every image through the processor itself and the classifier's arithmetic."""
    paths = sorted(images.rglob("*.JPEG"))
    return paths, processor()(paths)


def prepare(images, folder, **settings):
    return preprocess(processor(), images, folder, **settings)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_bins_are_the_processors_tensors(images, expected, tmp_path, workers):
    paths, tensors = expected
    made = prepare(images, tmp_path / "in", batch_size=8, num_workers=workers)
    assert [r.name for r in made.files] == [f"input_{n:05d}.bin" for n in range(3)]
    below = [path.relative_to(images).as_posix() for path in paths]
    assert [name for record in made.files for name in record.images] == below
    whole = np.concatenate(
        [np.fromfile(tmp_path / "in" / r.name, "<f4").reshape(8, 3, SIDE, SIDE) for r in made.files]
    )
    np.testing.assert_array_equal(whole[:COUNT], tensors)
    assert not whole[COUNT:].any()
    assert (tmp_path / "in" / "input_00002.bin").stat().st_size == 8 * ONE
    assert read_input_manifest(tmp_path / "in") == made
    assert made.num_images == COUNT


def test_names_of_the_images(images, tmp_path):
    made = prepare(images, tmp_path / "in", naming="stem", num_samples=5)
    assert len(made.files) == 5
    for record in made.files:
        (image,) = record.images
        assert record.name == image.partition("/")[2].replace(".JPEG", ".bin")
        assert (tmp_path / "in" / record.name).stat().st_size == ONE


def test_pixels_for_a_model_that_normalises(images, expected, tmp_path):
    _, tensors = expected
    made = prepare(images, tmp_path / "in", pixels="uint8")
    assert made.dtype == "uint8"
    pixels = np.fromfile(tmp_path / "in" / made.files[4].name, np.uint8).reshape(3, SIDE, SIDE)
    mean, std = (np.array(v).reshape(3, 1, 1) for v in (processor().mean, processor().std))
    np.testing.assert_allclose((pixels / 255 - mean) / std, tensors[4], atol=1e-6)


def test_what_preprocess_refuses(images, tmp_path):
    with pytest.raises(ConfigError, match="naming 'stem' needs batch size 1, given 4"):
        prepare(images, tmp_path / "in", naming="stem", batch_size=4)
    twin = pictures(tmp_path / "twins", 3)
    copy = next(twin.rglob("*.JPEG"))
    (twin / "class9").mkdir()
    (twin / "class9" / copy.name).write_bytes(copy.read_bytes())
    with pytest.raises(DataError, match=r"would both become ILSVRC2012_val_\d+.bin; use naming"):
        prepare(twin, tmp_path / "in", naming="stem")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "old.bin").touch()
    with pytest.raises(ConfigError, match="not empty; give a new folder"):
        prepare(images, tmp_path / "in")
    (twin / "class0" / "broken.JPEG").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken.JPEG: cannot be read as an image"):
        prepare(twin, tmp_path / "new")
    assert not list(tmp_path.glob("*new*"))


# ---- infer


@pytest.mark.parametrize("outfmt", ["BIN", "NPY", "TXT"])
@pytest.mark.parametrize(("batch", "files"), [(None, 1), (8, 1), (8, 8), (None, 8)])
def test_results_are_the_logits_of_every_input(images, expected, tmp_path, outfmt, batch, files):
    _, tensors = expected
    prepare(images, tmp_path / "in", batch_size=files)
    model = small_model(tmp_path / "m", batch=batch)
    folder = infer(model, tmp_path / "in", tmp_path, output_dirname="r", outfmt=outfmt)
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"input_{n:05d}_0.{outfmt.lower()}" for n in range(-(-COUNT // files))]
    rows = []
    for path in sorted(folder.iterdir()):
        if outfmt == "TXT":
            lines = path.read_text().split("\n")
            assert lines.pop() == "" and all(line.endswith(" ") for line in lines)
            rows += [[float(x) for x in line[:-1].split(" ")] for line in lines]
            continue
        array = np.load(path) if outfmt == "NPY" else np.fromfile(path, "<f4")
        assert array.dtype == np.float32
        rows += list(array.reshape(files, CLASSES))
    wanted = lab.small_logits(tensors)
    np.testing.assert_allclose(np.array(rows)[:COUNT], wanted, atol=1e-4)
    summary = json.loads((tmp_path / "r_summary.json").read_text())
    assert len(summary["filesinfo"]) == len(names)
    assert summary["filesinfo"]["0"] == {
        "infiles": [str(tmp_path / "in" / "input_00000.bin")],
        "outfiles": [str(folder / names[0])],
    }
    size = max(batch or 1, files)
    assert summary["throughput"] == 1000 * size / summary["NPU_compute_time"]["mean"]
    assert set(summary["NPU_compute_time"]) == {"min", "max", "mean", "median", "percentile(99%)"}


def test_from_images_to_a_score(images, expected, tmp_path):
    paths, tensors = expected
    labels = [int(path.parent.name[-1]) for path in paths]
    wanted = lab.small_logits(tensors)
    hits = sum(int(row.argmax()) == label for row, label in zip(wanted, labels, strict=True))
    prepare(images, tmp_path / "in", batch_size=8)
    folder = infer(small_model(tmp_path / "m"), tmp_path / "in", tmp_path / "out")
    found = score(folder, image_dir=images, input_dir=tmp_path / "in")
    assert (found.images, found.hits[0]) == (COUNT, hits)
    assert folder.parent == tmp_path / "out"
    assert re.fullmatch(r"\d{4}_\d\d_\d\d-\d\d_\d\d_\d\d", folder.name)


def test_stems_need_no_manifest(tmp_path):
    flat = pictures(tmp_path / "val", 6, flat=True)
    prepare(flat, tmp_path / "in", naming="stem")
    model = small_model(tmp_path / "m", batch=4)
    folder = infer(model, tmp_path / "in", tmp_path, output_dirname="r", outfmt="TXT")
    labels = label_file(tmp_path / "val_label.txt", [0, 1, 2, 3, 4, 5])
    (tmp_path / "in" / "manifest.json").unlink()
    assert score(folder, label_file=labels).images == 6


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (lambda f: (f / "input_00003.bin").unlink(), "input_00003.bin: missing; the manifest"),
        (lambda f: (f / "input_00077.bin").touch(), "input_00077.bin: not in the manifest"),
        (
            lambda f: (f / "input_00003.bin").write_bytes(b"0" * 100),
            f"input_00003.bin: 100 bytes given, expected {ONE}",
        ),
        (
            lambda f: np.save(f / "input_00003.npy", np.zeros(3)),
            r"input_00003\.\w+: its result would have the name of input_00003",
        ),
    ],
)
def test_tampered_inputs_are_refused(images, tmp_path, tamper, message):
    prepare(images, tmp_path / "in")
    tamper(tmp_path / "in")
    model = small_model(tmp_path / "m")
    with pytest.raises(DataError, match=message):
        infer(model, tmp_path / "in", tmp_path, output_dirname="r")
    assert not (tmp_path / "r").exists()


def test_sizes_without_a_manifest(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for number, size in enumerate((ONE, ONE, ONE - 4)):
        (folder / f"a{number}.bin").write_bytes(bytes(size))
    model = small_model(tmp_path / "m", batch=2)
    with pytest.raises(DataError, match=rf"a2.bin: {ONE - 4} bytes given, expected a multiple of"):
        infer(model, folder, tmp_path, output_dirname="r")
    (folder / "a2.bin").write_bytes(bytes(2 * ONE))
    with pytest.raises(DataError, match=r"a2.bin: 2 images given, expected 1"):
        infer(model, folder, tmp_path, output_dirname="r2")
    for path in folder.iterdir():
        path.write_bytes(bytes(3 * ONE))
    with pytest.raises(DataError, match=r"a0.bin: 3 images given, expected 1 or 2"):
        infer(model, folder, tmp_path, output_dirname="r3")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "m"]  # no half results


def test_a_changed_model_is_not_run(images, tmp_path):
    prepare(images, tmp_path / "in")
    model = small_model(tmp_path / "m")
    data = bytearray(model.read_bytes())
    data[-3] ^= 1
    model.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"small_dynamic.onnx: not the file that was exported"):
        infer(model, tmp_path / "in", tmp_path)


def test_the_manifest_of_another_file_is_none(tmp_path):
    model, other = small_model(tmp_path), small_model(tmp_path, batch=2)
    manifest_path(model).write_bytes(manifest_path(other).read_bytes())
    message = r"small_dynamic.onnx.json: is about small_bs2.onnx, not about small_dynamic.onnx"
    with pytest.raises(DataError, match=message):
        read_model_manifest(model)


def test_inputs_of_another_processor_are_not_run(images, tmp_path):
    prepare(images, tmp_path / "in", pixels="uint8")
    values = processor().to_dict()
    values["image_processor"]["mean"] = [0.5, 0.5, 0.5]
    model = small_model(tmp_path / "m", processor=values)
    message = (
        r"in: not made for small_dynamic.onnx: dtype uint8, not float32; "
        r"mean \[0.485, 0.456, 0.406\], not \[0.5, 0.5, 0.5\]$"
    )
    with pytest.raises(DataError, match=message):
        infer(model, tmp_path / "in", tmp_path, output_dirname="r")
    assert not (tmp_path / "r").exists()


def test_mindir_is_not_run_by_onnx_runtime(images, tmp_path):
    prepare(images, tmp_path / "in")
    model = small_model(tmp_path / "m", export_format="mindir")
    message = r"small_dynamic.onnx: onnxruntime runs .onnx files only"
    with pytest.raises(ConfigError, match=message):
        infer(model, tmp_path / "in", tmp_path, output_dirname="r")
    with pytest.raises(ConfigError, match=message):
        benchmark([model], batch_sizes=[1])


@pytest.mark.parametrize("number", ["0", "-1", "x"])
@pytest.mark.parametrize(
    "argv",
    [
        ["preprocess", "--model", "m", "--image_dir", "d", "--output", "o", "--batch_size"],
        ["infer", "--model", "m", "--input", "i", "--batchsize"],
        ["benchmark", "--model", "m", "--loop"],
        ["benchmark", "--model", "m", "--batch_sizes"],
        ["atc", "--model", "m", "--batch_sizes"],
        ["score", "--result", "r", "--num_classes"],
    ],
)
def test_counts_start_at_one(argv, number, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["deploy", *argv, number])
    assert stop.value.code == 2
    said = f"error: argument {argv[-1]}: '{number}' given, a number from 1 on is expected\n"
    assert capsys.readouterr().err.endswith(said)


def test_old_results_are_never_mixed_with_new_ones(images, tmp_path):
    prepare(images, tmp_path / "in")
    model = small_model(tmp_path / "m")
    infer(model, tmp_path / "in", tmp_path, output_dirname="r")
    with pytest.raises(ConfigError, match="not empty; give another --output_dirname"):
        infer(model, tmp_path / "in", tmp_path, output_dirname="r")
    with pytest.raises(ConfigError, match=r"batch size 4 given, but small_bs2.onnx and its input"):
        infer(small_model(tmp_path / "m", batch=2), tmp_path / "in", tmp_path, batch_size=4)


def test_natural_order(tmp_path):
    names = ["b10.bin", "b9.bin", "a1.bin", "b09x.bin"]
    assert sorted(names, key=natural_key)[0] == "a1.bin"
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "manifest.json").touch()
    found = [path.name for path in input_files(tmp_path)]
    assert found.index("b9.bin") < found.index("b10.bin")
    assert len(found) == 4


def test_openvino_where_it_is_installed(images, expected, tmp_path, monkeypatch):
    """A stand-in with OpenVINO's names: no OpenVINO is installed where this runs."""
    _, tensors = expected

    class Compiled:
        def output(self, number):
            return number

        def __call__(self, inputs):
            return {0: lab.small_logits(inputs[0])}

    asked = []

    class Core:
        def read_model(self, path):
            return path

        def compile_model(self, *arguments):
            asked.append(arguments)
            return Compiled()

    prepare(images, tmp_path / "in")
    model = small_model(tmp_path / "m")
    with pytest.raises(ConfigError, match="openvino is not installed"):
        monkeypatch.setitem(sys.modules, "openvino", None)
        infer(model, tmp_path / "in", tmp_path, backend="openvino")
    monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(Core=Core, __version__="0"))
    folder = infer(model, tmp_path / "in", tmp_path, backend="openvino", output_dirname="r")
    assert asked == [(str(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})]
    first = np.load(folder / "input_00000_0.npy")
    np.testing.assert_array_equal(first, lab.small_logits(tensors[:1]))


# ---- benchmark


def test_throughput_is_batch_size_over_latency():
    item = Throughput("x", 8, 5, latency_ms=16.0, fastest_ms=10.0, slowest_ms=20.0)
    assert item.images_per_second == 500.0
    text = table([item, Throughput("x", 1, 5, 4.0, 4.0, 4.0)])
    assert "| x | 8 | 500.00 (400.00-800.00) | 16.00 | 5 |" in text
    assert text.endswith("Best: batch size 8, 500.00 images/s.")


def test_benchmark_of_an_open_and_of_fixed_batches(tmp_path, capsys):
    dynamic, two = small_model(tmp_path / "a"), small_model(tmp_path / "b", batch=2)
    assert [i.batch_size for i in benchmark([dynamic], batch_sizes=[1, 4], loop=3)] == [1, 4]
    assert [i.runs for i in benchmark([two], loop=3)] == [3]
    with pytest.raises(ConfigError, match="its batch is open; give --batch_sizes"):
        benchmark([dynamic])
    with pytest.raises(ConfigError, match="takes 2 images, --batch_sizes does not name that"):
        benchmark([two], batch_sizes=[1])
    output = tmp_path / "new" / "b.json"
    argv = ["deploy", "benchmark", "--model", str(dynamic), "--batch_sizes", "1", "2"]
    assert cli.main([*argv, "--loop", "2", "--output", str(output)]) == 0
    assert capsys.readouterr().out.startswith("| runtime | batch size | images/s (of runs) |")
    (one, two) = json.loads(output.read_text())
    assert two["images_per_second"] == 2000 / two["latency_ms"]
    assert one["fastest_ms"] <= one["latency_ms"] <= one["slowest_ms"]
