"""The commands for atc, ais_bench and npu-smi, word for word, against stand-ins on the PATH."""

import logging
import sys

import numpy as np
import pytest

from mindformers_vit import cli
from mindformers_vit.deploy.atc import atc_command
from mindformers_vit.deploy.npu import soc_version
from mindformers_vit.deploy.preprocess import preprocess
from mindformers_vit.deploy.score import score
from mindformers_vit.errors import ConfigError
from tests.deploy.lab import (
    CLASSES,
    arguments_of,
    pictures,
    processor,
    program,
    small_logits,
    small_model,
)

pytestmark = pytest.mark.fast
NPU_SMI = """cat << 'END'
+-------------------+-----------------+------------------------------------------------------+
| NPU     Name      | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device    | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===================+=================+======================================================+
| 0       310P3     | OK              | 15.8         42                0    / 0              |
| 0       0         | 0000:82:00.0    | 0            1074 / 21534                            |
+===================+=================+======================================================+
| 1       310P3     | OK              | 15.4         43                0    / 0              |
| 0       1         | 0000:89:00.0    | 0            1070 / 21534                            |
+===================+=================+======================================================+
END"""
MAKE_OM = """for word in "$@"; do
  case $word in --output=*) : > "${word#--output=}.om";; esac
done"""
GELU = ["--optypelist_for_implmode=Gelu", "--op_select_implmode=high_performance"]


