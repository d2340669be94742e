"""`models`: the numbers against those of the papers and of the publishers."""

import pytest

from mindformers_vit import cli
from mindformers_vit.models import catalogue
from mindformers_vit.models.cost import multiply_adds
from mindformers_vit.models.published import PUBLISHED
from mindformers_vit.registry import families, find_model

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("name", "parameters", "giga"),
    [
        ("vit_base_p16", 86_567_656, 17.56),
        ("vit_large_p16", 304_326_632, 61.55),
        ("vit_huge_p14", 632_045_800, 167.30),
        ("beit_base_p16_224", 86_530_984, 17.56),
        ("lvvit_s", 26_151_824, 6.55),
        ("smlpnet_tiny", 24_123_584, 4.99),
        ("smlpnet_small", 48_558_136, 10.31),
        ("smlpnet_base", 65_880_408, 13.99),
    ],
)
def test_size_and_cost(name, parameters, giga):
    family, _ = find_model(name)
    (entry,) = [e for e in catalogue.entries(family) if e.name == name]
    assert entry.parameters == parameters
    assert round(entry.multiply_adds / 1e9, 2) == giga


def test_the_cost_of_a_transformer_by_hand():
    """One block of width 4 with 2 x 2 patches of 2 x 2 pixels, one channel, three classes."""
    family, _ = find_model("vit_base_p16")
    config = family.config_class(
        image_size=4, patch_size=2, num_channels=1, hidden_size=4, num_hidden_layers=1,
        num_attention_heads=1, intermediate_size=8, num_labels=3,
    )  # fmt: skip
    patches, block, attention, head = (
        4 * (4 * 4),
        5 * (12 * 4 + 4 * 4 + 2 * 8 * 4),
        2 * 5 * 5 * 4,
        12,
    )
    assert multiply_adds(family, config) == patches + block + attention + head


def test_every_weight_of_every_model_is_counted():
    for family in families():
        for entry in catalogue.entries(family):
            assert entry.multiply_adds > entry.parameters / 2, entry.name


def test_the_list(capsys, monkeypatch, tmp_path):
    (tmp_path / "vit").mkdir()
    (tmp_path / "vit" / "vit_base_p16.ckpt").write_bytes(b"")
    monkeypatch.setenv("CHECKPOINT_DOWNLOAD_FOLDER", str(tmp_path))
    assert cli.main(["models"]) == 0
    out = capsys.readouterr().out
    lines = {line.split()[0]: line for line in out.splitlines() if line.startswith("  ")}
    for family in families():
        assert set(family.variants) <= set(lines)
    assert lines["vit_base_p16"].split() == [
        "vit_base_p16", "86.6", "M", "17.6", "G", "224", "83.7",
        f"{tmp_path}/vit/vit_base_p16.ckpt",
    ]  # fmt: skip
    assert lines["beit_large_p16_512"].endswith(" 512  88.6  github.com, MIT")
    assert lines["lvvit_l"].endswith("-  none published")
    assert lines["mae_vit_base_p16"].endswith("-  fbaipublicfiles.com, CC-BY-NC 4.0")
    del lines["vit_base_p16"]  # with a path of any length
    assert max(map(len, lines.values())) == 80


def test_an_accuracy_is_of_weights_that_are_published():
    assert set(catalogue.TOP1) == {n for n in PUBLISHED if not n.startswith("mae")}
