"""Weights by name: from the publisher's file, through a mirror on loopback, to a network's file."""

import dataclasses
import subprocess
import sys
from urllib.parse import urlsplit

import numpy as np
import pytest

from mindformers_vit.checkpoint.weights import read_weights
from mindformers_vit.errors import CheckpointError
from mindformers_vit.models import published
from mindformers_vit.models.auto import AutoConfig
from mindformers_vit.models.published import PUBLISHED, Published, obtain
from mindformers_vit.models.sources import find_source, weight_file
from mindformers_vit.registry import families, find_model
from tests.loopback import serving
from tests.models.conftest import GOLDENS, MAE_TINY

pytestmark = pytest.mark.fast

TINY = GOLDENS / "mae_pretrain_tiny/weights.pth"
NAME = "mae_vit_tiny_p8"


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as site:
        monkeypatch.setenv("MINDFORMERS_VIT_MIRROR", site.url)
        monkeypatch.setitem(PUBLISHED, NAME, Published("https://publisher/a/tiny.pth", "MIT"))
        monkeypatch.setitem(find_model(NAME)[0].variants, NAME, MAE_TINY)
        site.files["/mae/tiny.pth"] = TINY.read_bytes()
        yield site


def test_the_table_names_every_full_size_network_that_has_weights():
    full = {name for family in families() for name in family.variants if "tiny_" not in name}
    full -= {"lvvit_tiny_p8"}
    unpublished = {"vit_huge_p14_448", "lvvit_l"} & full
    assert PUBLISHED.keys() == full - unpublished | {"smlpnet_tiny"}
    names = [entry.file_name for entry in PUBLISHED.values()]
    assert len(set(names)) == len(names)
    for name, entry in PUBLISHED.items():
        assert find_model(name)[1] == name
        assert urlsplit(entry.url).scheme == "https"
        assert entry.file_name.endswith((".pth", ".pth.tar"))


def test_published_classifiers_name_their_classes():
    labels = AutoConfig.from_pretrained("vit_base_p16").id2label
    assert (len(labels), labels[0], labels[985]) == (1000, "tench, Tinca tinca", "daisy")
    assert AutoConfig.from_pretrained("vit_base_p16", num_labels=10).id2label is None
    assert AutoConfig.from_pretrained("vit_tiny_p8").id2label is None


def test_a_name_becomes_weights(site, tmp_path, caplog):
    caplog.set_level("INFO")
    target = obtain(NAME, tmp_path)
    assert target == tmp_path / f"{NAME}.safetensors"
    assert "cls_token" in read_weights(target)
    assert "(licence: MIT)" in caplog.text
    assert obtain(NAME, tmp_path) == target
    assert len(site.seen) == 1


def test_a_file_put_there_by_hand_is_converted(site, tmp_path):
    (tmp_path / "tiny.pth").write_bytes(TINY.read_bytes())
    assert "cls_token" in read_weights(obtain(NAME, tmp_path))
    assert site.seen == []


def test_find_source_and_the_cache_folder(site, tmp_path, monkeypatch):
    monkeypatch.setenv("CHECKPOINT_DOWNLOAD_FOLDER", str(tmp_path / "cache"))
    source = find_source(NAME)
    assert source.weights is None
    target = weight_file(source)
    assert target == tmp_path / "cache" / "mae" / f"{NAME}.safetensors"
    assert find_source(NAME).weights == target
    target.rename(target.with_suffix(".ckpt"))
    assert find_source(NAME).weights == target.with_suffix(".ckpt")


def test_offline_one_line_says_what_where_and_how(tmp_path, monkeypatch):
    monkeypatch.setenv("MINDFORMERS_VIT_MIRROR", "http://127.0.0.1:9/m/")
    with pytest.raises(CheckpointError) as error:
        obtain("beit_base_p16_224", tmp_path)
    text = str(error.value)
    file = "beit_base_patch16_224_pt22k_ft22kto1k.pth"
    target = tmp_path / "beit_base_p16_224.safetensors"
    assert "\n" not in text
    assert text.startswith(
        f"no weights for 'beit_base_p16_224': neither {target} nor "
        f"{tmp_path}/beit_base_p16_224.ckpt is there; "
        f"'http://127.0.0.1:9/m/beit/{file}' cannot be read"
    )
    assert f"Put {file} into {tmp_path} and run this again" in text
    assert text.endswith(
        "python mindformers_vit/models/beit/convert_weight.py --torch_path FILE "
        f"--mindspore_path {target}"
    )


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("checksum", "the md5 is .*, abcdef is expected; the file was removed"),
        ("another family", r"a file of another family \(beit\)"),
        ("another size", "the settings say hidden_size 128, .*but the tensors have 48"),
        ("another image", r"pos_embed: \(1, 17, 48\) found, \(1, 65, 48\) expected"),
        ("damaged", "cannot be read as a PyTorch file"),
        ("no torch", "converting it needs PyTorch: pip install"),
    ],
)
def test_what_goes_wrong_leaves_no_weights(site, tmp_path, monkeypatch, broken, words):
    path = "/mae/tiny.pth"
    if broken == "checksum":
        changed = dataclasses.replace(PUBLISHED[NAME], md5_prefix="abcdef")
        monkeypatch.setitem(PUBLISHED, NAME, changed)
    elif broken == "another family":
        site.files[path] = (GOLDENS / "beit_tiny/weights.pth").read_bytes()
    elif broken in ("another size", "another image"):
        changes = {"hidden_size": 128} if broken == "another size" else {"image_size": 64}
        monkeypatch.setitem(find_model(NAME)[0].variants, NAME, MAE_TINY | changes)
    elif broken == "damaged":
        site.files[path] = site.files[path][:5000]
    else:
        monkeypatch.setattr(published.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match=words):
        obtain(NAME, tmp_path)
    assert not list(tmp_path.glob(f"{NAME}.*"))


def test_two_processes_fetch_and_convert_once(site, tmp_path):
    code = (
        "import sys; from pathlib import Path; from mindformers_vit.models import published as p; "
        "name, folder = sys.argv[1:]; "
        "p.PUBLISHED[name] = p.Published('https://publisher/a/tiny.pth', 'MIT'); "
        f"p.find_model(name)[0].variants[name] = {MAE_TINY}; "
        "print(p.obtain(name, Path(folder)))"
    )
    command = [sys.executable, "-c", code, NAME, str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    target = tmp_path / f"{NAME}.safetensors"
    assert [process.communicate(timeout=60)[0] for process in both] == [f"{target}\n"] * 2
    assert len(site.seen) == 1
    assert all(np.isfinite(array).all() for array in read_weights(target).values())