@pytest.fixture
def bin_dir(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def common(model, output, name, size):
    return [
        f"--model={model}",
        "--framework=5",
        f"--output={output}",
        "--input_format=NCHW",
        f"--input_shape={name}:{size},3,8,8",
        "--log=error",
        "--soc_version=Ascend310P3",
    ]


def families(folder):
    """What the four documents ask for."""
    return {
        "vit": ("image", [*GELU, "--enable_small_channel=1"]),
        "beit": ("image", GELU),
        "lvvit": ("image", []),
        "smlpnet": ("input", [f"--op_precision_mode={folder}/op_precision.ini"]),
    }


@pytest.mark.parametrize("family", ["vit", "beit", "lvvit", "smlpnet"])
def test_atc_is_called_as_the_document_says(bin_dir, tmp_path, capsys, family):
    model = small_model(tmp_path / "m", family=family)
    program(bin_dir, "npu-smi", NPU_SMI)
    program(bin_dir, "atc", MAKE_OM)
    assert cli.main(["deploy", "atc", "--model", str(model), "--batch_sizes", "4", "8"]) == 0
    name, extra = families(tmp_path / "m")[family]
    expected = [*common(model, tmp_path / "m" / "small_bs8", name, 8), *extra]
    assert arguments_of(bin_dir, "atc") == expected
    assert arguments_of(bin_dir, "npu-smi") == ["info"]
    lines = [line for line in capsys.readouterr().out.splitlines() if line[0] != "#"]
    assert lines[1] == " ".join(["atc", *expected])
    assert f"--input_shape={name}:4,3,8,8" in lines[0]
    assert (tmp_path / "m" / "small_bs4.om").is_file() and (
        tmp_path / "m" / "small_bs8.om"
    ).is_file()
    ini = tmp_path / "m" / "op_precision.ini"
    assert ini.is_file() == (family == "smlpnet")
    if ini.is_file():
        assert ini.read_text() == "Gelu=high_performance\n"


def test_without_atc_the_command_is_printed(bin_dir, tmp_path, capsys):
    model = small_model(tmp_path / "m", batch=8)
    argv = ["deploy", "atc", "--model", str(model), "--soc_version", "310P3"]
    assert cli.main([*argv, "--output", str(tmp_path / "om")]) == 0
    expected = common(model, tmp_path / "om" / "small_bs8", "image", 8)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == " ".join(["atc", *expected, *GELU, "--enable_small_channel=1"])
    assert said[1] == "# atc is not installed here: run the line above where it is"


@pytest.mark.parametrize(
    ("lines", "message"),
    [("exit 3", "atc ended with exit code 3"), ("true", "atc ended well, but there is no")],
)
def test_atc_that_fails(bin_dir, tmp_path, capsys, lines, message):
    model = small_model(tmp_path / "m")
    program(bin_dir, "atc", lines)
    assert cli.main(["deploy", "atc", "--model", str(model), "--soc_version", "Ascend310P3"]) == 1
    assert message in capsys.readouterr().err


def test_what_atc_cannot_take(tmp_path, caplog, monkeypatch):
    model = small_model(tmp_path / "m", batch=8)
    with pytest.raises(ConfigError, match=r"batch size 4 given, but small_bs8.onnx takes 8"):
        atc_command(model, batch_size=4, soc="Ascend310P3")
    model = small_model(tmp_path / "n", operators={"Gemm": 1, "Gelu": 2})
    with pytest.raises(ConfigError, match="ATC knows no Gelu at opset 11"):
        atc_command(model, batch_size=4, soc="Ascend310P3")
    model = small_model(tmp_path / "o", opset=17)
    monkeypatch.setattr(logging.getLogger("mindformers_vit"), "propagate", True)
    atc_command(model, batch_size=4, soc="Ascend310P3")
    assert "opset 17; the documents' ATC reads 11 by default" in caplog.text


def test_the_chip(bin_dir):
    assert soc_version("310P3") == soc_version("Ascend310P3") == "Ascend310P3"
    with pytest.raises(ConfigError, match="no npu-smi here to ask; give --soc_version"):
        soc_version()
    program(bin_dir, "npu-smi", NPU_SMI)
    assert soc_version() == "Ascend310P3"
    program(bin_dir, "npu-smi", NPU_SMI.replace("1       310P3", "1       910B4"))
    with pytest.raises(ConfigError, match="exit code 0 and shows 310P3, 910B4; give"):
        soc_version()
    program(bin_dir, "npu-smi", "exit 9")
    with pytest.raises(ConfigError, match="exit code 9 and shows no chip; give"):
        soc_version()


# ---- ais_bench

COMPUTE = """out= name= input=
while [ $# -gt 1 ]; do
  case $1 in
    --input) input=$2;; --output) out=$2;; --output_dirname) name=$2;;
  esac
  shift 2
done
exec {python} {script} "$input" "$out/$name"
"""
SCRIPT = """
import sys, pathlib, numpy as np
source, target = map(pathlib.Path, sys.argv[1:])
target.mkdir(parents=True)
weight = np.load(pathlib.Path(__file__).with_name("weight.npy"))
for path in sorted(source.glob("*.bin")):
    images = np.fromfile(path, "<f4").reshape(-1, 3, 8, 8)
    np.save(target / f"{path.stem}_0.npy", images.mean((2, 3)) @ weight.T)
target.with_name(target.name + "_summary.json").write_text("{}")
"""


def test_ais_bench_is_called_as_the_documents_say(bin_dir, tmp_path):
    images = pictures(tmp_path / "val", 9)
    preprocess(processor(), images, tmp_path / "in", batch_size=4)
    (bin_dir / "compute.py").write_text(SCRIPT)
    np.save(bin_dir / "weight.npy", small_logits(np.eye(3)[:, :, None, None]).T)
    lines = COMPUTE.format(python=sys.executable, script=bin_dir / "compute.py")
    program(bin_dir, "ais_bench", lines)
    argv = ["deploy", "infer", "--backend", "ais_bench", "--model", "m_bs4.om", "--outfmt", "NPY"]
    argv += ["--input", str(tmp_path / "in"), "--output", str(tmp_path), "--batchsize", "4"]
    assert cli.main([*argv, "--output_dirname", "result"]) == 0
    expected = f"""--model m_bs4.om --input {tmp_path}/in --output {tmp_path}
        --output_dirname result --outfmt NPY --batchsize 4"""
    assert arguments_of(bin_dir, "ais_bench") == expected.split()
    found = score(tmp_path / "result", image_dir=images, input_dir=tmp_path / "in")
    assert (found.images, found.classes) == (9, CLASSES)


def test_ais_bench_that_fails_or_is_not_there(bin_dir, tmp_path, capsys):
    preprocess(processor(), pictures(tmp_path / "val", 2), tmp_path / "in")
    argv = ["deploy", "infer", "--backend", "ais_bench", "--model", "m.om"]
    argv += ["--input", str(tmp_path / "in"), "--output", str(tmp_path)]
    assert cli.main(argv) == 2
    assert "ais_bench is not installed" in capsys.readouterr().err
    program(bin_dir, "ais_bench", "exit 5")
    assert cli.main(argv) == 1
    assert "ais_bench ended with exit code 5" in capsys.readouterr().err
