"""Files that are refused: by a text that says what they are, with nothing executed or written."""

import argparse
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mindformers_vit.errors import CheckpointError, ConfigError
from mindformers_vit.models.auto import AutoConfig, AutoProcessor
from mindformers_vit.models.beit import convert_weight as beit
from mindformers_vit.models.convert_cli import main
from mindformers_vit.models.lvvit import convert_weight as lvvit
from mindformers_vit.models.mae import convert_weight as mae
from mindformers_vit.models.smlpnet import convert_weight as smlpnet
from mindformers_vit.models.vit import convert_weight as vit
from tests.models.conftest import GOLDENS, UNTOLD

pytestmark = pytest.mark.fast

WEIGHTS = GOLDENS / "vit_cls_token_tiny" / "weights.pth"
FLAGS = ["--num_attention_heads", "4"]
FILES = {
    "mae": "mae_pretrain_tiny/weights.pth",
    "vit": "vit_mean_pool_tiny/weights.pth",
    "beit": "beit_tiny/weights.pth",
    "lvvit": "lvvit_tiny_skip2/weights.pth",
    "smlpnet": "smlpnet_tiny/weights.pth",
}
MODULES = {"mae": mae, "vit": vit, "beit": beit, "lvvit": lvvit, "smlpnet": smlpnet}


def tensors() -> dict[str, torch.Tensor]:
    return torch.load(WEIGHTS, weights_only=True)["model"]


class Payload:
    """Unpickling it makes a directory."""

    def __init__(self, canary):
        self.canary = str(canary)

    def __reduce__(self):
        return os.mkdir, (self.canary,)


def in_zip(path, payload):
    torch.save({"model": tensors(), "args": payload}, path)


def in_legacy(path, payload):
    torch.save({"model": tensors(), "args": payload}, path, _use_new_zipfile_serialization=False)


def in_pickle(path, payload):
    path.write_bytes(pickle.dumps({"model": payload}, protocol=2))


def in_tar(path, payload):
    data = pickle.dumps(payload, protocol=2)
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize("write", [in_zip, in_legacy, in_pickle, in_tar])
def test_a_payload_is_not_executed(write, tmp_path, capsys):
    source, target, canary = tmp_path / "a.pth.tar", tmp_path / "a.safetensors", tmp_path / "canary"
    write(source, Payload(canary))
    code = main(
        vit.CONVERTER, ["--torch_path", str(source), "--mindspore_path", str(target), *FLAGS]
    )
    text = capsys.readouterr().err
    assert code == 1
    assert "holds more than tensors, and reading that could run any code" in text
    assert f"torch.load('{source}', map_location='cpu', weights_only=False)" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pth.tar"]


def test_the_way_out_is_one_that_works(tmp_path):
    """The command that the refusal gives makes a file that is converted."""
    source = tmp_path / "a.pth.tar"
    torch.save({"model": tensors(), "args": np.float64(3)}, source)
    with pytest.raises(CheckpointError) as error:
        vit.convert_weight(source, tmp_path / "a.safetensors", settings=UNTOLD["vit"])
    command = str(error.value).partition('python -c "')[2].rpartition('"')[0]
    exec(command, {})
    report = vit.convert_weight(
        tmp_path / "a_tensors.pth", tmp_path / "a.safetensors", settings=UNTOLD["vit"]
    )
    assert report.layout == "facebookresearch/mae, class token"


def test_the_way_out_takes_the_tensors_that_converting_would(tmp_path):
    source = tmp_path / "a.pth.tar"
    averaged = {"w": torch.ones(2)}
    torch.save({"state_dict": {}, "state_dict_ema": averaged, "metric": np.float64(3)}, source)
    with pytest.raises(CheckpointError) as error:
        lvvit.convert_weight(source, tmp_path / "a.safetensors")
    exec(str(error.value).partition('python -c "')[2].rpartition('"')[0], {})
    saved = torch.load(tmp_path / "a_tensors.pth", weights_only=True)
    assert torch.equal(saved["model"]["w"], averaged["w"])


def truncated(path):
    data = WEIGHTS.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def no_archive(path):
    path.write_bytes(b"PK\x03\x04" + b"nothing" * 50)


