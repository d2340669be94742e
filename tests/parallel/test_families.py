"""What is special in other families and metrics, over two ranks: batch norm, label maps, kNN.

Batch norm takes the statistics of a rank's own batch. Where all images are alike these are the
statistics of the global batch, and so two ranks must compute what one process does.
"""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from mindformers_vit.config.loader import set_dotted
from mindformers_vit.data.sampling import rank_slots
from mindformers_vit.engine import build, loaders
from mindformers_vit.engine.parallel import World
from mindformers_vit.engine.plan import make_plan
from tests.engine import lab
from tests.models.conftest import LVVIT_TINY
from tests.parallel.test_two_ranks import losses

PLAIN = {
    **lab.VIT,
    "runner_config": {"epochs": 1, "batch_size": 8},
    "runner_wrapper": {},
    "eval_dataset": {"num_parallel_workers": 0, "batch_size": 8},
    "layer_scale": False,
    "ema": None,
}
LVVIT = {**LVVIT_TINY, "num_labels": len(lab.CLASSES), "drop_path_rate": 0.2}
RESIZE = [{"type": "Resize", "size": [64, 64]}, {"type": "ToTensor"}, lab.NORMALIZE]
CROP = [lab.CROP[1], {**lab.CROP[0], "size": 64}, {"type": "ToTensor"}, lab.NORMALIZE]


def model(name, **settings):
    network = {"type": f"{name}Config", "num_labels": len(lab.CLASSES), **settings}
    arch = {"arch": {"type": f"{name}ForImageClassification"}, "model_config": network}
    return {"model": arch, "processor": {"type": f"{name}Processor"}}


@pytest.fixture(scope="module")
def alike(bench):
    """48 copies of one picture in three classes: 6 steps of 8."""
    root = bench.root / "alike"
    lab.class_folders(root, 16)
    first = root / lab.CLASSES[0] / "000.jpg"
    for path in sorted(root.rglob("*.jpg")):
        if path != first:
            shutil.copy(first, path)
    return root


@pytest.fixture(scope="module")
def maps(bench, alike):
    """A label map of its own for each picture."""
    rng = np.random.default_rng(0)
    for path in sorted(alike.rglob("*.jpg")):
        target = bench.root / "maps" / path.parent.name / f"{path.stem}.npy"
        target.parent.mkdir(parents=True, exist_ok=True)
        logits, classes = rng.normal(size=(3, 8, 8)), [rng.permutation(3) for _ in range(64)]
        ids = np.stack(classes, -1).reshape(3, 8, 8)
        np.save(target, np.stack([logits, ids]).astype(np.float16))
    return bench.root / "maps"


@pytest.fixture(scope="module")
def lvvit(bench, alike, maps):
    """The recipe, with the images' folders."""
    folders = {"dataset_dir": str(alike), "label_map_dir": str(maps)}
    train = {"num_parallel_workers": 0, "data_loader": folders, "transforms": RESIZE}
    train["label_smoothing"] = 0.1
    recipe = {**PLAIN, "train_dataset": train, **model("LVViT", **LVVIT)}
    bench.configs["lvvit"] = lab.write(bench.root / "lvvit.yaml", recipe)
    bench.data["lvvit"] = []
    return recipe


@pytest.fixture(scope="module")
def smlpnet(bench, alike):
    train = {"num_parallel_workers": 0, "transforms": RESIZE, "label_smoothing": 0.1}
    settings = {"image_size": 64, "hidden_size": 8, "depths": [1, 1, 1, 1], "drop_path_rate": 0.0}
    recipe = {**PLAIN, "train_dataset": train, **model("SMLPNet", **settings)}
    bench.configs["smlpnet"] = lab.write(bench.root / "smlpnet.yaml", recipe)
    bench.data["smlpnet"] = ["--train_dataset_dir", str(alike)]


def check_both(pairs, kind):
    """The weights and batch norm's statistics are equal on the ranks, losses those of a process."""
    for rank in (0, 1):
        log = (pairs[kind]["two"] / "log" / f"rank_{rank}" / "info.log").read_text()
        assert "the 2 ranks hold the same weights to the last bit" in log
    one, two = losses(pairs[kind]["one"]), losses(pairs[kind]["two"])
    assert len(one) == len(two) == 6
    np.testing.assert_allclose(two, one, rtol=1e-5, atol=0)


@pytest.mark.usefixtures("smlpnet")
def test_smlpnet_on_images_that_are_alike(pairs):
    check_both(pairs, "smlpnet")


@pytest.mark.usefixtures("lvvit")
def test_lvvit_with_label_maps_on_images_that_are_alike(pairs):
    check_both(pairs, "lvvit")


@pytest.mark.fast
def test_ranks_share_out_the_global_batch_with_its_label_maps(lvvit, tmp_path):
    """Every array of a batch, with random crops and MixToken, to the bit."""
    values = set_dotted(lvvit, "output_dir", str(tmp_path))
    values = set_dotted(values, "train_dataset.transforms", CROP)

    def batches(world, size):
        plan = make_plan(set_dotted(values, "runner_config.batch_size", size))
        plan = replace(plan, world=world)
        with loaders.train_loader(plan, build.open_data(plan).train) as loader:
            return list(loader.epoch(1))

    whole = batches(World(), 8)
    assert whole[0].keys() >= {"image", "target", "mix_box", "drop_noise"}
    for rank in (0, 1):
        places = rank_slots(4, rank, 2)
        for own, everything in zip(batches(World(rank, 2), 4), whole, strict=True):
            for name, array in own.items():
                if name == "mix_box":
                    np.testing.assert_array_equal(array, everything[name][:4])
                else:
                    np.testing.assert_array_equal(array, everything[name][places], err_msg=name)


def test_knn_votes_with_the_features_of_all_ranks(bench, pairs):
    """42 training images and 101 to classify, neither a multiple of the global batch."""
    dirs = [*bench.data["vit"][:2], *bench.data["vit"][4:]]
    settings = {"eval_dataset": {"num_parallel_workers": 0, "batch_size": 8}}
    settings["metric"] = {"type": "KNN", "num_neighbors": 7}
    bench.configs["knn"] = lab.write(bench.root / "knn.yaml", {**lab.MAE, **settings})
    weights = ["--load_checkpoint", str(pairs["mae"]["one"])]
    bench.data["knn"] = [*dirs, *weights, "--run_mode", "eval"]  # the last mode given counts
    found = {
        name: json.loads((output / "eval_result.json").read_text())
        for name, output in pairs["knn"].items()
    }
    assert found["one"] == found["two"]
    assert found["two"]["images"] == 101
    accuracy = found["two"]["metrics"]["KNN Top1 Accuracy"]
    assert round(accuracy * 101) / 101 == accuracy
