"""Two pages followed from top to bottom, as a person does: every block in its order, for real."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mindformers_vit.checkpoint.weights import write_weights
from mindformers_vit.models.auto import AutoModel
from mindformers_vit.models.vit import convert_weight as vit
from mindformers_vit.models.vit.vit_config import ViTConfig
from tests.engine import lab
from tests.models.test_mindformers_weights import renamed
from tests.pages.blocks import DOCS, ROOT, Block, blocks

NOT_FOLLOWED = r"python -m venv|source |pip install|python -m mindformers_vit doctor"  # to install
SYNSETS = ("n01440764", "n01443537", "n01484850")
SMALL = {  # in MindFormers' yamls: a ViT-B at 224 pixels becomes the tiny one at 48
    "image_size: 224": "image_size: 48", "size: 224": "size: 48", "size: 256": "size: 56",
    "patch_size: 16": "patch_size: 8", "input_size: 224": "input_size: 48",
    "decoder_hidden_size: 512": "decoder_hidden_size: 64",
    "decoder_num_hidden_layers: 8": "decoder_num_hidden_layers: 1",
    "decoder_num_attention_heads: 16": "decoder_num_attention_heads: 4",
    "decoder_intermediate_size: 2048": "decoder_intermediate_size: 256",
    " hidden_size: 768": " hidden_size: 128", " num_hidden_layers: 12": " num_hidden_layers: 3",
    " num_attention_heads: 12": " num_attention_heads: 4",
    " intermediate_size: 3072": " intermediate_size: 512",
    "num_labels: 1000": "num_labels: 3", "num_classes: 1000": "num_classes: 3",
    "batch_size: 64": "batch_size: 3", "batch_size: 32": "batch_size: 2",
    "epochs: 100": "epochs: 6", "num_parallel_workers: 8": "num_parallel_workers: 0",
}  # fmt: skip
TINY = {"image_size": 48, "patch_size": 8, "hidden_size": 128, "num_hidden_layers": 3,
        "num_attention_heads": 4, "intermediate_size": 512, "num_labels": 3}  # fmt: skip


@pytest.fixture
def clone(tmp_path) -> Path:
    """A folder like a fresh clone."""
    for name in ("configs", "tools", "scripts", "mindformers_vit", "run_mindformer.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def follow(page: str, folder: Path) -> list[tuple[Block, str]]:
    """Do what the page says; (block, what it printed on stdout) of each that is a command."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(folder)}
    done = []
    for block in blocks(DOCS / page):
        if block.file:
            (folder / block.file).write_text(block.text)
        if block.language not in ("bash", "python"):
            continue
        text = re.sub(rf"^({NOT_FOLLOWED}).*$", "", block.text, flags=re.M)
        command = ["bash", "-euo", "pipefail"] if block.language == "bash" else [sys.executable]
        ran = subprocess.run(
            [*command, "-c", text], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert ran.returncode == 0, f"{text}\n{ran.stderr}"
        done.append((block, ran.stdout + "\n---\n" + ran.stderr))
    return done


def test_getting_started(clone):
    said = "".join(text for _, text in follow("getting_started.md", clone))
    (shown,) = [b.text for b in blocks(DOCS / "getting_started.md") if "Top1 Accuracy" in b.text]
    pattern = re.sub(r"\d+\.\d+", r"(\\d+\\.\\d+)", shown.strip())
    top1, top5 = map(float, re.search(pattern, said).groups())
    assert 100 / 12 < top1 < top5  # better than chance
    assert "960 images in 12 classes, 0 cannot be read\n" in said
    assert "my_run.yaml: ok\n" in said and "nothing wrong found\n" in said
    assert "10 epochs x 9 steps of 25 x 1 images = 90 steps" in said
    assert len(list((clone / "painted").glob("*_reconstruction.png"))) == 10
    assert "<svg" in (clone / "pretrain" / "report.html").read_text()
    assert said.count("'label': ") == 3


@pytest.fixture
def person(clone) -> Path:
    """Someone with MindFormers' two yamls, pictures, and a checkpoint that it has saved."""
    for path in (ROOT / "tests" / "mindformers_yaml").iterdir():
        text = path.read_text()
        for before, after in SMALL.items():
            text = text.replace(before, after)
        (clone / "old").mkdir(exist_ok=True)
        (clone / "old" / path.name).write_text(text)
    for split, each in (("train", 4), ("val", 3)):
        folders = lab.class_folders(clone / "imageNet-1k" / split, each)
        for own, synset in zip(lab.CLASSES, SYNSETS, strict=True):
            (folders / own).rename(folders / synset)
    picture = clone / "imageNet-1k" / "val" / SYNSETS[0] / "000.jpg"
    shutil.move(picture, picture.with_name("ILSVRC2012_val_00000293.JPEG"))
    network = AutoModel.from_config(ViTConfig(**TINY), seed=3)
    write_weights(
        clone / "old" / "vit_base_p16.ckpt", renamed(network.state_arrays(), vit.CONVERTER)
    )
    return clone


def test_moving_over(person):
    done = follow("moving_over.md", person)
    checked, converted, evaluated, trained, script = (text for _, text in done)
    assert checked.count(": ok\n") == 2 and checked.count("warning: in this yaml:\n") == 2
    assert "layout    MindFormers, ViTForImageClassification" in converted
    assert re.search(r"Top1 Accuracy +\d+\.\d\d %\n", evaluated)
    assert "9 images evaluated, each once" in evaluated
    assert "Top1 Accuracy = {'Top1 Accuracy': " in evaluated
    assert "the learning rate only rises, to 25 % of its peak" in trained
    for output, last in (("mae", "mindformers_rank_0-10_4"), ("vit", "mindformers_rank_0-6_6")):
        assert (person / output / "finished.json").is_file()
        assert lab.checkpoints(person / output)[-1].name == last
    assert script.count("'label': 'n0") == 3
