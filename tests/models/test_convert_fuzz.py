"""Files with random damage: refused by an error of ours, nothing written, or converted whole."""

import json
import os
import warnings

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mindformers_vit.checkpoint.weights import read_weights, write_weights
from mindformers_vit.errors import MindFormersViTError
from mindformers_vit.models.beit import convert_weight as beit
from mindformers_vit.models.beit.beit_config import BeitConfig
from mindformers_vit.models.beit.beit_params import parameter_specs as beit_specs
from mindformers_vit.models.lvvit import convert_weight as lvvit
from mindformers_vit.models.lvvit.lvvit_config import LVViTConfig
from mindformers_vit.models.lvvit.lvvit_params import parameter_specs as lvvit_specs
from mindformers_vit.models.mae import convert_weight as mae
from mindformers_vit.models.mae.mae_config import ViTMAEConfig
from mindformers_vit.models.mae.mae_params import parameter_specs as mae_specs
from mindformers_vit.models.smlpnet import convert_weight as smlpnet
from mindformers_vit.models.smlpnet.smlpnet_config import SMLPNetConfig
from mindformers_vit.models.smlpnet.smlpnet_params import parameter_specs as smlpnet_specs
from mindformers_vit.models.vit import convert_weight as vit
from mindformers_vit.models.vit.vit_config import ViTConfig
from mindformers_vit.models.vit.vit_params import parameter_specs as vit_specs
from tests.models.conftest import UNTOLD

