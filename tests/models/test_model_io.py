"""Saving, loading, fine-tuning from pretraining, the Auto classes, and every refusal."""

import numpy as np
import pytest
import yaml

from mindformers_vit.checkpoint.weights import read_weights, write_weights
from mindformers_vit.errors import CheckpointError, ConfigError
from mindformers_vit.models.auto import AutoConfig, AutoModel, AutoProcessor
from mindformers_vit.models.mae.mae_config import ViTMAEConfig
from mindformers_vit.models.vit.vit_config import ViTConfig
from mindformers_vit.registry import families
from tests.models.conftest import MAE_TINY, VIT_TINY


@pytest.fixture(scope="module")
def vit_class():
    from mindformers_vit.models.vit.vit import ViTForImageClassification

    return ViTForImageClassification


@pytest.fixture(scope="module")
def load_weights():
    from mindformers_vit.models.model_io import load_weights

    return load_weights


def same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


@pytest.mark.parametrize("save_format", ["ckpt", "safetensors"])
def test_a_saved_network_comes_back(vit_class, tmp_path, save_format):
    labels = {i: f"class {i}" for i in range(10)}
    network = vit_class(ViTConfig(**VIT_TINY, id2label=labels), seed=5)
    folder = network.save_pretrained(tmp_path / "saved", save_format=save_format)
    files = sorted(path.name for path in folder.iterdir())
    assert files == sorted(["mindspore_model.yaml", f"mindspore_model.{save_format}"])
    for place in (folder, folder / "mindspore_model.yaml", folder / files[0], folder / files[1]):
        again = AutoModel.from_pretrained(place)
        assert again.config == network.config
        same(again.state_arrays(), network.state_arrays())
    assert AutoConfig.from_pretrained(folder).id2label == labels
    assert ViTConfig.from_pretrained(folder) == network.config
    assert AutoProcessor.from_pretrained(folder).image_processor.size == 32


def test_saving_in_the_other_format_replaces_the_first(vit_class, tmp_path):
    network = vit_class(ViTConfig(**VIT_TINY))
    network.save_pretrained(tmp_path, "net", save_format="ckpt")
    network.save_pretrained(tmp_path, "net", save_format="safetensors")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.safetensors", "net.yaml"]
    with pytest.raises(
        CheckpointError, match="save_format: 'h5' given; allowed: safetensors, ckpt"
    ):
        network.save_pretrained(tmp_path, save_format="h5")


def test_fine_tuning_from_the_encoder(vit_class, load_weights, converted):
    file = converted("mae_pretrain_tiny", "encoder_only")
    network = vit_class(ViTConfig(**VIT_TINY | {"num_hidden_layers": 2}))
    report = load_weights(network, file, new_parts=True)
    assert set(report.new) == {"head.weight", "head.bias", "fc_norm.gamma", "fc_norm.beta"}
    assert set(report.unused) == {"norm.gamma", "norm.beta"}
    state, given = network.state_arrays(), read_weights(file)
    np.testing.assert_array_equal(state["pos_embed"], given["pos_embed"])
    assert 1e-5 < state["head.weight"].std() < 3e-5
    assert not state["head.bias"].any()


def test_fine_tuning_from_encoder_and_decoder_with_the_class_token(
    vit_class, load_weights, converted
):
    settings = VIT_TINY | {"num_hidden_layers": 2, "use_mean_pooling": False}
    report = load_weights(
        vit_class(ViTConfig(**settings)), converted("mae_pretrain_tiny"), new_parts=True
    )
    assert set(report.new) == {"head.weight", "head.bias"}
    assert "norm.gamma" in report.loaded
    assert all(n == "mask_token" or n.startswith("decoder_") for n in report.unused)


def test_another_grid_resizes_the_position_embedding(vit_class, load_weights, converted):
    network = vit_class(ViTConfig(**VIT_TINY | {"image_size": [48, 64]}))
    report = load_weights(network, converted("vit_mean_pool_tiny"))
    assert report.resized == ("pos_embed",)
    assert network.pos_embed.shape == (1, 49, 48)
    arrays = read_weights(converted("vit_mean_pool_tiny"))
    arrays["pos_embed"] = arrays["pos_embed"][:, :-2]
    with pytest.raises(CheckpointError, match=r"pos_embed: the file has shape \(1, 15, 48\)"):
        load_weights(network, arrays)