def other_archive(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


def compressed(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * (1 << 20))


def stretched(path):
    torch.save({"model": tensors() | {"head.bias": torch.zeros(1).expand(1 << 45)}}, path)


def sparse(path):
    torch.save({"model": tensors() | {"head.bias": torch.zeros(10).to_sparse()}}, path)


def under_another_key(path):
    torch.save({"epoch": 3, "state_dict": tensors(), "optimizer": {"state": {}}}, path)


def a_list(path):
    torch.save([1, 2], path)


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (truncated, "cannot be read as a PyTorch file"),
        (no_archive, "cannot be read as a PyTorch file"),
        (other_archive, "cannot be read as a PyTorch file"),
        (compressed, "PyTorch does not compress, so this is not one of its files"),
        (stretched, "'head.bias' declares the shape (35184372088832,), which is more than"),
        (sparse, "tensor 'head.bias' (float32) is sparse, quantized or complex"),
        (a_list, "holds no dictionary of tensors, neither at its top nor under"),
        (lambda path: path.write_bytes(b""), "cannot be read as a PyTorch file"),
        (lambda path: path.write_bytes(b"<html>"), "as a PyTorch file: Unsupported operand 60"),
        (under_another_key, "under 'model' or 'module'; --container state_dict takes those that"),
        (lambda path: path.mkdir(), "a Hugging Face folder holds config.json and"),
    ],
)
def test_files_that_are_something_else(write, text, tmp_path):
    source = tmp_path / "a.pth"
    write(source)
    refuses(source, text, tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        {"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}},
        {"w": {"dtype": "F32", "shape": [1 << 62, 4], "data_offsets": [0, 8]}},
        {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 16]}},
    ],
)
@pytest.mark.parametrize("length", [None, 1 << 60])
def test_a_safetensors_that_declares_more_than_it_holds(header, length, tmp_path):
    text = json.dumps(header).encode()
    start = struct.pack("<Q", length or len(text))
    (tmp_path / "a.safetensors").write_bytes(start + text + bytes(8))
    refuses(tmp_path / "a.safetensors", "damaged or not a weight file", tmp_path)


def refuses(source, text, tmp_path, module=vit, error=CheckpointError, **options):
    """The conversion fails with this text, and neither file is there."""
    with pytest.raises(error) as raised:
        module.convert_weight(
            source,
            tmp_path / "out.safetensors",
            settings=UNTOLD[module.FAMILY.name],
            **options,
        )
    assert text in str(raised.value)
    assert not list(tmp_path.glob("*out*")) and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (torch.full((10, 48), torch.nan), "tensor 'head.weight' holds values that are not finite"),
        (torch.full((10, 48), torch.inf), "tensor 'head.weight' holds values that are not finite"),
        (torch.ones(10, 47), "~ head.weight: (10, 47) found, (10, 48) expected"),
        (torch.ones(0, 48), "num_labels: input should be greater than or equal to 1, given 0"),
        (None, "'head.weight' is missing"),
    ],
)
def test_a_tensor_that_is_not_right(value, text, tmp_path):
    changed = {name: tensor for name, tensor in tensors().items() if name != "head.weight"}
    torch.save({"model": changed | ({} if value is None else {"head.weight": value})},
               tmp_path / "a.pth")  # fmt: skip
    refuses(tmp_path / "a.pth", text, tmp_path)


def test_a_renamed_key(tmp_path):
    changed = {name.replace("blocks.1.norm1", "blocks.1.normA"): t for name, t in tensors().items()}
    torch.save({"model": changed}, tmp_path / "a.pth")
    refuses(tmp_path / "a.pth", "+ blocks.1.normA.weight (48,): not in the table", tmp_path)


def test_differences_are_one_screen(tmp_path):
    changed = {name.replace(".norm", ".n"): tensor for name, tensor in tensors().items()}
    changed |= {f"extra{letter}": torch.ones(1) for letter in "abcdefghijklmnopq"}
    torch.save({"model": changed}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError) as raised:
        MODULES["vit"].convert_weight(tmp_path / "a.pth", tmp_path / "out.safetensors")
    lines = str(raised.value).splitlines()
    assert len(lines) == 18
    assert "  + blocks.{i}.n1.weight (48,): not in the table, in 3 blocks" in lines
    assert lines[-1] == "  ... 5 more"


