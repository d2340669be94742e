"""What every registered network must do; a new family is tested by being registered."""

import importlib
import math

import numpy as np
import pytest

from mindformers_vit.models.conversion_table import to_ours, to_theirs
from mindformers_vit.registry import families, find_model
from tests.engine import lab

FAMILIES = families()
NAMES = [(f.name, name) for f in FAMILIES for name in f.variants]
TINY = [(f.name, name) for f in FAMILIES for name in f.variants if "_tiny_" in name]


def config_of(name, **changes):
    family, canonical = find_model(name)
    return family, family.config_class(**{**family.variants[canonical], **changes})


@pytest.mark.fast
def test_every_family_has_a_tiny_network():
    assert {family for family, _ in TINY} == {f.name for f in FAMILIES}
    assert len(NAMES) >= 8


@pytest.mark.fast
@pytest.mark.parametrize(("family", "name"), NAMES)
def test_names_and_aliases_lead_to_one_config(family, name):
    found, config = config_of(name)
    assert found.name == family
    for alias, target in found.aliases.items():
        if target == name:
            assert config_of(alias)[1] == config
    assert config_of(f"mindspore/{name}")[1] == config


@pytest.mark.fast
@pytest.mark.parametrize(("family", "name"), NAMES)
def test_parameters_are_described_without_building(family, name):
    found, config = config_of(name)
    params = importlib.import_module(f"mindformers_vit.models.{family}.{family}_params")
    specs = params.parameter_specs(config)
    assert all(math.prod(spec.shape) > 0 for spec in specs.values())
    processor = found.load_processor_class().for_network(config)
    assert processor.transforms.output_shape()[1:] == config.image_hw


@pytest.fixture(scope="module", params=TINY, ids=[name for _, name in TINY])
def trained(request):
    """A tiny network, its batch, and two compiled train steps' results."""
    from mindformers_vit import compat
    from mindformers_vit.engine.train_step import TrainStep, training_forward
    from mindformers_vit.optim.adamw import AdamW
    from mindformers_vit.optim.groups import parameter_rules

    compat.set_device("CPU")
    family, config = config_of(request.param[1])
    network = family.load_model_class()(config, seed=0)
    before = network.state_arrays()
    batch = make_batch(family, config)
    params = network.trainable_params()
    rules = parameter_rules(
        {p.name: tuple(p.shape) for p in params},
        weight_decay=0.05,
        no_weight_decay=network.no_weight_decay(),
        layer_decay=0.75,
        layer_id=network.layer_id,
        num_layers=network.num_layers,
    )
    step = TrainStep(training_forward(network, drop_path=False), AdamW(params, rules))
    results = [step([batch], 1e-3) for _ in range(3)]
    return family, network, before, batch, results


def make_batch(family, config):
    rng = np.random.default_rng(0)
    batch = {"image": rng.normal(size=(4, 3, *config.image_hw)).astype(np.float32)}
    if family.task == "masked_image_modeling":
        return batch | {"noise": rng.random((4, config.num_patches), np.float32)}
    batch["target"] = np.eye(config.num_labels, dtype=np.float32)[:4]
    if getattr(config, "mix_token", False):
        batch["mix_box"] = np.array([[0, 0, 1, 1]] * 4, np.int32)
    return batch


def test_a_train_step_moves_every_trainable_parameter_and_statistic(trained):
    _, network, before, _, results = trained
    after = network.state_arrays()
    statistics = {p.name for p in network.moving_statistics()}
    assert results[-1]["loss"] < results[0]["loss"]
    for param in network.get_parameters():
        same = np.array_equal(before[param.name], after[param.name])
        assert same != (param.requires_grad or param.name in statistics), param.name


def test_saved_and_loaded_it_computes_the_same(trained, tmp_path):
    import mindspore as ms

    from mindformers_vit import AutoModel

    lab.eager()
    _, network, _, batch, _ = trained
    again = AutoModel.from_pretrained(network.save_pretrained(tmp_path, save_format="safetensors"))
    arguments = [ms.Tensor(batch[key]) for key in ("image", "noise") if key in batch]
    for net in (network, again):
        net.set_train(False)
    outputs = [net(*arguments) for net in (network, again)]
    pairs = zip(*(o if isinstance(o, tuple) else (o,) for o in outputs), strict=True)
    for first, second in pairs:
        np.testing.assert_array_equal(first.asnumpy(), second.asnumpy())


def converter_of(family):
    return importlib.import_module(f"mindformers_vit.models.{family}.convert_weight").CONVERTER


LAYOUTS = [
    (name, layout.name, layout) for family, name in TINY for layout in converter_of(family).layouts
]


@pytest.mark.fast
@pytest.mark.parametrize(("name", "layout"), [(name, x) for name, _, x in LAYOUTS],
                         ids=[f"{name}: {title}" for name, title, _ in LAYOUTS])  # fmt: skip
def test_every_layout_there_and_back_to_the_bit(name, layout):
    family, config = config_of(name)
    converter = converter_of(family.name)
    both = [config, *class_token(config)]
    for config in both:
        rng = np.random.default_rng(0)
        specs = layout.specs(config)
        arrays = {n: rng.random(spec.shape, np.float32) for n, spec in specs.items()}
        fit = to_theirs(arrays, layout, lambda shapes: converter.configure(shapes, {}))
        if not fit.problems:
            break
    assert fit.problems == []
    again = to_ours(fit.arrays, layout, lambda shapes: converter.configure(shapes, {}))
    assert again.problems == []
    same(again.arrays, arrays)


def class_token(config):
    """The same network with the other pooling, if it has two."""
    fields = type(config).model_fields
    return [config.model_copy(update={"use_mean_pooling": False})] if (
        "use_mean_pooling" in fields) else []  # fmt: skip


def same(first, second):
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)


def test_converted_and_back_it_is_the_same(trained, tmp_path):
    """To a PyTorch file, and to a Hugging Face folder where transformers has such a network."""
    from mindformers_vit.checkpoint.weights import read_weights

    family, network, *_ = trained
    converter = converter_of(family.name)
    ours = network.save_pretrained(tmp_path, "ours", save_format="safetensors") / "ours.safetensors"
    targets = [tmp_path / "t.pth"]
    if converter.model_type and family.name != "vit":  # theirs has no mean pooling
        targets.append(tmp_path / "folder")
    for target in targets:
        converter.convert_weight(target, ours, reversed=True)
        converter.convert_weight(target, tmp_path / "again.safetensors")
        same(read_weights(tmp_path / "again.safetensors"), network.state_arrays())
