"""Export, preprocess, infer, score: the same counts as an evaluation of the same images."""

import json
import shutil
import subprocess
import sys

import pytest

from mindformers_vit import cli
from tests.deploy.conftest import COUNT, RECIPES, SIDES
from tests.engine.lab import command


@pytest.mark.parametrize("family", RECIPES)
def test_the_road_counts_what_an_evaluation_counts(models, thousand, tmp_path, capsys, family):
    model = models(family)
    out = tmp_path / "run"
    argv = ["deploy", "run", "--config", str(model.recipe), "--load_checkpoint"]
    argv += [str(model.directory), "--image_dir", str(thousand), "--output", str(out)]
    assert cli.main([*argv, "--batch_sizes", "1", "8", "--loop", "2", "--num_workers", "2"]) == 0
    flags = ("--run_mode", "eval", "--load_checkpoint", str(model.directory))
    flags += ("--eval_dataset_dir", str(thousand))
    assert command(model.recipe, tmp_path / "eval", *flags) == 0
    wanted = json.loads((tmp_path / "eval" / "eval_result.json").read_text())
    found = json.loads((out / "result_metrics.json").read_text())
    assert found["images"] == wanted["images"] == COUNT
    for name in ("Top1 Accuracy", "Top5 Accuracy"):
        assert found["metrics"][name] == wanted["metrics"][name]
    assert 40 < found["hits"]["Top1"] < 300 < found["hits"]["Top5"] < 700
    assert len({found["hits"][f"Top{k}"] for k in range(1, 6)}) == 5
    check_report(out, family, found, capsys.readouterr().out)


def check_report(out, family, found, said):
    report = json.loads((out / "report.json").read_text())
    assert report["score"] == found
    assert report["model"]["family"] == family
    assert report["model"]["verification"]["max_difference"] < 1e-5
    assert [item["batch_size"] for item in report["throughput"]] == [1, 8]
    side = SIDES[family]
    assert [line.count(f",3,{side},{side}") for line in report["atc"]] == [1, 1]
    page = (out / "report.md").read_text()
    assert f"1000 images: top-1 {found['hits']['Top1']} " in page
    assert page in said
    assert (
        len(list((out / "inputs").glob("*.bin"))) == len(list((out / "results").iterdir())) == COUNT
    )


def test_the_commands_one_by_one_with_a_batch_that_does_not_divide(models, thousand, tmp_path):
    """Fixed batch 8 and files of 8 images: 1,000 images less 3."""
    model = models("smlpnet")
    flags = ("--run_mode", "export", "--load_checkpoint", str(model.directory))
    assert command(model.recipe, tmp_path, *flags, "--batch_size", "8") == 0
    exported = str(tmp_path / "export" / "smlpnet_tiny_64_bs8.onnx")
    inputs, result = str(tmp_path / "in"), str(tmp_path / "result.json")
    images = ["--image_dir", str(thousand)]
    deploy = [
        ["preprocess", "--model", exported, *images, "--output", inputs, "--batch_size", "8",
         "--num_samples", "997"],
        ["infer", "--model", exported, "--input", inputs, "--output", str(tmp_path),
         "--output_dirname", "r", "--outfmt", "BIN"],
        ["score", "--result", str(tmp_path / "r"), *images, "--input", inputs, "--output", result,
         "--num_classes", "12"],
    ]  # fmt: skip
    for argv in deploy:
        assert cli.main(["deploy", *argv]) == 0
    eval_flags = ("--run_mode", "eval", "--load_checkpoint", str(model.directory))
    eval_flags += ("--eval_dataset_dir", str(thousand), "--num_samples", "997")
    assert command(model.recipe, tmp_path / "eval", *eval_flags) == 0
    wanted = json.loads((tmp_path / "eval" / "eval_result.json").read_text())
    found = json.loads((tmp_path / "result_metrics.json").read_text())
    assert found["images"] == wanted["images"] == 997
    assert found["metrics"]["Top5 Accuracy"] == wanted["metrics"]["Top5 Accuracy"]
    assert found["metrics"]["Top1 Accuracy"] == wanted["metrics"]["Top1 Accuracy"]


def test_class_folders_that_are_not_the_weights_classes(models, thousand, tmp_path, capsys):
    model, out = models("vit"), tmp_path / "run"
    named = tmp_path / "named"
    names = sorted(path.name for path in thousand.iterdir())
    config = model.network.config.model_copy(update={"id2label": dict(enumerate(names))})
    patch = pytest.MonkeyPatch()
    patch.setattr(model.network, "config", config)
    model.network.save_pretrained(named, save_name="vit")
    patch.undo()
    other = tmp_path / "other"
    shutil.copytree(thousand, other)
    (other / names[3]).rename(other / f"{names[3]}_")
    argv = ["deploy", "run", "--config", str(model.recipe), "--load_checkpoint", str(named)]
    argv += ["--num_samples", "7", "--output", str(out), "--loop", "1", "--image_dir"]
    assert cli.main([*argv, str(other)]) == 2
    said = f"--image_dir: class folder 3 is '{names[3]}_', but class 3 of the weights is"
    assert said in capsys.readouterr().err
    assert not (out / "inputs").exists()
    assert cli.main([*argv, str(thousand)]) == 0
    score = ["deploy", "score", "--result", str(out / "results"), "--input", str(out / "inputs")]
    assert cli.main([*score, "--image_dir", str(other), "--output", str(tmp_path / "r.json")]) == 2
    assert said in capsys.readouterr().err


def test_a_road_of_a_fixed_batch_is_gone_once(models, thousand, tmp_path, capsys):
    model, out = models("vit"), tmp_path / "run"
    argv = ["deploy", "run", "--config", str(model.recipe), "--load_checkpoint"]
    argv += [str(model.directory), "--image_dir", str(thousand), "--output", str(out)]
    argv += ["--loop", "2", "--num_samples", "7", "--options", "export.batch_size=4"]
    assert cli.main(argv) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["model"]["model"] == "vit_tiny_p8_bs4.onnx"
    assert [item["batch_size"] for item in report["throughput"]] == [4]
    assert report["score"]["images"] == 7
    before = (out / "export" / "vit_tiny_p8_bs4.onnx").stat().st_mtime_ns
    assert cli.main(argv) == 2
    assert capsys.readouterr().err.endswith("inputs: there already; give a new --output\n")
    assert (out / "export" / "vit_tiny_p8_bs4.onnx").stat().st_mtime_ns == before


@pytest.mark.fast
def test_a_batch_size_that_is_none(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--config", str(RECIPES["vit"]), "--batch_size", "open"])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.endswith("--batch_size: 'open' given, a number or dynamic is expected\n")


@pytest.mark.fast
def test_the_package_itself_is_the_command_line():
    command = [sys.executable, "-m", "mindformers_vit", "deploy", "score", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: mindformers-vit deploy score")


@pytest.mark.fast
def test_help_of_every_command(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["deploy", "--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    for name in ("preprocess", "atc", "infer", "score", "benchmark", "run"):
        assert name in said
    with pytest.raises(SystemExit) as stop:
        cli.main(["deploy", "convert"])
    assert stop.value.code == 2
