from pathlib import Path

import numpy as np
import pytest
import torch

from mindformers_vit.errors import ConfigError
from mindformers_vit.optim.groups import ParamRule, parameter_rules

pytestmark = pytest.mark.fast
GOLDEN = Path(__file__).parents[1] / "goldens/vit_finetune_10steps"


def vit_layer(name: str) -> int:
    if name in {"cls_token", "pos_embed", "mask_token"} or name.startswith("patch_embed."):
        return 0
    return int(name.split(".")[1]) + 1 if name.startswith("blocks.") else 4


def test_rules_are_the_reference_groups():
    golden = np.load(GOLDEN / "case.npz")
    weights = torch.load(GOLDEN / "weights.pth", weights_only=True)["model"]
    names = [str(n) for n in golden["group_names"]]
    shapes = {n: tuple(weights[n].shape) for n in names}
    rules = parameter_rules(
        shapes,
        weight_decay=0.05,
        no_weight_decay=("cls_token", "pos_embed"),
        layer_decay=0.65,
        layer_id=vit_layer,
        num_layers=3,
    )
    assert [r.name for r in rules] == names
    np.testing.assert_allclose([r.lr_scale for r in rules], golden["group_lr_scale"], rtol=1e-15)
    np.testing.assert_array_equal([r.weight_decay for r in rules], golden["group_weight_decay"])


def test_what_is_left_out_of_weight_decay():
    shapes = {"w": (2, 2), "norm.gamma": (2,), "scale": (), "odd.bias": (1, 2), "pos": (1, 2, 2)}
    assert parameter_rules(shapes, weight_decay=0.1, no_weight_decay=["pos"]) == [
        ParamRule("w", 1.0, 0.1),
        ParamRule("norm.gamma", 1.0, 0.0),
        ParamRule("scale", 1.0, 0.0),
        ParamRule("odd.bias", 1.0, 0.0),
        ParamRule("pos", 1.0, 0.0),
    ]


def test_decay_after_a_free_parameter_stays():
    """MindFormers lost the weight decay of every group made after the first free parameter."""
    rules = parameter_rules({"a.bias": (2,), "b.weight": (2, 2)}, weight_decay=0.05)
    assert [r.weight_decay for r in rules] == [0.0, 0.05]


def test_wrong_settings_are_refused_all_at_once():
    with pytest.raises(ConfigError) as error:
        parameter_rules({"pos_embed": (1, 2)}, no_weight_decay=["pos_embd"], layer_decay=0.5)
    assert error.value.problems == [
        "no_weight_decay: 'pos_embd' is no trainable parameter (did you mean 'pos_embed'?)",
        "layer_decay 0.5 needs the layers of the network",
    ]
    with pytest.raises(ConfigError, match=r"layer_decay must be in \(0, 1\], given 1.5"):
        parameter_rules({}, layer_decay=1.5, layer_id=vit_layer, num_layers=3)
    with pytest.raises(ConfigError, match=r"'blocks.7.w' is put in layer 8; there are 0 to 4"):
        parameter_rules({"blocks.7.w": (2, 2)}, layer_decay=0.5, layer_id=vit_layer, num_layers=3)