@pytest.mark.parametrize("family", FILES)
@pytest.mark.parametrize("converter", MODULES)
def test_a_file_of_another_family_is_named(family, converter, tmp_path):
    if family == converter:
        return
    refuses(
        GOLDENS / FILES[family],
        f"this is a file of another family ({family}); nothing was written. It is converted by "
        f"mindformers_vit/models/{family}/convert_weight.py",
        tmp_path,
        MODULES[converter],
    )


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_other_kinds_of_numbers_become_float32_and_it_says_so(kind, ending, tmp_path):
    source, target = tmp_path / f"a.{ending}", tmp_path / "b.safetensors"
    half = {name: tensor.to(kind) for name, tensor in tensors().items()}
    if ending == "pth":
        torch.save(half, source)
    else:
        save_file(half, source)
    text = str(vit.convert_weight(source, target, settings=UNTOLD["vit"]))
    if (kind, ending) != (torch.bfloat16, "safetensors"):  # read_weights gives that as float32
        assert f"{str(kind).removeprefix('torch.')} converted to float32" in text
    from mindformers_vit.checkpoint.weights import read_weights

    again = read_weights(target)
    assert {array.dtype for array in again.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(again["head.weight"], half["head.weight"].float().numpy())


@pytest.mark.parametrize("ending", ["", ".pth", ".h5", ".CKPT"])
def test_other_endings_are_refused_as_usage(ending, tmp_path, capsys):
    paths = ["--torch_path", str(WEIGHTS), "--mindspore_path", str(tmp_path / f"a{ending}")]
    assert main(vit.CONVERTER, [*paths, *FLAGS]) == 2
    assert capsys.readouterr().err == (
        f"error: --mindspore_path: '{tmp_path / f'a{ending}'}' given; a file that ends with "
        f".safetensors or .ckpt is expected\n"
    )
    assert not list(tmp_path.iterdir())


def test_heads_that_nothing_tells_are_asked_for(tmp_path, capsys):
    paths = ["--torch_path", str(WEIGHTS), "--mindspore_path", str(tmp_path / "a.safetensors")]
    assert main(vit.CONVERTER, paths) == 2
    assert capsys.readouterr().err == (
        f"error: --num_attention_heads: missing. The tensors of '{WEIGHTS}' do not tell it "
        f"(hidden_size 48, 3 blocks: no published network); give --num_attention_heads N as it "
        f"was in training\n"
    )
    assert not list(tmp_path.iterdir())
    assert main(vit.CONVERTER, [*paths, "--num_attention_heads", "5"]) == 1
    assert "48 is not divisible by num_attention_heads 5" in capsys.readouterr().err
    assert main(vit.CONVERTER, [*paths, "--num_attention_heads", "6"]) == 0
    assert AutoConfig.from_pretrained(tmp_path).num_attention_heads == 6
    with pytest.raises(SystemExit) as stop:
        main(vit.CONVERTER, paths[:2])
    assert stop.value.code == 2


@pytest.mark.parametrize(
    ("module", "args", "expected"),
    [
        (vit, {"num_attention_heads": 8}, {"num_attention_heads": 8}),
        (vit, {"model": "vit_base_patch16"}, {"num_attention_heads": 12}),
        (mae, {"model": "mae_vit_base_patch16", "norm_pix_loss": False},
         {"num_attention_heads": 12, "decoder_num_attention_heads": 16, "norm_pix_loss": False}),
    ],
)  # fmt: skip
def test_the_arguments_of_a_training_run_tell_settings(module, args, expected, tmp_path):
    loaded = torch.load(GOLDENS / FILES[module.FAMILY.name], weights_only=True)
    run = {"optimizer": {"state": {}}, "scaler": {}, "epoch": 3, "args": argparse.Namespace(**args)}
    torch.save(loaded | run, tmp_path / "run.pth")
    report = module.convert_weight(tmp_path / "run.pth", tmp_path / "a.safetensors")
    assert "not read: optimizer, scaler, epoch, args" in str(report)
    config = AutoConfig.from_pretrained(tmp_path / "a.safetensors")
    assert {key: getattr(config, key) for key in expected} == expected


def test_the_container_can_be_chosen(tmp_path):
    best = {name: tensor * 2 for name, tensor in tensors().items()}
    torch.save({"model": tensors(), "model_ema": best}, tmp_path / "run.pth")
    target = tmp_path / "a.safetensors"
    options = {"settings": UNTOLD["vit"]}
    report = vit.convert_weight(tmp_path / "run.pth", target, container="model_ema", **options)
    assert "tensors under 'model_ema', not read: model" in " ".join(str(report).split())
    from mindformers_vit.checkpoint.weights import read_weights

    np.testing.assert_array_equal(read_weights(target)["head.bias"], best["head.bias"].numpy())
    text = "has no key 'ema' (--container); there are: 'model', 'model_ema'"
    target.unlink()
    (tmp_path / "a.yaml").unlink()
    refuses(tmp_path / "run.pth", text, tmp_path, container="ema")


def test_a_model_lies_beside_and_an_old_one_is_replaced(tmp_path):
    target = tmp_path / "a.safetensors"
    for name, labels in (("mae", None), ("vit", 10)):
        MODULES[name].convert_weight(GOLDENS / FILES[name], target, settings=UNTOLD[name])
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "a.yaml"]
        config = AutoConfig.from_pretrained(target)
        assert getattr(config, "num_labels", None) == labels
    assert config.id2label is None and config.image_size == 32
    assert AutoProcessor.from_pretrained(target).image_processor.size == 32