def test_a_pretraining_file_is_no_classifier(vit_class, load_weights, converted):
    network = vit_class(ViTConfig(**VIT_TINY | {"num_hidden_layers": 2}))
    before = network.state_arrays()
    with pytest.raises(CheckpointError, match=r"no classification head.*Fine-tune from it"):
        load_weights(network, converted("mae_pretrain_tiny"))
    same(network.state_arrays(), before)


def test_another_number_of_classes_needs_permission(vit_class, load_weights, converted):
    file = converted("vit_mean_pool_tiny")
    network = vit_class(ViTConfig(**VIT_TINY | {"num_labels": 3}))
    with pytest.raises(CheckpointError, match=r"~ head.weight: file \(10, 48\), network \(3, 48\)"):
        load_weights(network, file)
    report = load_weights(network, file, new_parts=True)
    assert report.new == ("head.bias", "head.weight")
    kept = load_weights(vit_class(ViTConfig(**VIT_TINY)), file, new_parts=True)
    assert kept.new == ()


def test_pooling_that_does_not_fit_is_refused(vit_class, load_weights, converted):
    network = vit_class(ViTConfig(**VIT_TINY, use_mean_pooling=False))
    with pytest.raises(CheckpointError, match=r"- norm.gamma"):
        load_weights(network, converted("vit_mean_pool_tiny"), new_parts=True)


def test_an_encoder_alone_is_no_autoencoder(mae_tiny, load_weights, converted):
    network = type(mae_tiny)(ViTMAEConfig(**MAE_TINY), seed=3)
    file = converted("mae_pretrain_tiny", "encoder_only")
    with pytest.raises(CheckpointError, match=r"holds the encoder only.*_full.pth"):
        load_weights(network, file)
    report = load_weights(network, file, new_parts=True)
    assert all(n == "mask_token" or n.startswith("decoder_") for n in report.new)
    assert "decoder_pos_embed" in report.new


def test_an_autoencoder_at_another_size_makes_its_positions_anew(mae_tiny, load_weights, converted):
    network = type(mae_tiny)(ViTMAEConfig(**MAE_TINY | {"image_size": 48}))
    made = network.state_arrays()["pos_embed"]
    report = load_weights(network, converted("mae_pretrain_tiny"))
    assert report.resized == ("decoder_pos_embed", "pos_embed")
    np.testing.assert_array_equal(network.state_arrays()["pos_embed"], made)


def test_overrides_reach_the_network(mae_tiny, vit_class, tmp_path):
    mae_tiny.save_pretrained(tmp_path / "mae")
    again = AutoModel.from_pretrained(tmp_path / "mae", mask_ratio=0.5)
    assert again.num_visible == 8
    with pytest.raises(ConfigError, match="mask_rato: unknown key"):
        AutoModel.from_pretrained(tmp_path / "mae", mask_rato=0.5)
    with pytest.raises(ConfigError, match="is a ViTMAEForPreTraining, no ViTForImageClass"):
        vit_class.from_pretrained(tmp_path / "mae")
    with pytest.raises(ConfigError, match="is a ViTMAEConfig, no ViTConfig"):
        ViTConfig.from_pretrained(tmp_path / "mae")


def test_a_name_without_weights_says_where_they_belong(monkeypatch, tmp_path):
    monkeypatch.setenv("CHECKPOINT_DOWNLOAD_FOLDER", str(tmp_path))
    with pytest.raises(CheckpointError) as error:
        AutoModel.from_pretrained("mae_vit_tiny_p8")
    text = str(error.value)
    assert f"{tmp_path}/mae/mae_vit_tiny_p8.safetensors" in text
    assert f"{tmp_path}/mae/mae_vit_tiny_p8.ckpt" in text
    assert "mindformers_vit/models/mae/convert_weight.py --torch_path" in text
    network = AutoModel.from_pretrained("mae_vit_tiny_p8", download_checkpoint=False)
    same(network.state_arrays(), AutoModel.from_config("mae_vit_tiny_p8").state_arrays())
    other = AutoModel.from_config("mae_vit_tiny_p8", seed=1).state_arrays()
    write_weights(tmp_path / "mae" / "mae_vit_tiny_p8.safetensors", other)
    same(AutoModel.from_pretrained("mae_vit_tiny_p8").state_arrays(), other)


