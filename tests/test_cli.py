"""The command line: flags to keys, exit codes, and one screen for whatever a user got wrong."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mindformers_vit import cli
from mindformers_vit.config.loader import load_yaml, set_dotted
from mindformers_vit.engine.plan import make_plan
from tests.engine import lab

ROOT = Path(__file__).parents[1]
VIT = ROOT / "configs/vit/run_vit_tiny_p8_48_cpu.yaml"
MAE = ROOT / "configs/mae/run_mae_vit_tiny_p8_48_cpu.yaml"


@pytest.fixture(autouse=True)
def _process():
    with lab.own_process():
        yield


@pytest.fixture(scope="module")
def train_dir(tmp_path_factory) -> Path:
    return lab.class_folders(tmp_path_factory.mktemp("train"), 8)


@pytest.fixture(scope="module")
def vit_yaml(tmp_path_factory) -> Path:
    return lab.write(tmp_path_factory.mktemp("configs") / "vit.yaml", lab.VIT)


@pytest.fixture(scope="module")
def mae_yaml(tmp_path_factory) -> Path:
    return lab.write(tmp_path_factory.mktemp("configs") / "mae.yaml", lab.MAE)


def value_at(values, dotted):
    for key in dotted.split("."):
        values = values[int(key)] if isinstance(values, list) else values[key]
    return values


def read(*flags: str, config: Path = VIT) -> dict:
    values, _ = cli.read_command_line(["--config", str(config), *flags])
    return values


# ---- flags


@pytest.mark.fast
@pytest.mark.parametrize(
    ("flags", "key", "value"),
    [
        ("--run_mode eval", "run_mode", "eval"),
        ("--train_dataset_dir a/b", "train_dataset.data_loader.dataset_dir", "a/b"),
        ("--eval_dataset_dir a/b", "eval_dataset.data_loader.dataset_dir", "a/b"),
        ("--predict_data a.jpg http://b/c.png", "predict.data", ["a.jpg", "http://b/c.png"]),
        ("--predict_batch_size 3", "predict.batch_size", 3),
        ("--load_checkpoint x.ckpt", "load_checkpoint", "x.ckpt"),
        ("--resume_training True", "resume_training", True),
        ("--resume_training false", "resume_training", False),
        ("--resume_training Auto", "resume_training", "auto"),
        ("--force_resume", "force_resume", True),
        ("--force_resume False", "force_resume", False),
        ("--epochs 3", "runner_config.epochs", 3),
        ("--batch_size 6", "runner_config.batch_size", 6),
        ("--gradient_accumulation_steps 4", "runner_config.gradient_accumulation_steps", 4),
        ("--num_samples 9", "train_dataset.data_loader.num_samples", 9),
        ("--num_samples 9", "eval_dataset.data_loader.num_samples", 9),
        ("--do_eval True", "do_eval", True),
        ("--device_target CPU", "context.device_target", "CPU"),
        ("--device_id 2", "context.device_id", 2),
        ("--mode 1", "context.mode", 1),
        ("--seed 0", "seed", 0),
        ("--output_dir o", "output_dir", "o"),
        ("--use_parallel False", "use_parallel", False),
        # any key: dotted, as --options, at the top; with = or a space; the value is yaml
        ("--optimizer.weight_decay=0.1", "optimizer.weight_decay", 0.1),
        ("--optimizer.weight_decay 1e-4", "optimizer.weight_decay", 1e-4),
        ("--layer_decay=0.5", "layer_decay", 0.5),
        ("--lr_schedule.warmup_epochs 0", "lr_schedule.warmup_epochs", 0),
        (
            "--train_dataset.transforms.0.scale [0.1,1]",
            "train_dataset.transforms.0.scale",
            [0.1, 1],
        ),
        ("--callbacks.0.per_print_times=7", "callbacks.0.per_print_times", 7),
        ("--ema.decay=0.9", "ema.decay", 0.9),
        ("--options do_eval=True optimizer.eps=1e-6", "do_eval", True),
        ("--options do_eval=True optimizer.eps=1e-6", "optimizer.eps", 1e-6),
    ],
)
def test_every_flag_sets_its_key(flags, key, value):
    assert value_at(read(*flags.split()), key) == value


@pytest.mark.fast
def test_every_flag_that_means_something_is_accepted_by_the_schema():
    """All at once, into a plan."""
    flags = "--run_mode finetune --train_dataset_dir a --eval_dataset_dir b --load_checkpoint c"
    flags += " --resume_training True --epochs 7 --batch_size 6 --gradient_accumulation_steps 4"
    flags += " --num_samples 9 --do_eval True --predict_batch_size 3 --device_target CPU"
    flags += " --device_id 1 --mode 1 --seed 5 --output_dir o --use_parallel False"
    run = make_plan(read(*flags.split(), "--predict_data", "p.jpg")).run
    runner, context = run.runner_config, run.context
    assert (run.run_mode, run.load_checkpoint, run.resume_training) == ("finetune", "c", True)
    assert (runner.epochs, runner.batch_size, runner.gradient_accumulation_steps) == (7, 6, 4)
    assert run.train_dataset.data_loader.dataset_dir == "a"
    assert run.eval_dataset.data_loader.dataset_dir == "b"
    assert run.train_dataset.data_loader.num_samples == 9
    assert run.eval_dataset.data_loader.num_samples == 9
    assert (context.device_target, context.device_id, context.mode) == ("CPU", 1, 1)
    assert (run.seed, run.output_dir, run.do_eval) == (5, "o", True)
    assert (run.predict.data, run.predict.batch_size) == (["p.jpg"], 3)


@pytest.mark.fast
@pytest.mark.parametrize(
    "flags",
    [
        "--sink_mode True", "--profile False", "--auto_trans_ckpt False",
        "--only_save_strategy False", "--src_strategy_path_or_dir x",
        "--strategy_load_checkpoint x", "--remote_save_url x",
    ],
)  # fmt: skip
def test_flags_of_mindformers_that_mean_nothing_here_give_one_warning(flags):
    (warning,) = make_plan(read(*flags.split())).warnings
    assert flags.split()[0][2:] in warning and "ignored" in warning


@pytest.mark.fast
def test_precedence_named_flags_over_options_over_the_file():
    assert read()["runner_config"]["epochs"] == 30
    options = ("--options", "runner_config.epochs=2", "--runner_config.epochs=3")
    assert read(*options)["runner_config"]["epochs"] == 3
    assert read(*options, "--epochs", "4")["runner_config"]["epochs"] == 4
    assert read(*options)["runner_config"]["batch_size"] == 25


@pytest.mark.fast
def test_num_samples_makes_no_section_that_the_yaml_lacks():
    assert "eval_dataset" not in read("--num_samples", "5", config=MAE)


@pytest.mark.fast
def test_config_is_looked_for_here_and_then_in_the_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for start in ("", "./"):
        values, _ = cli.read_command_line(["--config", f"{start}configs/vit/{VIT.name}"])
        assert values["runner_config"]["epochs"] == 30
    mine = set_dotted(load_yaml(VIT), "runner_config.epochs", 1)
    lab.write(tmp_path / "configs/vit" / VIT.name, mine)
    values, dry = cli.read_command_line(["--config", f"configs/vit/{VIT.name}", "--dry_run"])
    assert (values["runner_config"]["epochs"], dry) == (1, True)


# ---- what a user gets wrong, before MindSpore is needed


def refused(capsys, *flags: str, config: Path = VIT, code: int = 2) -> str:
    """The message of a command that is refused: one screen, no traceback, on stderr."""
    try:
        found = cli.main(["--config", str(config), *flags])
    except SystemExit as end:  # argparse
        found = end.code
    out, err = capsys.readouterr()
    assert found == code, err
    assert out == ""
    assert "Traceback" not in err
    assert 1 <= len(err.strip().splitlines()) <= 24
    assert len(err) < 24 * 100
    return err


@pytest.mark.fast
@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--optimizer.weight_decy=0.1", "weight_decy: unknown key (did you mean 'weight_decay'?)"),
        ("--runner_config.epoch=1", "runner_config.epoch: unknown key (did you mean 'epochs'?)"),
        ("--model.model_config.hidden_sise=8", "(did you mean 'hidden_size'?)"),
        ("--train_dataset.transforms.0.sizes=8", "train_dataset.transforms.0.sizes: unknown key"),
        ("--callbacks.0.per_print_time=8", "(did you mean 'per_print_times'?)"),
        ("--context.mode=3", "context.mode: input should be 0 or 1, given 3"),
        ("--epochs=0", "runner_config.epochs: input should be greater than 0, given 0"),
        ("--seed=-1", "seed: input should be greater than or equal to 0, given -1"),
        ("--lr_schedule.warmup_epochs=40", "warmup_epochs: 40 given, but the run has 30"),
        ("--runner_config.num_classes=5", "5 given, but model.model_config.num_labels is 12"),
        ("--device_target=TPU", "context.device_target"),
        ("--callbacks.7.type=x", "override 'callbacks.7.type': '7' is not a place of its list"),
        ("--train_dataset.mixup_op={mixup_alpha: 0}", "leave mixup_op out instead"),
        ("--options=seed", "override 'seed': 'section.key=value' is expected"),
        ("--options=seed=[", "override 'seed'"),
    ],
)  # fmt: skip
def test_a_wrong_setting(flag, said, capsys):
    assert said in refused(capsys, flag)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--epoch 3", "unknown argument '--epoch' (did you mean '--epochs'?); see --help"),
        ("--batchsize 3", "(did you mean '--batch_size'?)"),
        ("--train-dataset-dir x", "(did you mean '--train_dataset_dir'?)"),
        ("--optimzer.eps=1", "unknown argument '--optimzer.eps' (did you mean '--optimizer'?)"),
        ("stray", "unknown argument 'stray'"),
        ("-x", "unknown argument '-x'"),
        ("--layer_decay", "--layer_decay: a value is expected"),
        ("--run_mode trian", "invalid choice: 'trian'"),
        ("--epochs many", "argument --epochs: invalid int value: 'many'"),
        ("--do_eval maybe", "'maybe' given, True or False is expected"),
        ("--resume_training", "argument --resume_training: expected one argument"),
        ("--config nowhere.yaml", "--config: no file 'nowhere.yaml' (looked in"),
    ],
)
def test_a_wrong_argument(flags, said, capsys):
    assert said in refused(capsys, *flags.split())


@pytest.mark.fast
def test_no_config(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([])
    assert end.value.code == 2
    assert "the following arguments are required: --config" in capsys.readouterr().err


@pytest.mark.fast
def test_all_problems_come_at_once_and_fit_on_a_screen(capsys):
    said = refused(capsys, "--epochs=0", "--optimizer.beta1=2", "--ema.decay=1")
    assert said.startswith("3 problems:\n  ")
    many = [f"--optimizer.key{n}=1" for n in range(30)]
    said = refused(capsys, *many)
    assert said.startswith("30 problems:") and said.rstrip().endswith("... and 10 more")


@pytest.mark.fast
@pytest.mark.parametrize(
    "text", ["a: [", "a: 1\na: 2", "- 1", "a: !!python/object:os.x {}", "\x00"]
)
def test_a_file_that_is_no_configuration(text, tmp_path, capsys):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    assert str(path) in refused(capsys, config=path)


# ---- data: before the first step, and before anything is written


def data_flags(data: Path, out: Path) -> tuple[str, ...]:
    return ("--train_dataset_dir", str(data), "--output_dir", str(out))


@pytest.mark.fast
def test_a_missing_folder(capsys, tmp_path, vit_yaml):
    flags = data_flags(tmp_path / "none", tmp_path / "out")
    said = refused(capsys, *flags, config=vit_yaml)
    assert said.startswith("error: train_dataset.data_loader.dataset_dir: ")
    assert said.rstrip().endswith("none does not exist")
    assert not (tmp_path / "out").exists()


@pytest.mark.fast
def test_no_folder_given(capsys, tmp_path, vit_yaml):
    flags = ("--do_eval", "True", "--output_dir", str(tmp_path / "out"))
    said = refused(capsys, *flags, config=vit_yaml)
    assert "train_dataset.data_loader.dataset_dir: missing; give --train_dataset_dir" in said
    assert "eval_dataset.data_loader.dataset_dir: missing; give --eval_dataset_dir" in said


@pytest.mark.fast
def test_an_empty_class_folder(capsys, tmp_path, vit_yaml, train_dir):
    data = tmp_path / "data"
    shutil.copytree(train_dir, data)
    (data / "dog").mkdir()
    said = refused(capsys, *data_flags(data, tmp_path / "out"), config=vit_yaml)
    assert "1 of 4 class folders hold no image: 'dog'" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.fast
def test_a_head_that_does_not_fit_the_classes(capsys, tmp_path, vit_yaml, train_dir):
    flags = (*data_flags(train_dir, tmp_path / "out"), "--model.model_config.num_labels=5")
    said = refused(capsys, *flags, config=vit_yaml)
    assert "3 class folders, but the head has model.model_config.num_labels 5" in said


@pytest.mark.fast
def test_other_classes_in_the_evaluation_folder(capsys, tmp_path, vit_yaml, train_dir):
    other = lab.class_folders(tmp_path / "val", 1)
    (other / "cat").rename(other / "cow")
    flags = (*data_flags(train_dir, tmp_path / "out"), "--eval_dataset_dir", str(other))
    said = refused(capsys, *flags, "--do_eval", "True", config=vit_yaml)
    assert "its class folders are not those of train_dataset: cat, cow" in said


@pytest.mark.fast
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--batch_size", "30"], "one step needs 60 images (batch_size 30 x"),
        (["--gradient_accumulation_steps", "7"], "one step needs 28 images"),
        (["--lr_schedule.warmup_steps=6"], "warmup_steps: 6 given, but the run has 6 steps"),
        (["--batch_size", "3"], "must be even, given 3"),
        (["--run_mode", "finetune"], "run_mode finetune starts from weights; none are given"),
        (["--run_mode", "predict"], "predict.data: nothing to predict; give --predict_data"),
        (["--use_parallel", "True"], "use_parallel: True given, but the environment names no rank"),
    ],
)
def test_what_the_data_or_the_mode_make_impossible(
    flags, said, capsys, tmp_path, vit_yaml, train_dir
):
    given = (*data_flags(train_dir, tmp_path / "out"), *flags)
    assert said in refused(capsys, *given, config=vit_yaml)
    assert not (tmp_path / "out").exists()


@pytest.mark.fast
def test_an_output_directory_that_cannot_be_made(capsys, tmp_path, vit_yaml, train_dir):
    (tmp_path / "file").write_text("")
    flags = data_flags(train_dir, tmp_path / "file" / "out")
    assert "output_dir: '" in refused(capsys, *flags, config=vit_yaml)


# ---- the process


@pytest.mark.fast
def test_a_typo_from_the_shell(tmp_path):
    """The real script: exit code 2, one line, and no MindSpore to wait for."""
    command = [sys.executable, str(ROOT / "run_mindformer.py"), "--config", "configs/vit/x.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: --config: no file 'configs/vit/x.yaml' (looked in ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fast
def test_interrupted(monkeypatch, capsys):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", interrupt)
    assert cli.main(["--config", "x"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


# ---- the dry run, and what needs the networks


def dry_run(capsys, config: Path, *flags: str) -> str:
    assert cli.main(["--config", str(config), "--dry_run", *flags]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_dry_run_does_the_arithmetic_and_writes_nothing(capsys, tmp_path, vit_yaml, train_dir):
    flags = (*data_flags(train_dir, tmp_path / "out"), "--lr_scale", "True", "--epochs", "5")
    lines = dry_run(capsys, vit_yaml, *flags).splitlines()
    assert lines == [
        "run_mode train: ViTForImageClassification",
        "24 training images; 5 epochs x 3 steps of 4 x 2 images = 15 steps; "
        "peak learning rate 3.125e-05",  # 1e-3 x 8 / 256
        "device CPU",
        "weights: new, from the seed",
        "nothing wrong found",
    ]
    assert not (tmp_path / "out").exists()


def test_dry_run_of_an_evaluation_and_a_prediction(capsys, tmp_path, vit_yaml, train_dir, models):
    flags = ("--load_checkpoint", str(models["vit"]), "--output_dir", str(tmp_path / "out"))
    said = dry_run(
        capsys, vit_yaml, "--run_mode", "eval", "--eval_dataset_dir", str(train_dir), *flags
    )
    assert "24 evaluation images" in said and f"weights: {models['vit']}" in said
    data = ("--predict_data", str(train_dir))
    said = dry_run(capsys, vit_yaml, "--run_mode", "predict", *data, *flags)
    assert said.startswith("run_mode predict")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A saved network of each family."""
    from mindformers_vit.models.auto import AutoModel

    root = tmp_path_factory.mktemp("models")
    found = {}
    for name, values in (("mae", lab.MAE), ("vit", lab.VIT)):
        AutoModel.from_config(values["model"]).save_pretrained(root / name, save_name="network")
        found[name] = root / name
    return found