def test_a_full_disk_leaves_the_old_model(tmp_path, monkeypatch):
    from mindformers_vit.models import model_files

    target = tmp_path / "a.safetensors"
    vit.convert_weight(GOLDENS / FILES["vit"], target, settings=UNTOLD["vit"])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_files, "write_weights", full)
    with pytest.raises(CheckpointError, match=r"cannot be written: .* No space left"):
        vit.convert_weight(WEIGHTS, target, settings=UNTOLD["vit"])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_our_file_of_another_family_is_named_by_its_yaml(tmp_path):
    ours = tmp_path / "a.safetensors"
    mae.convert_weight(GOLDENS / FILES["mae"], ours, settings=UNTOLD["mae"])
    with pytest.raises(CheckpointError, match=r"is a ViTMAEForPreTraining by its yaml;"):
        vit.convert_weight(tmp_path / "b.pth", ours, reversed=True)
    smlpnet.convert_weight(GOLDENS / FILES["smlpnet"], ours)
    with pytest.raises(ConfigError, match="transformers has no such network"):
        smlpnet.convert_weight(tmp_path / "folder", ours, reversed=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "a.yaml"]


def test_what_is_read_and_recipes_are_not_written_over(tmp_path):
    source = tmp_path / "run.ckpt"
    source.write_bytes(WEIGHTS.read_bytes())  # PyTorch's, whatever its ending
    for target, text in (
        (source, "is what is to be read"),
        (tmp_path / "dir.ckpt", "a file that ends with .safetensors or .ckpt is expected"),
        (tmp_path / "recipe.ckpt", "would be written over"),
    ):
        (tmp_path / "dir.ckpt").mkdir(exist_ok=True)
        (tmp_path / "recipe.yaml").write_text("model: {}\nrunner_config: {epochs: 3}\n")
        before = {p.name: p.is_dir() or p.read_bytes() for p in tmp_path.iterdir()}
        with pytest.raises(ConfigError, match=text):
            vit.convert_weight(source, target, settings=UNTOLD["vit"])
        assert {p.name: p.is_dir() or p.read_bytes() for p in tmp_path.iterdir()} == before
    vit.convert_weight(source, tmp_path / "a.safetensors", settings=UNTOLD["vit"])
    with pytest.raises(CheckpointError, match="is no PyTorch file and has no such keys"):
        vit.convert_weight(tmp_path / "a.safetensors", tmp_path / "b.ckpt", container="model")


@pytest.mark.parametrize(("text", "value"), [("false", False), ("True", True)])
def test_unnormalised_pixels_are_said_by_a_flag(text, value, tmp_path, capsys):
    """facebookresearch/mae's visualize files predict plain pixels, which no tensor tells."""
    paths = ["--torch_path", str(GOLDENS / FILES["mae"])]
    paths += ["--mindspore_path", str(tmp_path / "a.safetensors"), *FLAGS]
    flags = ["--decoder_num_attention_heads", "4", "--norm_pix_loss", text]
    assert main(mae.CONVERTER, [*paths, *flags]) == 0
    assert AutoConfig.from_pretrained(tmp_path).norm_pix_loss is value
    with pytest.raises(SystemExit) as stop:
        main(mae.CONVERTER, [*paths, "--norm_pix_loss", "["])
    assert stop.value.code == 2
    assert "argument --norm_pix_loss: invalid setting value: '['" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["four", "0", "[4]"])
def test_a_setting_that_no_network_has_is_a_wrong_argument(given, tmp_path, capsys):
    paths = ["--torch_path", str(WEIGHTS), "--mindspore_path", str(tmp_path / "a.safetensors")]
    assert main(vit.CONVERTER, [*paths, "--num_attention_heads", given]) == 2
    assert capsys.readouterr().err.startswith("error: --num_attention_heads: input should be")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["mae", "beit"])
def test_the_table_fits_on_a_screen_whatever_the_names(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = {"mae": "hf_vit_mae_tiny", "beit": "beit_tiny_shared_table/weights.pth"}[name]
    (tmp_path / "file").symlink_to(GOLDENS / folder)
    report = str(MODULES[name].convert_weight("file", "a.safetensors"))
    assert max(map(len, report.splitlines())) <= 80
    assert "\n          -> " in report


def test_the_flags_of_mindformers_are_taken(tmp_path, capsys):
    """Its converters asked for --torch_pth_path and --ms_ckpt_path."""
    paths = ["--torch_pth_path", str(WEIGHTS), "--ms_ckpt_path", str(tmp_path / "a.safetensors")]
    assert main(vit.CONVERTER, [*paths, *FLAGS]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"read      {WEIGHTS}") and "ours      " in out
    lines = out.splitlines()
    assert len(lines) <= 40
    assert all(len(line) <= 80 for line in lines if "/" not in line)
