"""`mindformers-vit plan`: the arithmetic, and the text."""

from pathlib import Path

import pytest

from mindformers_vit import cli
from mindformers_vit.engine.forecast import Cluster, describe, memory_of
from mindformers_vit.errors import ConfigError
from tests.engine.forecast_plans import plan_of

pytestmark = pytest.mark.fast
ROOT = Path(__file__).parents[2]
MAE_BASE = str(ROOT / "configs" / "mae" / "run_mae_vit_base_p16_224_800ep.yaml")
SMLPNET = str(ROOT / "configs" / "smlpnet" / "run_smlpnet_tiny_224_300ep.yaml")
SIZE = {"kind": "vit", "width": 192, "depth": 4, "heads": 3, "image": 128, "batch": 2}


def test_each_part_by_hand():
    memory = memory_of(plan_of(**SIZE))
    assert memory.weights == memory.gradients == 4 * 1_959_460
    assert memory.moments == 8 * 1_959_460
    assert memory.average == 0
    block = 65 * (14 * 192 + 6 * 768) + 1.2 * 3 * 65**2  # numbers of an image
    assert memory.activations == round(4 * 2 * (4 * block + 12 * 3 * 128**2))


def test_recomputation_sharding_average_and_accumulation():
    plain = memory_of(plan_of(**SIZE))
    less = memory_of(plan_of(**SIZE), recompute=True, shards=4)
    assert less.moments == plain.moments / 4
    block = 65 * (14 * 192 + 6 * 768) + 1.2 * 3 * 65**2
    kept = 4 * 65 * 192 + block + 12 * 3 * 128**2
    assert less.activations == round(4 * 2 * kept)
    runner = {"batch_size": 2, "gradient_accumulation_steps": 2}
    more = memory_of(plan_of(**SIZE, ema={"decay": 0.9}, runner_config=runner))
    assert more.gradients == 2 * plain.gradients
    assert more.average == plain.weights


def test_the_decoder_sees_every_patch_and_the_encoder_a_quarter():
    size = {**SIZE, "kind": "mae", "depth": 3, "heads": 2, "batch": 1}
    encoder = 3 * (17 * (14 * 192 + 6 * 768) + 1.2 * 2 * 17**2)
    decoder = 65 * (14 * 96 + 6 * 384) + 1.2 * 65**2
    wanted = round(4 * (encoder + decoder + 20 * 3 * 128**2))
    assert memory_of(plan_of(**size)).activations == wanted


def test_the_documents_cluster(capsys):
    flags = ["plan", "--config", MAE_BASE, "--servers", "12", "--devices_per_server", "8"]
    flags += ["--samples_per_second", "262.31", "--gradient_accumulation_steps", "1"]
    assert cli.main(flags) == 0
    said = capsys.readouterr().out
    assert "ViTMAEForPreTraining: 111,907,840 parameters, 111,655,680 of them trained" in said
    assert "96 cards (12 x 8): 6,144 images an update, 208 updates an epoch" in said
    assert "166,400 in all" in said
    assert "446,622,720 bytes of gradients; in a ring a card sends 883,940,800" in said
    assert "from storage: 25,182 images/s, 262.31 by each card" in said
    assert "a training checkpoint: 1,279 MiB" in said
    assert "moments on 96 cards" in said


def test_what_cannot_be_told(capsys):
    plan = plan_of(**SIZE)
    assert "measure it on one card and give --samples_per_second" in describe(plan, Cluster())
    with pytest.raises(ConfigError, match="--images: 15 given, but one update takes 16 images"):
        describe(plan, Cluster(images=15))
    assert cli.main(["plan", "--config", SMLPNET]) == 0  # all but the memory
    said = capsys.readouterr().out
    assert "no memory formula for SMLPNetForImageClassification" in said
    assert "a training checkpoint: 368 MiB" in said


@pytest.mark.parametrize(
    ("flag", "value"),
    [("servers", "0"), ("devices_per_server", "-8"), ("images", "-5"), ("images", "0"),
     ("samples_per_second", "-1"), ("samples_per_second", "nan"), ("samples_per_second", "inf")],
)  # fmt: skip
def test_absurd_clusters(flag, value, capsys):
    assert cli.main(["plan", "--config", MAE_BASE, f"--{flag}", value]) == 2
    assert f"{flag}: input should be " in capsys.readouterr().err


def test_a_yaml_for_several_cards_is_planned_on_one_machine(capsys):
    assert cli.main(["plan", "--config", MAE_BASE, "--use_parallel", "True"]) == 0
    assert "8 cards (1 x 8)" in capsys.readouterr().out
