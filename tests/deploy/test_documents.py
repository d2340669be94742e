"""Every deploy command that a page shows is one; every command of the documents has its row."""

import re
import shlex
from pathlib import Path

import pytest

from mindformers_vit.cli import read_command_line
from mindformers_vit.deploy.commands import build_parser
from mindformers_vit.engine.plan import make_plan

pytestmark = pytest.mark.fast
ROOT = Path(__file__).parents[2]
DEPLOY = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
STARTS = ("python run_mindformer.py deploy ", "python -m mindformers_vit deploy ")
PAGES = ("README.md", "README_CN.md", "docs/deploy.md")


def lines_of(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    return [line.strip() for line in re.sub(r"\\\n\s*", " ", text).splitlines()]


def commands(page):
    found = [(line, start) for line in lines_of(page) for start in STARTS if line.startswith(start)]
    return [shlex.split(line.removeprefix(start)) for line, start in found]


def test_deploy_commands_are_valid():
    counts = {page: len(commands(page)) for page in PAGES}
    assert counts == {"README.md": 1, "README_CN.md": 1, "docs/deploy.md": 6}
    assert commands("README.md") == commands("README_CN.md")
    shown = set()
    for page in PAGES:
        for argv in commands(page):
            build_parser().parse_args(argv)
            shown.add(argv[0])
    assert shown == {"preprocess", "atc", "infer", "score", "benchmark", "run"}


def test_the_export_of_the_page_is_a_valid_run(monkeypatch):
    monkeypatch.chdir(ROOT)
    start = "python run_mindformer.py --config"
    (line,) = [line for line in lines_of("docs/deploy.md") if line.startswith(start)]
    values, _ = read_command_line(shlex.split(line)[2:])
    plan = make_plan(values)
    assert (plan.run.export.batch_size, plan.run.export.opset) == (8, 11)
    assert plan.run.runner_config.batch_size == 25  # the recipe's own


SCRIPTS = """
MAE_preprocess.py MAE_pth2onnx.py MAE_postprocess.py beit_preprocess.py beit_pth2onnx.py
graph_modify.py beit_eval_acc.py LV_Vit_preprocess.py LV_Vit_pth2onnx.py LV_Vit_postprocess.py
smlp_pth2onnx.py smlp_preprocess.py smlp_postprocess.py ais_infer.py onnxsim atc npu-smi
ais_bench"""


def test_every_script_of_the_documents_has_a_row():
    table = DEPLOY.partition("## The documents' commands")[2].partition("## What is wrong")[0]
    missing = [name for name in SCRIPTS.split() if name not in table]
    assert missing == []
    flags = """--image-path --prep-image --source --target --input_shape --optypelist_for_implmode
        --op_select_implmode --enable_small_channel --outfmt --output_dirname --batchsize
        --folder-davinci-target --annotation-file-path --result-json-path --json-file-name
        --image_path --prep_image --input-shape --loop --folder_davinci_target
        --annotation_file_path --result_json_path --json_file_name --src_path --save_path
        --interpolation --crop-pct --model_path --onnx_path --result_path --annotation_path
        --model_name --pth_path --opset_version --op_precision_mode --data_root --save_dir
        --infer_result_dir --n"""
    assert [flag for flag in flags.split() if flag not in table] == []


@pytest.mark.parametrize(
    ("listed", "factors"),
    [
        ([75.0, 50.9, 20.4, 8.5, 4.5], [300.0, 407.2, 326.4, 272.0, 288.0]),
        ([76.0, 59.9, 26.4, 11.5, 5.1], [304.0, 479.2, 422.4, 368.0, 326.4]),
    ],
)
def test_throughputs_are_the_documents_times_the_batch(listed, factors):
    found = [round(fps * size, 1) for fps, size in zip(listed, (4, 8, 16, 32, 64), strict=True)]
    assert found == factors
    assert all(str(value) in DEPLOY for value in factors[1:])
    assert round(1000 * 16 / 55.18075942993164, 1) == 290.0
