"""Every classifier becomes a file that computes the same, or no file at all."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from mindformers_vit.config.loader import load_yaml
from mindformers_vit.deploy import export as export_module
from mindformers_vit.deploy.atc_operators import ATC_OPERATORS
from mindformers_vit.deploy.model_manifest import manifest_path, read_model_manifest
from mindformers_vit.deploy.onnx_export.graph import Padding
from mindformers_vit.deploy.onnx_export.trace import GraphOptions, trace
from mindformers_vit.deploy.session import OnnxSession
from mindformers_vit.errors import ExportError
from tests.deploy.conftest import RECIPES, SIDES
from tests.engine.lab import command

NAMES = {
    "vit": ("image", "output"),
    "beit": ("image", "class"),
    "lvvit": ("image", "features"),
    "smlpnet": ("input", "output"),
}


def images(family):
    size = (8, 3, SIDES[family], SIDES[family])
    return np.random.default_rng(1).normal(size=size).astype(np.float32)


def run_file(model, images, folder):
    path = folder / "model.onnx"
    onnx.save_model(model, path)
    return OnnxSession(path)(images)


@pytest.fixture(scope="module")
def logits(models):
    """family -> what its network computes on its `images`, compiled once."""
    import mindspore as ms

    done = {}

    def compute(family):
        if family not in done:
            network = models(family).network
            network.set_train(False)
            done[family] = network(ms.Tensor(images(family))).asnumpy()
            assert done[family].std(0).min() > 0.03  # the images are told apart
        return done[family]

    return compute


@pytest.mark.parametrize("family", RECIPES)
@pytest.mark.parametrize("opset", [11, 17, 20])
@pytest.mark.parametrize("batch", [1, 8, None])
def test_onnx_computes_what_the_network_computes(models, logits, tmp_path, family, opset, batch):
    model = trace(models(family).network, GraphOptions(opset=opset, batch_size=batch))
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == opset
    given = images(family)[: batch or 8]
    found = run_file(model, given, tmp_path)
    assert np.abs(found - logits(family)[: len(given)]).max() <= 1e-5
    if batch is None:
        np.testing.assert_allclose(run_file(model, given[:3], tmp_path), found[:3], atol=1e-5)
    operators = {node.op_type for node in model.graph.node}
    if opset == 11:
        assert operators <= ATC_OPERATORS
    has = {"LayerNormalization": opset >= 17, "Gelu": opset >= 20, "Erf": opset < 20}
    assert {name: name in operators for name in has} == has


@pytest.mark.parametrize("family", RECIPES)
def test_the_command(models, tmp_path, capsys, family):
    model = models(family)
    flags = ("--run_mode", "export", "--load_checkpoint", str(model.directory))
    more = ("--export_format", "onnx", "--batch_size", "8", "--opset", "11")
    assert command(model.recipe, tmp_path, *flags, *more) == 0
    (path,) = (tmp_path / "export").glob("*_bs8.onnx")
    manifest = read_model_manifest(path)
    assert (manifest.input.name, manifest.output.name) == NAMES[family]
    assert manifest.input.shape == (8, 3, SIDES[family], SIDES[family])
    assert manifest.output.shape == (8, 12)
    assert (manifest.family, manifest.opset, manifest.batch_size) == (family, 11, 8)
    checked = manifest.verification
    assert 0 < checked.max_difference < 1e-5
    assert (checked.images, checked.top1_agreement, checked.tolerance) == (8, 1.0, 1e-4)
    written = onnx.load(path)
    assert [port.name for port in (*written.graph.input, *written.graph.output)] == [*NAMES[family]]
    assert manifest.nodes == len(written.graph.node)
    assert "largest difference of a logit" in capsys.readouterr().err
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name, f"{path.name}.json"]


# ---- promise P10


def spoil(model):
    """One weight of the middle of the network, changed by a tenth."""
    tensor = next(t for t in model.graph.initializer if t.name.endswith("blocks.2.mlp.fc1.weight"))
    array = numpy_helper.to_array(tensor).copy()
    array[5, 7] += 0.1
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


def test_a_file_that_computes_something_else_is_not_kept(models, tmp_path, monkeypatch, capsys):
    from mindformers_vit.deploy.onnx_export import trace as module

    original = module.trace
    monkeypatch.setattr(module, "trace", lambda *args: spoil(original(*args)))
    model = models("vit")
    flags = ("--run_mode", "export", "--load_checkpoint", str(model.directory))
    kept = tmp_path / "export" / "vit_tiny_p8_bs1.onnx"
    kept.parent.mkdir()
    kept.write_text("an older one")
    assert command(model.recipe, tmp_path, *flags) == 1
    said = capsys.readouterr().err
    assert "error: the exported file does not compute what the network computes: a logit" in said
    assert [p.name for p in kept.parent.iterdir()] == [kept.name]
    assert kept.read_text() == "an older one"
    monkeypatch.undo()
    assert command(model.recipe, tmp_path, *flags) == 0
    assert read_model_manifest(kept).verification.max_difference < 1e-5


def test_a_network_that_does_something_unknown(models, monkeypatch):
    network = models("vit").network
    monkeypatch.setattr(type(network), "forward_head", lambda _, x: x.cumsum(1))
    with pytest.raises(ExportError, match=r"uses Tensor.cumsum, which the ONNX export does not"):
        trace(network, GraphOptions())


# ---- options


def exported(models, family, out, *flags):
    model = models(family)
    argv = ("--run_mode", "export", "--load_checkpoint", str(model.directory), *flags)
    assert command(model.recipe, out, *argv) == 0
    (path,) = [p for p in (out / "export").iterdir() if p.suffix in (".onnx", ".mindir")]
    return path, read_model_manifest(path)


@pytest.mark.parametrize("family", RECIPES)
def test_float16(models, logits, tmp_path, family):
    """Difference and agreement are stated; they are those of the file."""
    flags = ("--export.precision=float16", "--batch_size", "dynamic")
    path, manifest = exported(models, family, tmp_path, *flags)
    assert path.name.endswith("_dynamic_fp16.onnx")
    checked = manifest.verification
    assert checked.tolerance is None
    assert 1e-5 < checked.max_difference < 0.05
    written = onnx.load(path)
    kinds = {onnx.TensorProto.DataType.Name(t.data_type) for t in written.graph.initializer}
    assert "FLOAT16" in kinds
    assert written.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    found = OnnxSession(path)(images(family))
    assert 1e-5 < np.abs(found - logits(family)).max() < 0.05
    assert checked.top1_agreement >= 0.5
    plain = trace(models(family).network, GraphOptions(batch_size=None))
    assert path.stat().st_size < 0.6 * plain.ByteSize()


def test_normalisation_in_the_graph(models, tmp_path):
    path, manifest = exported(models, "beit", tmp_path, "--export.pixels=uint8")
    assert path.name.endswith("_bs1_uint8.onnx")
    assert manifest.input.dtype == "uint8"
    pixels = np.random.default_rng(2).integers(0, 256, (1, 3, 64, 64), dtype=np.uint8)
    plain = trace(models("beit").network, GraphOptions())
    wanted = run_file(plain, pixels / np.float32(127.5) - 1, tmp_path)
    assert np.abs(OnnxSession(path)(pixels) - wanted).max() < 1e-5


def test_mindir(models, tmp_path):
    path, manifest = exported(
        models, "vit", tmp_path, "--export_format", "mindir", "--batch_size", "2"
    )
    assert path.name == "vit_tiny_p8_bs2.mindir"
    assert manifest.verification.runtime.startswith("mindspore ")
    assert manifest.verification.max_difference < 1e-5
    assert manifest.input.name == "pixel_values"
    assert b":pixel_values" in path.read_bytes()  # the name that atc's --input_shape needs
    assert manifest_path(path).name != manifest_path(path.with_suffix(".onnx")).name
    assert path.stat().st_mode & 0o777 == (tmp_path / "config_export.yaml").stat().st_mode & 0o777


def test_weights_beside_the_graph_where_one_file_cannot_hold_them(models, tmp_path, monkeypatch):
    monkeypatch.setattr(export_module, "_ONE_FILE", 1000)
    path, manifest = exported(models, "beit", tmp_path)
    data = path.with_name(f"{path.name}.data")
    assert manifest.files.keys() == {path.name, data.name}
    assert data.stat().st_size > 10 * path.stat().st_size
    data.write_bytes(data.read_bytes()[:-1] + b"x")
    with pytest.raises(Exception, match=r"beit_tiny_p8_bs1.onnx.data: not the file that was"):
        read_model_manifest(path)


@pytest.mark.parametrize(
    ("family", "flags", "message"),
    [
        ("vit", ["--export_format", "air"], "'air' is written by MindSpore's Ascend backend only"),
        ("vit", ["--export_format", "mindir", "--batch_size", "dynamic"], "'dynamic' is offered"),
        ("vit", ["--opset", "21"], "export.opset: input should be less than or equal to 20"),
        ("vit", ["--export.pad_tokens_to=36"], "36 given, but the network has 37 tokens"),
        ("vit", ["--export_format", "tflite"], "should be 'onnx', 'mindir' or 'air'"),
        ("smlpnet", ["--export.pad_tokens_to=64"], "SMLPNetForImageClassification has no tokens"),
    ],
)
def test_wishes_that_are_refused(models, tmp_path, capsys, family, flags, message):
    model = models(family)
    argv = ("--run_mode", "export", "--load_checkpoint", str(model.directory), *flags)
    assert command(model.recipe, tmp_path, *argv) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("export/*"))


def test_the_trainer_exports(models, tmp_path):
    from mindformers_vit import Trainer

    model = models("lvvit")
    trainer = Trainer({**load_yaml(model.recipe), "output_dir": str(tmp_path)})
    path = trainer.export(str(model.directory), batch_size="dynamic", opset=17)
    assert path == tmp_path / "export" / "lvvit_tiny_p8_dynamic.onnx"
    assert json.loads(manifest_path(path).read_text())["opset"] == 17


# ---- 208 tokens


@pytest.fixture(scope="module")
def beit_of_197_tokens():
    from mindformers_vit.models.beit.beit import BeitForImageClassification
    from mindformers_vit.models.beit.beit_config import BeitConfig
    from tests.deploy.conftest import spread

    sizes = {"hidden_size": 48, "num_attention_heads": 4, "intermediate_size": 96}
    config = BeitConfig(image_size=224, num_hidden_layers=2, num_labels=10, **sizes)
    return spread(BeitForImageClassification(config))


def padded_difference(network, folder):
    import mindspore as ms

    images = np.random.default_rng(4).normal(size=(2, 3, 224, 224)).astype(np.float32)
    options = GraphOptions(batch_size=2, pad_tokens_to=208)
    model = trace(network, options)
    onnx.checker.check_model(model, full_check=True)
    shapes = {
        tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        for value in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    assert (2, 4, 208, 208) in shapes and (2, 4, 197, 197) not in shapes
    assert (2, 196, 48) in shapes  # what is pooled
    network.set_train(False)
    wanted = network(ms.Tensor(images)).asnumpy()
    unpadded = run_file(trace(network, replace(options, pad_tokens_to=None)), images, folder)
    padded = run_file(model, images, folder)
    return np.abs(padded - wanted).max(), np.abs(padded - unpadded).max()


def test_padding_to_208_tokens_changes_nothing(beit_of_197_tokens, tmp_path):
    assert max(padded_difference(beit_of_197_tokens, tmp_path)) <= 1e-5


def test_without_the_mask_padding_changes_the_logits(beit_of_197_tokens, tmp_path, monkeypatch):
    """As graph_modify.py leaves it: eleven keys with a score of 0."""

    def unmasked(self, bias):
        return np.pad(bias, ((0, 0), (0, 11), (0, 11)))

    monkeypatch.setattr(Padding, "masked", unmasked)
    assert min(padded_difference(beit_of_197_tokens, tmp_path)) > 1e-3


@pytest.mark.parametrize("family", ["vit", "beit", "lvvit"])
def test_padding_of_every_family_with_tokens(models, logits, tmp_path, family):
    options = GraphOptions(batch_size=None, pad_tokens_to=80)
    found = run_file(trace(models(family).network, options), images(family), tmp_path)
    assert np.abs(found - logits(family)).max() <= 1e-5


def test_padding_by_the_command(models, tmp_path):
    path, manifest = exported(models, "beit", tmp_path, "--export.pad_tokens_to=80")
    assert path.name.endswith("_bs1_tokens80.onnx")
    assert manifest.pad_tokens_to == 80
    assert manifest.verification.max_difference < 1e-5


# ---- size


@pytest.mark.parametrize(("opset", "nodes"), [(17, 406), (11, 606)])
def test_nodes_of_vit_base(opset, nodes):
    """Hugging Face's, exported by torch 2.13.0, has 660 at opset 17, 404 after onnxslim."""
    from mindformers_vit import AutoModel

    network = AutoModel.from_config("vit_base_p16")
    assert len(trace(network, GraphOptions(opset=opset)).graph.node) == nodes
    assert nodes <= 1.3 * 660
