"""Hugging Face folders: the reference's numbers, both directions, transformers on the result."""

import json
import logging

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file

from mindformers_vit.errors import CheckpointError, ConfigError
from mindformers_vit.models.auto import AutoConfig, AutoModel, AutoProcessor
from mindformers_vit.models.beit import convert_weight as beit
from mindformers_vit.models.mae import convert_weight as mae
from mindformers_vit.models.vit import convert_weight as vit
from tests.models.conftest import GOLDENS, UNTOLD, golden

SIZES = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "image_size": 32,
    "patch_size": 8,
}
LABELS = {0: "cat", 1: "dog", 2: "crane"}
BEITS = {
    "per_block": {"use_relative_position_bias": True, "use_mask_token": True},
    "shared_no_scale": {
        "use_shared_relative_position_bias": True,
        "use_mean_pooling": False,
        "layer_scale_init_value": 0,
    },
}


def tensors_of(folder):
    return load_file(folder / "model.safetensors")


def same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def loaded(model_class, folder):
    """The network of transformers, which must find every tensor and no other."""
    network, info = model_class.from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager"
    )
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return network.eval()


@pytest.mark.fast
@pytest.mark.parametrize(
    ("module", "name"), [(mae, "hf_vit_mae_tiny"), (vit, "hf_vit_tiny")], ids=["mae", "vit"]
)
def test_there_and_back_to_the_bit(module, name, tmp_path):
    ours, folder = tmp_path / "a.safetensors", tmp_path / "folder"
    report = module.convert_weight(GOLDENS / name, ours)
    assert report.layout == f"transformers, {module.FAMILY.arch}"
    module.convert_weight(folder, ours, reversed=True)
    same(tensors_of(folder), tensors_of(GOLDENS / name))
    written = json.loads((folder / "config.json").read_text())
    original = json.loads((GOLDENS / name / "config.json").read_text())
    for key in (*SIZES, "layer_norm_eps", "architectures", "model_type", "qkv_bias"):
        assert written[key] == original[key], key
    assert AutoConfig.from_pretrained(ours).layer_norm_eps == 1e-12
    files = sorted(path.name for path in folder.iterdir())
    assert files == ["config.json", "model.safetensors", "preprocessor_config.json"]