def test_an_output_directory_means_its_finished_network(tmp_path):
    network = AutoModel.from_config("vit_tiny_p8", seed=3)
    network.save_pretrained(tmp_path / "checkpoint_network" / "rank_0", save_name="network")
    (tmp_path / "config_train.yaml").write_text("model: {arch: {type: ViTForImageClassification}}")
    same(AutoModel.from_pretrained(tmp_path).state_arrays(), network.state_arrays())


def test_a_run_yaml_names_its_weights(monkeypatch, tmp_path, converted):
    run = {
        "run_mode": "eval",
        "model": {
            "arch": {"type": "ViTForImageClassification"},
            "model_config": {
                "type": "ViTConfig",
                **VIT_TINY,
                "checkpoint_name_or_path": str(converted("vit_mean_pool_tiny")),
            },
        },
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(run))
    network = AutoModel.from_pretrained(path)
    expected = read_weights(converted("vit_mean_pool_tiny"))
    np.testing.assert_array_equal(network.state_arrays()["head.weight"], expected["head.weight"])
    assert AutoModel.from_config(run["model"]).config == network.config


@pytest.mark.fast
def test_places_that_hold_no_model(tmp_path):
    with pytest.raises(CheckpointError, match=r"exactly one .yaml .* found: none"):
        AutoConfig.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="no such file or directory"):
        AutoConfig.from_pretrained(tmp_path / "missing")
    with pytest.raises(CheckpointError, match="no such file or directory"):
        AutoConfig.from_pretrained("missing.yaml")
    with pytest.raises(ConfigError, match=r"unknown model 'mae_vit_bas_p16' \(did you mean"):
        AutoConfig.from_pretrained("mae_vit_bas_p16")
    (tmp_path / "w.ckpt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"has no settings: w.yaml is expected beside it"):
        AutoConfig.from_pretrained(tmp_path / "w.ckpt")
    (tmp_path / "w.txt").write_text("")
    with pytest.raises(CheckpointError, match=r"expected a .yaml, .safetensors or .ckpt file"):
        AutoConfig.from_pretrained(tmp_path / "w.txt")
    (tmp_path / "w.yaml").write_text("model: {model_config: {}}")
    with pytest.raises(ConfigError, match=r"model.arch.type: missing"):
        AutoConfig.from_pretrained(tmp_path)
    (tmp_path / "w.yaml").write_text("model: {arch: {type: ViTMAEForPreTraining}}")
    (tmp_path / "w.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"both w.safetensors and w.ckpt are there"):
        AutoConfig.from_pretrained(tmp_path)
    (tmp_path / "w2.yaml").write_text("")
    with pytest.raises(CheckpointError, match=r"found: w.yaml, w2.yaml"):
        AutoConfig.from_pretrained(tmp_path)


@pytest.mark.fast
def test_auto_classes_list_names_and_are_not_constructed(capsys):
    for auto in (AutoConfig, AutoModel, AutoProcessor):
        with pytest.raises(ConfigError, match=rf"{auto.__name__} is not constructed; call"):
            auto("mae_vit_base_p16")
        names = auto.get_support_list()
        assert "mae_vit_base_p16" in names["mae"]
        assert "vit_base_patch16_224" in names["vit"]
    AutoModel.show_support_list()
    assert "vit_base_p16  (also vit_base_patch16, vit_base_patch16_224)" in capsys.readouterr().out


@pytest.mark.fast
def test_auto_config_and_processor_by_name():
    config = AutoConfig.from_pretrained("vit_base_patch16_224", num_labels=10)
    assert isinstance(config, ViTConfig)
    assert (config.num_labels, config.drop_path_rate) == (10, 0.1)
    processor = AutoProcessor.from_pretrained("mindspore/mae_vit_tiny_p8")
    assert type(processor).__name__ == "ViTMAEProcessor"
    assert processor.image_processor.size == 48
    with pytest.raises(ConfigError, match=r"AutoModel.from_config: int given; allowed: ") as error:
        AutoModel.from_config(3)
    assert all(family.config_class.__name__ in str(error.value) for family in families())
