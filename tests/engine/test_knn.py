"""kNN evaluation of an encoder: the votes, the run mode, and the evaluation during pretraining."""

import json
import re

import numpy as np
import pytest

from mindformers_vit.checkpoint.weights import write_weights
from mindformers_vit.config.loader import load_yaml, set_dotted
from mindformers_vit.engine import build, knn
from mindformers_vit.engine.plan import make_plan
from mindformers_vit.errors import ConfigError
from tests.engine import lab
from tests.engine.lab import command, metrics


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def by_definition(queries, bank, labels, classes, k, temperature):
    """Votes by a full sort in float64; of equal similarity the first."""
    votes = np.zeros((len(queries), classes))
    for row, query in enumerate(queries.astype(np.float64)):
        similarity = bank.astype(np.float64) @ query
        for index in np.argsort(-similarity, kind="stable")[:k]:
            votes[row, labels[index]] += np.exp(similarity[index] / temperature)
    return votes


@pytest.mark.fast
@pytest.mark.parametrize("k", [1, 20, 300])
def test_votes_are_those_of_a_full_sort(k, monkeypatch):
    rng = np.random.default_rng(0)
    bank = unit(rng.normal(size=(300, 16))).astype(np.float32)
    queries = unit(rng.normal(size=(57, 16))).astype(np.float32)
    labels = rng.integers(0, 7, 300).astype(np.int32)
    settings = {"num_classes": 7, "num_neighbors": k, "temperature": 0.07}
    found = knn.knn_votes(queries, bank, labels, **settings)
    expected = by_definition(queries, bank, labels, 7, k, 0.07)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    monkeypatch.setattr(knn, "_CHUNK", 5 * 300)  # five queries at a time
    chunked = knn.knn_votes(queries, bank, labels, **settings)
    np.testing.assert_allclose(chunked, expected, rtol=1e-4)


@pytest.mark.fast
def test_of_equally_similar_images_the_first_vote():
    bank = unit(np.array([[1, 1], [1, 0], [1, 0], [1, 0], [0, 1]], np.float32))
    query = np.array([[1, 0]], np.float32)
    settings = {"num_classes": 5, "temperature": 1.0}
    labels = np.array([4, 0, 1, 2, 3])
    found = knn.knn_votes(query, bank, labels, num_neighbors=2, **settings)
    assert found[0].tolist() == pytest.approx([np.e, np.e, 0, 0, 0])
    found = knn.knn_votes(query, bank, labels, num_neighbors=4, **settings)
    assert found[0].tolist() == pytest.approx([np.e, np.e, np.e, 0, np.exp(np.sqrt(0.5))], rel=1e-6)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    values = {
        **lab.MAE,
        "eval_dataset": {"num_parallel_workers": 0, "batch_size": 5},
        "metric": {"type": "KNN", "num_neighbors": 7},
    }
    return lab.write(tmp_path_factory.mktemp("config") / "knn.yaml", values)


@pytest.fixture(scope="module")
def dirs(train_dir, eval_dir):
    return ("--train_dataset_dir", str(train_dir), "--eval_dataset_dir", str(eval_dir))


@pytest.mark.parametrize("feature", ["mean", "cls_token"])
def test_an_evaluation_is_numpys(config, dirs, unbroken, tmp_path, feature, capsys):
    import mindspore as ms

    encoder = tmp_path / "encoder.safetensors"  # as facebookresearch/mae publishes most files
    tensors = lab.saved_network(unbroken["mae"])
    write_weights(encoder, {n: a for n, a in tensors.items() if not re.match("decoder_|mask_", n)})
    flags = ("--run_mode", "eval", f"--metric.feature={feature}", *dirs)
    results = []
    for name, weights in (("first", unbroken["mae"]), ("second", encoder)):
        assert command(config, tmp_path / name, *flags, "--load_checkpoint", str(weights)) == 0
        results.append(json.loads((tmp_path / name / "eval_result.json").read_text()))
        assert results[-1].pop("load_checkpoint") == str(weights)
    assert results[0] == results[1]  # deterministic, and of the encoder alone
    assert re.search(r"kNN: 24 training images, 12 to classify; features", capsys.readouterr().err)

    values = load_yaml(config)
    for name, key in ((dirs[1], "train"), (dirs[3], "eval")):
        values = set_dotted(values, f"{key}_dataset.data_loader.dataset_dir", name)
    plan = make_plan(set_dotted(values, "run_mode", "eval"))
    data = build.open_data(plan)
    network = plan.family.load_model_class()(plan.network)
    network.load_arrays(lab.saved_network(unbroken["mae"]))
    lab.eager()

    def features(source):
        found = []
        for path in source.paths:
            pixels = plan.processor(path)
            tokens = network.forward_features(ms.Tensor(pixels)).asnumpy()[0].astype(np.float64)
            found.append(tokens[1:].mean(0) if feature == "mean" else tokens[0])
        return unit(np.stack(found))

    votes = by_definition(
        features(data.evaluation), features(data.neighbors), data.neighbors.labels, 3, 7, 0.07
    )
    hits = (votes.argmax(-1) == data.evaluation.labels).mean()
    assert results[0]["metrics"] == {"KNN Top1 Accuracy": hits, "KNN Top5 Accuracy": 1.0}
    assert results[0]["images"] == 12


@pytest.mark.usefixtures("shared_steps")
def test_pretraining_is_evaluated_every_so_many_epochs(config, dirs, unbroken, tmp_path):
    """... by the weights of that moment; the training itself is not changed by it."""
    out, flags = tmp_path / "out", ("--do_eval", "True", *dirs)
    assert command(config, out, *flags, "--eval_dataset.eval_interval=1") == 0
    lines = [line for line in metrics(out) if "KNN Top1 Accuracy" in line]
    assert [(line["epoch"], line["step"]) for line in lines] == [(1, 6), (2, 12)]
    assert lab.digest(lab.saved_network(out)) == lab.digest(lab.saved_network(unbroken["mae"]))
    again = tmp_path / "eval"
    load = ("--run_mode", "eval", "--load_checkpoint", str(out))
    assert command(config, again, *load, *dirs) == 0
    found = json.loads((again / "eval_result.json").read_text())["metrics"]
    assert found.items() <= lines[-1].items()
    assert not (out / "checkpoint_network" / "rank_0" / "best").exists()


@pytest.mark.fast
def test_settings_that_do_not_fit(config, dirs, train_dir):
    vit = {**lab.VIT, "metric": {"type": "KNN"}}
    with pytest.raises(ConfigError, match="KNN measures the encoder of masked_image_modeling; 'im"):
        make_plan(vit)
    values = set_dotted(load_yaml(config), "run_mode", "eval")
    values = set_dotted(values, "eval_dataset.data_loader.dataset_dir", str(train_dir))
    with pytest.raises(ConfigError, match=r"train_dataset.data_loader.dataset_dir: missing"):
        build.open_data(make_plan(values))
    values = set_dotted(values, "train_dataset.data_loader.dataset_dir", str(train_dir))
    with pytest.raises(ConfigError, match=r"num_neighbors: 7 given, but there are 6 training"):
        build.open_data(make_plan(set_dotted(values, "metric.train_samples", 6)))
    with pytest.raises(ConfigError, match=r"metric\.temperature: .*greater than 0"):
        make_plan(set_dotted(values, "metric.temperature", 0))