@pytest.mark.parametrize("dry", [True, False])
def test_the_checkpoint_of_another_model(
    capsys, tmp_path, mae_yaml, vit_yaml, train_dir, models, dry
):
    flags = ("--dry_run",) if dry else ()
    flags += ("--train_dataset_dir", str(train_dir), "--output_dir", str(tmp_path))
    flags += ("--load_checkpoint", str(models["vit"]))
    said = refused_quietly(capsys, *flags, "--run_mode", "finetune", config=mae_yaml)
    assert str(models["vit"]) in said and "head.weight" in said
    # a larger network of the same kind
    wide = ("--model.model_config.hidden_size=64", "--run_mode", "finetune")
    said = refused_quietly(capsys, *flags, *wide, config=vit_yaml)
    assert "(144, 48)" in said and "(192, 64)" in said
    # the head is not invented where an answer is asked for
    eval_flags = (*flags[:-1], str(models["mae"]), "--eval_dataset_dir", str(train_dir))
    said = refused_quietly(capsys, *eval_flags, "--run_mode", "eval", config=vit_yaml)
    assert "head" in said


def refused_quietly(capsys, *flags: str, config: Path) -> str:
    """As `refused`, but for the line that says where the output goes."""
    assert cli.main(["--config", str(config), *flags]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "Traceback" not in err
    lines = err.strip().splitlines()
    assert len(lines) <= 50  # `merge` lists up to 40 tensors
    return err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nowhere/x.ckpt", "load_checkpoint: 'nowhere/x.ckpt': no such file or directory"),
        ("vit_base_p61", "(did you mean 'vit_base_p16'?)"),
        ("vit_base_p16", "no weights for 'vit_base_p16': neither"),
    ],
)
def test_a_checkpoint_that_is_not_there(
    given, said, capsys, tmp_path, monkeypatch, vit_yaml, train_dir
):
    monkeypatch.chdir(tmp_path)
    flags = (*data_flags(train_dir, tmp_path / "out"), "--load_checkpoint", given)
    assert said in refused(capsys, *flags, "--dry_run", "--run_mode", "finetune", config=vit_yaml)