TINY = {
    "image_size": 4,
    "patch_size": 2,
    "hidden_size": 4,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 4,
}
DECODER = {
    "decoder_hidden_size": 4,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 4,
    "decoder_intermediate_size": 4,
}
FAMILIES = {
    "vit": (vit, vit_specs(ViTConfig(**TINY, num_labels=2))),
    "mae": (mae, mae_specs(ViTMAEConfig(**TINY, **DECODER))),
    "beit": (beit, beit_specs(BeitConfig(**TINY, num_labels=2))),
    "lvvit": (lvvit, lvvit_specs(LVViTConfig(**TINY, stem_width=2, num_labels=2))),
    "smlpnet": (
        smlpnet,
        smlpnet_specs(
            SMLPNetConfig(image_size=32, hidden_size=1, depths=(1, 1, 1, 1), num_labels=2)
        ),
    ),
}
NAMES = st.sampled_from(sorted(FAMILIES))
FORMATS = st.sampled_from(["torch", "huggingface"])
QUIET = settings(
    max_examples=400,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


MADE: dict[tuple[str, str], bytes] = {}  # (family, file) -> what a small one holds


@pytest.fixture(scope="module", autouse=True)
def sources(tmp_path_factory):
    """Small files of PyTorch's and Hugging Face's names; nothing waits for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        make_sources(tmp_path_factory.mktemp("sources"))
        yield


def make_sources(folder):
    """Fill MADE."""
    for name, (module, specs) in FAMILIES.items():
        ours = folder / f"{name}.safetensors"
        write_weights(ours, {n: np.ones(spec.shape, np.float32) for n, spec in specs.items()})
        module.convert_weight(folder / f"{name}.pth", ours, reversed=True)
        MADE[name, "pth"] = (folder / f"{name}.pth").read_bytes()
        if module.CONVERTER.model_type:
            given = UNTOLD[name] | ({"use_mean_pooling": False} if name == "vit" else {})
            if name == "vit":
                arrays = {n.replace("fc_norm", "norm"): np.ones(s.shape, np.float32)
                          for n, s in specs.items()}  # fmt: skip
                write_weights(ours, arrays)
            module.convert_weight(folder / name, ours, reversed=True, settings=given)
            for file in ("model.safetensors", "config.json", "preprocessor_config.json"):
                MADE[name, file] = (folder / name / file).read_bytes()


def convert(name, source, folder):
    """Either a whole model, or an error of ours and no file."""
    target = folder / "out.safetensors"
    for old in folder.glob("*out*"):
        old.unlink()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about odd archives
            FAMILIES[name][0].convert_weight(source, target, settings=UNTOLD[name])
    except MindFormersViTError as error:
        assert str(error).strip()
        assert not list(folder.glob("*out*")) and not list(folder.glob(".*"))
    else:
        assert read_weights(target) and target.with_suffix(".yaml").is_file()


@st.composite
def damage(draw):
    """Where in a file (a fraction), what to do there, and with which bytes."""
    places = st.floats(0, 1, exclude_max=True)
    kinds = st.sampled_from(["set", "insert", "cut", "delete"])
    changes = st.tuples(places, kinds, st.binary(min_size=1, max_size=9))
    return draw(st.lists(changes, min_size=1, max_size=4))


def damaged(data, changes):
    for place, kind, new in changes:
        at = int(place * len(data))
        if kind == "set":
            data = data[:at] + new + data[at + len(new) :]
        elif kind == "insert":
            data = data[:at] + new + data[at:]
        elif kind == "delete":
            data = data[:at] + data[at + len(new) :]
        else:
            data = data[:at]
    return data


@QUIET
@given(name=NAMES, changes=damage())
def test_bytes_of_a_pth(name, changes, tmp_path):
    (tmp_path / "a.pth").write_bytes(damaged(MADE[name, "pth"], changes))
    convert(name, tmp_path / "a.pth", tmp_path)


@QUIET
@given(
    name=st.sampled_from(["mae", "vit", "beit"]),
    file=st.sampled_from(["model.safetensors", "config.json", "preprocessor_config.json"]),
    changes=damage(),
)
def test_bytes_of_a_folder(name, file, changes, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir(exist_ok=True)
    for one in ("model.safetensors", "config.json", "preprocessor_config.json"):
        data = MADE[name, one]
        (folder / one).write_bytes(damaged(data, changes) if one == file else data)
    convert(name, folder, tmp_path)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@QUIET
@given(
    name=st.sampled_from(["mae", "vit", "beit"]),
    file=st.sampled_from(["config.json", "preprocessor_config.json"]),
    values=st.lists(st.tuples(st.integers(0, 40), VALUES), min_size=1, max_size=3),
)
def test_values_of_a_folder(name, file, values, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir(exist_ok=True)
    for one in ("model.safetensors", "config.json", "preprocessor_config.json"):
        (folder / one).write_bytes(MADE[name, one])
    content = json.loads(MADE[name, file])
    for number, value in values:
        content[sorted(content)[number % len(content)]] = value
    (folder / file).write_text(json.dumps(content))
    convert(name, folder, tmp_path)


NEW_NAMES = st.text(st.sampled_from("abc.{}_09 é\n"), max_size=12) | st.sampled_from(
    ["blocks.0.norm1.weight", "blocks.9.norm1.weight", "norm.weight", "vit.cls_tokens", "head"]
)
SHAPES = st.lists(st.integers(0, 5), max_size=4)


@QUIET
@given(
    name=NAMES,
    edits=st.lists(
        st.tuples(st.integers(0, 200), NEW_NAMES | st.none(), SHAPES | st.none()),
        min_size=1,
        max_size=3,
    ),
)
def test_names_and_shapes(name, edits, tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(MADE[name, "pth"])
    loaded = torch.load(path, weights_only=True)
    key = next(iter(loaded))
    tensors = dict(loaded[key])
    for number, new_name, shape in edits:
        old = list(tensors)[number % len(tensors)]
        tensor = tensors.pop(old)
        tensor = tensor if shape is None else torch.ones(shape)
        tensors[old if new_name is None else new_name] = tensor
    torch.save({key: tensors}, path)
    convert(name, path, tmp_path)


@QUIET
@given(name=NAMES, shapes=st.lists(st.tuples(st.integers(0, 200), SHAPES), min_size=1, max_size=6))
def test_shapes_of_our_own_file(name, shapes, tmp_path):
    module, specs = FAMILIES[name]
    wanted = {n: spec.shape for n, spec in specs.items()}
    for number, shape in shapes:
        wanted[sorted(wanted)[number % len(wanted)]] = tuple(shape)
    write_weights(
        tmp_path / "a.safetensors", {n: np.ones(s, np.float32) for n, s in wanted.items()}
    )
    for old in tmp_path.glob("out*"):
        old.unlink()
    try:
        module.convert_weight(tmp_path / "out.pth", tmp_path / "a.safetensors", reversed=True)
    except MindFormersViTError:
        assert not list(tmp_path.glob("out*"))
    else:
        assert (tmp_path / "out.pth").is_file()
