"""The demo's answers, without its page."""

import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax

from mindformers_vit import cli
from mindformers_vit.errors import DataError
from tests.engine import lab
from tests.models.conftest import MAE_TINY, VIT_TINY

CONFIGS = {
    "mae": ("ViTMAEForPreTraining", MAE_TINY),
    "vit": ("ViTForImageClassification", {**VIT_TINY, "num_hidden_layers": 1, "num_labels": 7}),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Tiny networks of both kinds, the first as a run leaves it."""
    from mindformers_vit.models.auto import AutoModel

    root, found = tmp_path_factory.mktemp("saved"), {}
    for name, (arch, settings) in CONFIGS.items():
        model = AutoModel.from_config({"arch": {"type": arch}, "model_config": settings})
        below = "checkpoint_network/rank_0" if name == "mae" else "."
        model.save_pretrained(root / name / below, save_name="network")
        found[name] = str(root / name)
    return found


@pytest.fixture(scope="module")
def studios(saved):
    from mindformers_vit.demo.studio import Studio

    with lab.own_process():
        yield {name: Studio(path) for name, path in saved.items()}


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    lab.picture(3).save(path)
    return str(path)


@pytest.mark.parametrize(("ratio", "hidden"), [(0.75, 12), (0.5, 8), (0.05, 1), (0.95, 15)])
def test_as_many_patches_are_hidden_as_asked_for(studios, photo, ratio, hidden):
    found = studios["mae"].paint(photo, ratio)
    assert found.words.startswith(f"{hidden} of 16 patches hidden, loss ")
    side = found.masked.width // 4
    patches = np.asarray(found.masked).reshape(4, side, 4, side, 3).swapaxes(1, 2)
    assert sum(bool((patch == 128).all()) for row in patches for patch in row) == hidden
    shown, painted = np.asarray(found.original), np.asarray(found.painted)
    visible = (np.asarray(found.masked) != 128).any(-1)
    assert (painted[visible] == shown[visible]).all()
    assert (painted[~visible] != shown[~visible]).any()


def test_another_seed_hides_other_patches_and_the_same_one_the_same(studios, photo):
    first, again, other = (studios["mae"].paint(photo, 0.5, seed) for seed in (1, 1, 2))
    assert first.words == again.words
    assert (np.asarray(first.masked) == np.asarray(again.masked)).all()
    assert (np.asarray(first.masked) != np.asarray(other.masked)).any()


def test_five_classes_and_a_map(studios, photo):
    found = studios["vit"].name_it(photo)
    assert list(found.scores) == [f"LABEL_{k}" for k in map(int, (n[6:] for n in found.scores))]
    values = list(found.scores.values())
    assert len(values) == 5 and values == sorted(values, reverse=True) and sum(values) < 1
    assert found.attention.size == (384, 384)


def test_the_recorded_attention_is_softmax_of_q_and_k(studios, photo):
    """Of a network with one block, computed here from its weights alone."""
    studio = studios["vit"]
    studio.name_it(photo)
    network = studio._network
    weights = network.state_arrays()
    (batch,) = studio._pipeline.batches([Image.open(photo)])
    config = network.config
    patch, width, heads = config.patch_size, config.hidden_size, config.num_attention_heads
    grid = batch.pixel_values[0].reshape(3, *(2 * (config.image_size // patch, patch)))
    cells = grid.transpose(1, 3, 0, 2, 4).reshape(config.num_patches, -1)  # (N, C·P·P)
    kernel = weights["patch_embed.proj.weight"].reshape(width, -1)
    tokens = np.concatenate(
        [weights["cls_token"][0], cells @ kernel.T + weights["patch_embed.proj.bias"]]
    )
    tokens = tokens + weights["pos_embed"][0]  # (T, D)
    norm = (tokens - tokens.mean(-1, keepdims=True)) / np.sqrt(
        tokens.var(-1, keepdims=True) + config.layer_norm_eps
    )
    norm = norm * weights["blocks.0.norm1.gamma"] + weights["blocks.0.norm1.beta"]
    qkv = norm @ weights["blocks.0.attn.qkv.weight"].T + weights["blocks.0.attn.qkv.bias"]
    q, k = qkv.reshape(len(tokens), 3, heads, -1).transpose(1, 2, 0, 3)[:2]  # (h, T, d)
    wanted = softmax(q @ k.swapaxes(1, 2) / np.sqrt(width / heads), axis=-1)
    (recorder,) = studio._recorders
    np.testing.assert_allclose(recorder.seen[0], wanted, atol=1e-5)


@pytest.mark.parametrize("name", ["beit_tiny_p8", "lvvit_tiny_p8", "smlpnet_tiny_64"])
def test_every_family_of_classifiers_answers(tmp_path, photo, name):
    """Without attention there is no map."""
    from mindformers_vit.demo.studio import Studio
    from mindformers_vit.models.auto import AutoModel

    with lab.own_process():
        AutoModel.from_config(name).save_pretrained(tmp_path / name, save_name="network")
        found = Studio(str(tmp_path / name)).name_it(photo)
    assert len(found.scores) == 5
    assert (found.attention is None) == name.startswith("smlpnet")


def test_rollout_by_hand():
    from mindformers_vit.demo.attention import rollout

    first = np.array([[[0.2, 0.8, 0.0], [0.0, 0.5, 0.5], [1.0, 0.0, 0.0]]])  # (h=1, T=3, T)
    second = np.array([[[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    # row of the class token: half itself, half token 2, through the first layer with its residual
    row = 0.5 * np.array([0.6, 0.4, 0.0]) + 0.5 * np.array([0.5, 0.0, 0.5])
    found = rollout([first, second], from_class_token=True)
    np.testing.assert_allclose(found, row[1:] / row[1:].max(), rtol=1e-6)
    patches = (np.array([0.75, 0.25]) + np.array([0.0, 0.5])) / 2
    found = rollout([first, second], from_class_token=False)
    np.testing.assert_allclose(found, patches / patches.max(), rtol=1e-6)


@pytest.mark.parametrize(
    ("content", "said"), [(b"no picture", "is not an image"), (None, "no picture given")]
)
def test_what_is_no_picture_is_named(studios, tmp_path, content, said):
    path = tmp_path / "holiday.jpg"
    if content is not None:
        path.write_bytes(content)
    for ask in (lambda p: studios["mae"].paint(p, 0.5), studios["vit"].name_it):
        with pytest.raises(DataError, match=said) as error:
            ask(str(path) if content else "")
        assert str(tmp_path) not in str(error.value)


@pytest.mark.fast
def test_without_gradio_it_says_how_to_get_it(capsys, monkeypatch):
    from mindformers_vit.demo import command

    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    with lab.own_process():
        assert cli.main(["demo", "--load_checkpoint", "x"]) == 2
    said = capsys.readouterr().err
    assert said == "error: demo needs gradio: pip install 'mindformers_vit[demo]'\n"