def test_an_evaluation_without_weights(capsys, tmp_path, vit_yaml, train_dir):
    flags = ("--run_mode", "eval", "--eval_dataset_dir", str(train_dir), "--dry_run")
    assert "run_mode eval needs weights; none are given" in refused(capsys, *flags, config=vit_yaml)


def test_a_truncated_image_in_training(capsys, tmp_path, vit_yaml, train_dir, monkeypatch):
    lab.share_compiled(monkeypatch)
    data = tmp_path / "data"
    shutil.copytree(train_dir, data)
    bad = sorted(data.rglob("*.jpg"))[5]
    bad.write_bytes(bad.read_bytes()[:200])
    for workers in (0, 2):
        flags = (
            *data_flags(data, tmp_path / "out"),
            f"--train_dataset.num_parallel_workers={workers}",
        )
        assert cli.main(["--config", str(vit_yaml), *flags]) == 2
        said = capsys.readouterr().err
        assert "error: train_dataset: 1 of 24 images cannot be used, more than max_bad" in said
        assert said.splitlines()[-1].strip().startswith(f"{bad}: cannot be read as an image: ")
        assert "Traceback" not in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda jpeg: None, "no such file"),
        (lambda jpeg: b"", "is not an image"),
        (lambda jpeg: b"text", "is not an image"),
        (lambda jpeg: jpeg[:300], "damaged or truncated"),
    ],
)
def test_a_bad_image_for_prediction(content, said, capsys, tmp_path, vit_yaml, models):
    path = tmp_path / "picture.jpg"
    lab.picture(0).save(path)
    damaged = content(path.read_bytes())
    path.unlink() if damaged is None else path.write_bytes(damaged)
    flags = ("--run_mode", "predict", "--predict_data", str(path), "--output_dir", str(tmp_path))
    said_all = refused_quietly(
        capsys, *flags, "--load_checkpoint", str(models["vit"]), config=vit_yaml
    )
    assert said in said_all.splitlines()[-1] and str(path) in said_all.splitlines()[-1]


def test_the_written_configuration_runs_again(capsys, tmp_path, vit_yaml, train_dir, monkeypatch):
    """And gives the same plan, labels included."""
    lab.share_compiled(monkeypatch)
    flags = data_flags(train_dir, tmp_path / "out")
    assert cli.main(["--config", str(vit_yaml), *flags, "--epochs", "1"]) == 0
    written = tmp_path / "out" / "config_train.yaml"
    plan = make_plan(load_yaml(written))
    assert plan.run.runner_config.epochs == 1
    assert plan.network.id2label == dict(enumerate(lab.CLASSES))
    assert plan.warnings == ()
    before = lab.trained(tmp_path / "out")[0]
    assert cli.main(["--config", str(written), "--output_dir", str(tmp_path / "again")]) == 0
    assert lab.digest(before) == lab.digest(lab.trained(tmp_path / "again")[0])
    again = yaml.safe_load((tmp_path / "again" / "config_train.yaml").read_text())
    assert again | {"output_dir": 0} == yaml.safe_load(written.read_text()) | {"output_dir": 0}