def test_golden_mae(tmp_path):
    import mindspore as ms

    mae.convert_weight(GOLDENS / "hf_vit_mae_tiny", tmp_path / "a.safetensors")
    network, case = AutoModel.from_pretrained(tmp_path), golden("hf_vit_mae_tiny")
    loss, pred, mask = network(ms.Tensor(case["images"]), ms.Tensor(case["noise"]))
    assert abs(float(loss) - case["loss"]) < 1e-5
    np.testing.assert_allclose(pred.asnumpy(), case["pred"], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(mask.asnumpy(), case["mask"])


def test_golden_vit(tmp_path):
    import mindspore as ms

    vit.convert_weight(GOLDENS / "hf_vit_tiny", tmp_path / "a.ckpt")
    network, case = AutoModel.from_pretrained(tmp_path / "a.ckpt"), golden("hf_vit_tiny")
    assert network.config.id2label is None  # LABEL_0 and the like are no names
    logits = network(ms.Tensor(case["images"])).asnumpy()
    np.testing.assert_allclose(logits, case["logits"], rtol=0, atol=1e-5)


def test_transformers_reads_what_we_write(tmp_path):
    import transformers

    mae.convert_weight(GOLDENS / "hf_vit_mae_tiny", tmp_path / "mae.safetensors")
    mae.convert_weight(tmp_path / "mae", tmp_path / "mae.safetensors", reversed=True)
    case = {name: torch.tensor(value) for name, value in golden("hf_vit_mae_tiny").items()}
    network = loaded(transformers.ViTMAEForPreTraining, tmp_path / "mae")
    out = network(pixel_values=case["images"], noise=case["noise"])
    torch.testing.assert_close(out.loss, case["loss"], rtol=0, atol=1e-5)
    vit.convert_weight(GOLDENS / "hf_vit_tiny", tmp_path / "vit.safetensors")
    vit.convert_weight(tmp_path / "vit", tmp_path / "vit.safetensors", reversed=True)
    case = {name: torch.tensor(value) for name, value in golden("hf_vit_tiny").items()}
    network = loaded(transformers.ViTForImageClassification, tmp_path / "vit")
    torch.testing.assert_close(network(case["images"]).logits, case["logits"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", BEITS)
def test_beit_against_transformers(name, tmp_path):
    import mindspore as ms
    import transformers

    torch.manual_seed(0)
    settings = {
        **SIZES,
        **BEITS[name],
        "id2label": LABELS,
        "use_absolute_position_embeddings": False,
    }
    theirs = transformers.BeitForImageClassification(transformers.BeitConfig(**settings)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.2)
    theirs.save_pretrained(tmp_path / "theirs")
    report = beit.convert_weight(tmp_path / "theirs", tmp_path / "a" / "net.safetensors")
    dropped = [row.theirs for row in report.fit.moved if row.ours is None]
    with_mask = "use_mask_token" in BEITS[name]
    assert dropped == (["beit.embeddings.mask_token"] if with_mask else [])
    images = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    logits = theirs(torch.tensor(images)).logits.detach().numpy()
    network = AutoModel.from_pretrained(tmp_path / "a")
    assert network.config.id2label == LABELS
    np.testing.assert_allclose(network(ms.Tensor(images)).asnumpy(), logits, rtol=0, atol=1e-5)

    beit.convert_weight(tmp_path / "again", tmp_path / "a" / "net.safetensors", reversed=True)
    kept = {n: a for n, a in tensors_of(tmp_path / "theirs").items() if "mask_token" not in n}
    same(tensors_of(tmp_path / "again"), kept)
    again = loaded(transformers.BeitForImageClassification, tmp_path / "again")
    assert again.config.id2label == LABELS
    repeated = again(torch.tensor(images)).logits.detach().numpy()
    np.testing.assert_allclose(repeated, logits, rtol=0, atol=1e-6)


def test_a_pretrained_beit_of_transformers(tmp_path):
    import transformers

    settings = {**SIZES, "use_shared_relative_position_bias": True, "vocab_size": 64}
    config = transformers.BeitConfig(**settings, use_mask_token=True)
    transformers.BeitForMaskedImageModeling(config).save_pretrained(tmp_path / "theirs")
    report = beit.convert_weight(tmp_path / "theirs", tmp_path / "a.safetensors")
    assert report.layout == "transformers, BeitForMaskedImageModeling"
    text = str(report)
    assert "  dropped lm_head.weight (1)\n" in text
    assert "  new     head.* (2)\n" in text


def test_the_image_processor_gives_the_same_pixels(tmp_path):
    import transformers
    from PIL import Image

    vit.convert_weight(GOLDENS / "hf_vit_tiny", tmp_path / "a.safetensors")
    vit.convert_weight(tmp_path / "hf", tmp_path / "a.safetensors", reversed=True)
    theirs = transformers.AutoImageProcessor.from_pretrained(tmp_path / "hf", use_fast=False)
    image = Image.open(GOLDENS / "preprocess" / "image0.jpg").convert("RGB")
    pixels = theirs(image, return_tensors="np")["pixel_values"]
    ours = AutoProcessor.from_pretrained(tmp_path / "a.safetensors")
    np.testing.assert_allclose(pixels, ours(image), rtol=0, atol=1e-5)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (  # as google/vit-base-patch16-224 has it: squeezed, bilinear, 0.5
            {
                "size": {"height": 32, "width": 32},
                "resample": 2,
                "image_mean": [0.5] * 3,
                "image_std": [0.5] * 3,
            },
            {"resize": [32, 32], "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3},
        ),
        ({"size": 40, "do_normalize": False}, {"resize": [40, 40], "mean": [0.0] * 3}),
        ({"size": {"shortest_edge": 36}, "crop_size": 32}, {"resize": 36}),
        ({}, {"resize": None, "interpolation": "bicubic"}),
    ],
)
def test_preprocessing_beside_the_weights_is_read(values, expected, tmp_path, caplog):
    caplog.set_level(logging.INFO, "mindformers_vit")
    folder = copied("hf_vit_tiny", tmp_path)
    (folder / "preprocessor_config.json").write_text(json.dumps(values))
    vit.convert_weight(folder, tmp_path / "a.safetensors")
    section = AutoProcessor.from_pretrained(tmp_path / "a.yaml").to_dict()["image_processor"]
    assert {key: section[key] for key in expected} == expected
    assert section["size"] == 32
    told = "tells mean and std: [0.485, 0.456, 0.406] and [0.229, 0.224, 0.225] are taken"
    assert (told in caplog.text) == ("mean" not in expected)


@pytest.mark.fast
@pytest.mark.parametrize(
    "values", [{"do_rescale": False}, {"rescale_factor": 1 / 127.5}, {"rescale_factor": "x"}]
)
def test_pixels_that_are_not_divided_by_255_are_refused(values, tmp_path):
    folder = copied("hf_vit_tiny", tmp_path)
    (folder / "preprocessor_config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="pixels are always divided by 255 here"):
        vit.convert_weight(folder, tmp_path / "a.safetensors")
    assert not list(tmp_path.glob("a.*"))


@pytest.mark.fast
@pytest.mark.parametrize("crop_pct", [0.9, "x"])
def test_a_folder_of_timm_tells_its_preprocessing(crop_pct, tmp_path):
    weights = torch.load(GOLDENS / "vit_cls_token_tiny/weights.pth", weights_only=True)["model"]
    half = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear"}
    cfg = half | {"input_size": [3, 32, 32], "crop_pct": crop_pct}
    folder = tmp_path / "timm"
    folder.mkdir()
    save_file(weights, folder / "model.safetensors")
    config = {"architecture": "vit_tiny_patch8_32", "num_classes": 10, "pretrained_cfg": cfg}
    (folder / "config.json").write_text(json.dumps(config))
    vit.convert_weight(folder, tmp_path / "a.safetensors", settings=UNTOLD["vit"])
    section = AutoProcessor.from_pretrained(tmp_path / "a.yaml").to_dict()["image_processor"]
    assert {key: section[key] for key in half} == half
    assert section["resize"] == (35 if crop_pct == 0.9 else None)


def copied(name, tmp_path, **changes):
    """A golden's folder with other values in its config.json."""
    folder = tmp_path / "changed"
    folder.mkdir()
    config = json.loads((GOLDENS / name / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes((GOLDENS / name / "model.safetensors").read_bytes())
    return folder


@pytest.mark.fast
def test_a_folder_with_a_pickle(tmp_path):
    tensors = {n: torch.tensor(a) for n, a in tensors_of(GOLDENS / "hf_vit_tiny").items()}
    folder = copied("hf_vit_tiny", tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    vit.convert_weight(folder, tmp_path / "a.safetensors")
    vit.convert_weight(GOLDENS / "hf_vit_tiny", tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


@pytest.mark.fast
@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"num_hidden_layers": 3}, "the settings say num_hidden_layers 3, but the tensors have 2"),
        ({"num_attention_heads": 5}, "hidden_size 48 is not divisible by num_attention_heads 5"),
        ({"hidden_act": "relu"}, "hidden_act: input should be 'gelu'"),
        ({"layer_norm_eps": "x"}, "layer_norm_eps"),
        ({"id2label": {"0": "cat"}}, "id2label names 1 classes; num_labels 10 needs"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(changes, text, tmp_path):
    folder = copied("hf_vit_tiny", tmp_path, **changes)
    with pytest.raises(CheckpointError, match=text):
        vit.convert_weight(folder, tmp_path / "a.safetensors")
    assert not list(tmp_path.glob("a.*"))


@pytest.mark.fast
def test_folders_that_are_not_whole(tmp_path):
    folder = copied("hf_vit_tiny", tmp_path)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read as JSON"):
        vit.convert_weight(folder, tmp_path / "a.safetensors")
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config.json': no such file; it says what"):
        vit.convert_weight(folder, tmp_path / "a.safetensors")
    (folder / "model.safetensors").rename(folder / "model.safetensors.index.json")
    with pytest.raises(CheckpointError, match="in several files"):
        vit.convert_weight(folder, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"holds config.json and model.safetensors or"):
        vit.convert_weight(tmp_path, tmp_path / "a.safetensors")


@pytest.mark.fast
def test_other_networks_of_transformers_are_refused_by_name(tmp_path):
    folder = copied("hf_vit_tiny", tmp_path)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"architectures": ["ViTModel"]}))
    said = r"config.json says ViTModel, not read here; of transformers these are: Beit.*MaskedIm"
    with pytest.raises(CheckpointError, match=said):
        vit.convert_weight(folder, tmp_path / "a.safetensors")


@pytest.mark.fast
def test_what_transformers_does_not_have_is_not_written_for_it(tmp_path):
    source = GOLDENS / "vit_mean_pool_tiny/weights.pth"
    vit.convert_weight(source, tmp_path / "a.safetensors", settings=UNTOLD["vit"])
    with pytest.raises(CheckpointError, match=r"\+ fc_norm.gamma \(48,\): not in the table"):
        vit.convert_weight(tmp_path / "hf", tmp_path / "a.safetensors", reversed=True)
    assert not (tmp_path / "hf").exists()
    with pytest.raises(ConfigError, match="--layout: 'tf' given; allowed: torch, huggingface"):
        vit.convert_weight(tmp_path / "hf", tmp_path / "a.safetensors", reversed=True, layout="tf")
    vit.convert_weight(tmp_path / "hf", tmp_path / "a.safetensors", reversed=True, layout="torch")
    assert (tmp_path / "hf").is_file()
