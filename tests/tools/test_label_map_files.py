"""The authors' label maps become ours, number by number."""

import importlib.util
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from mindformers_vit.data.token_labels import load_label_map

pytestmark = pytest.mark.fast
TOOL = Path(__file__).parents[2] / "tools" / "convert_label_maps.py"


@pytest.fixture
def convert(caplog):
    """The command: its exit code, and what it says."""
    spec = importlib.util.spec_from_file_location("convert_label_maps", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    caplog.set_level(logging.INFO)

    def run(source, target):
        caplog.clear()
        code = tool.main(["--input_dir", str(source), "--output_dir", str(target)])
        return code, "\n".join(caplog.messages)

    return run


def test_maps_are_converted_once(tmp_path, convert):
    ids = torch.randint(0, 1000, (5, 18, 18)).half()
    label_map = torch.stack([torch.randn(5, 18, 18).half(), ids])
    (tmp_path / "pt" / "n01").mkdir(parents=True)
    torch.save(label_map, tmp_path / "pt" / "n01" / "n01_1.pt")
    out = tmp_path / "npy"
    assert convert(tmp_path / "pt", out) == (0, f"{out}: 1 label maps written, 0 were there")
    found = load_label_map(out / "n01" / "n01_1.npy", 1000)
    np.testing.assert_array_equal(found, label_map.float().numpy())
    assert convert(tmp_path / "pt", out) == (0, f"{out}: 0 label maps written, 1 were there")


def test_other_files_are_refused(tmp_path, convert):
    out, path = tmp_path / "npy", tmp_path / "a.pt"
    assert convert(tmp_path, out) == (2, f"--input_dir: no .pt file in or below '{tmp_path}'")
    torch.save(torch.zeros(3, 2), path)
    said = f"{path}: a label map is a tensor (2, M, h, w), found (3, 2)"
    assert convert(tmp_path, out) == (2, said)
    assert not out.exists()
    path.write_bytes(b"damaged")
    code, said = convert(tmp_path, out)
    assert code == 2
    assert said.startswith(f"{path}: cannot be read as a PyTorch file: ")
