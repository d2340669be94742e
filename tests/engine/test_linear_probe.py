"""Linear probing of a masked autoencoder's encoder, from a yaml, against numpy."""

import json

import numpy as np
import pytest

from mindformers_vit.checkpoint.weights import read_weights
from mindformers_vit.config.loader import load_yaml, set_dotted
from mindformers_vit.engine import build, loaders
from mindformers_vit.engine.plan import make_plan
from mindformers_vit.errors import ConfigError
from tests.engine import lab
from tests.engine.lab import assert_same, command, metrics, saved_network, trained
from tests.models.conftest import VIT_TINY

LR = 4.0


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    settings = {**lab.VIT["model"]["model_config"], **VIT_TINY, "num_hidden_layers": 2}
    settings |= {"num_labels": 3, "drop_path_rate": 0.0}
    settings |= {"linear_probe": True, "use_mean_pooling": False}
    values = {
        **lab.VIT,
        "run_mode": "finetune",
        "runner_config": {"epochs": 2, "batch_size": 8},
        "runner_wrapper": {},
        "train_dataset": lab.MAE["train_dataset"],
        "model": {"arch": lab.VIT["model"]["arch"], "model_config": settings},
        "lr_schedule": {"type": "cosine", "learning_rate": LR},
        "layer_scale": False,
        "optimizer": {"type": "lars", "weight_decay": 0.0},
        "ema": None,
    }
    return lab.write(tmp_path_factory.mktemp("config") / "probe.yaml", values)


@pytest.fixture
def probe(shared_steps, config, unbroken, train_dir, tmp_path):
    def run(name, *flags):
        data = ("--train_dataset_dir", str(train_dir))
        start = ("--load_checkpoint", str(unbroken["mae"]))
        assert command(config, tmp_path / name, *data, *start, *flags) == 0
        return tmp_path / name

    return run


def forward(features, network):
    """Batch norm by the batch, head: loss, probabilities, normalised features, statistics."""
    mean, variance = features.mean(0), features.var(0)
    normed = (features - mean) / np.sqrt(variance + 1e-6)
    logits = normed @ network["head.weight"].T.astype(np.float64) + network["head.bias"]
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return p, normed, mean, variance * len(features) / (len(features) - 1)


def test_one_step_is_numpys(probe, config, train_dir, unbroken):
    import mindspore as ms

    values = set_dotted(load_yaml(config), "train_dataset.data_loader.dataset_dir", str(train_dir))
    plan = make_plan(set_dotted(values, "load_checkpoint", str(unbroken["mae"])))
    out = probe("one", "--runner_config.max_steps=1")
    (line,) = metrics(out)
    after = saved_network(out)

    from mindformers_vit.engine.weights import find_weights, load_network

    network = load_network(plan, find_weights(plan))
    network.set_train(False)
    lab.eager()
    before = network.state_arrays()
    assert 0.008 < before["head.weight"].std() < 0.012
    assert not before["head.bias"].any()
    batch = next(loaders.train_loader(plan, build.open_data(plan).train).epoch(0))
    features = network.forward_features(ms.Tensor(batch["image"])).asnumpy()[:, 0]
    p, normed, mean, variance = forward(features.astype(np.float64), before)
    labels = batch["target"]
    assert set(np.unique(labels)) == {0, 1}  # plain cross entropy
    assert line["loss"] == pytest.approx(-(labels * np.log(p)).sum(-1).mean(), rel=1e-5)

    error = (p - labels) / len(p)
    gradient = error.T @ normed
    weight = before["head.weight"].astype(np.float64)
    trust = 0.001 * np.linalg.norm(weight) / np.linalg.norm(gradient)
    np.testing.assert_allclose(after["head.weight"], weight - LR * trust * gradient, atol=2e-6)
    np.testing.assert_allclose(after["head.bias"], -LR * error.sum(0), atol=2e-6)
    np.testing.assert_allclose(after["head_norm.moving_mean"], 0.1 * mean, atol=2e-6)
    moved = 0.9 + 0.1 * variance
    np.testing.assert_allclose(after["head_norm.moving_variance"], moved, rtol=1e-5)


def test_only_the_head_is_trained_and_kept(probe, unbroken):
    tensors, _ = trained(probe("run"))
    encoder = saved_network(unbroken["mae"])
    moved = {"head.weight", "head.bias", "head_norm.moving_mean", "head_norm.moving_variance"}
    for name, value in tensors.items():
        if name in moved or name.startswith("optimizer."):
            continue
        assert value.tobytes() == encoder[name].tobytes(), name
    state = {name for name in tensors if name.startswith("optimizer.")}
    assert state == {"optimizer.m.head.weight", "optimizer.m.head.bias"}


def test_a_resumed_probe_is_the_unbroken_one(probe):
    whole = probe("whole")
    probe("broken", "--runner_config.max_steps=2")
    assert_same(whole, probe("broken", "--resume_training", "True"))


def test_evaluation_uses_the_moving_statistics(probe, config, eval_dir, tmp_path):
    import mindspore as ms

    out = probe("run")
    flags = ("--run_mode", "eval", "--load_checkpoint", str(out))
    assert command(config, tmp_path / "eval", *flags, "--eval_dataset_dir", str(eval_dir)) == 0
    found = json.loads((tmp_path / "eval" / "eval_result.json").read_text())["metrics"]
    values = set_dotted(load_yaml(config), "eval_dataset.data_loader.dataset_dir", str(eval_dir))
    plan = make_plan(set_dotted(values, "run_mode", "eval"))
    network = plan.family.load_model_class()(plan.network)
    folder = out / "checkpoint_network" / "rank_0"
    arrays = read_weights(next(p for p in folder.iterdir() if p.suffix != ".yaml"))
    network.load_arrays(arrays)
    network.set_train(False)
    lab.eager()
    hits = total = 0
    for batch in loaders.eval_loader(plan, build.open_data(plan).evaluation).epoch(0):
        x = network.forward_features(ms.Tensor(batch["image"])).asnumpy()[:, 0]
        x = (x - arrays["head_norm.moving_mean"]) / np.sqrt(
            arrays["head_norm.moving_variance"] + 1e-6
        )
        expected = x @ arrays["head.weight"].T + arrays["head.bias"]
        np.testing.assert_allclose(
            network(ms.Tensor(batch["image"])).asnumpy(), expected, atol=1e-4
        )
        hits += int(((expected.argmax(-1) == batch["label"]) & batch["valid"]).sum())
        total += int(batch["valid"].sum())
    assert found["Top1 Accuracy"] == hits / total


@pytest.mark.fast
@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("model.model_config.drop_path_rate", 0.1, "drop_path_rate 0.1 with linear_probe"),
        ("run_mode", "train", "model.model_config.linear_probe: it measures a pretrained encoder"),
        ("optimizer.beta1", 0.95, "optimizer: beta1, beta2 and eps are options of AdamW"),
        ("optimizer.type", "adamw", None),
    ],
)
def test_settings_that_do_not_fit(config, key, value, said):
    values = set_dotted(load_yaml(config), key, value)
    if said is None:
        values = set_dotted(values, "optimizer.momentum", 0.9)
        said = "optimizer: momentum and trust_coefficient are options of type lars only"
    with pytest.raises(ConfigError) as error:
        make_plan(values)
    assert said in str(error.value)
