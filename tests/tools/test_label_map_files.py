"""The authors' label maps become ours, number by number."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mindformers_vit.data.token_labels import load_label_map

pytestmark = pytest.mark.fast
TOOL = Path(__file__).parents[2] / "tools" / "convert_label_maps.py"


def convert(source, target):
    command = [sys.executable, str(TOOL), "--input_dir", str(source), "--output_dir", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_maps_are_converted_once(tmp_path):
    ids = torch.randint(0, 1000, (5, 18, 18)).half()
    label_map = torch.stack([torch.randn(5, 18, 18).half(), ids])
    (tmp_path / "pt" / "n01").mkdir(parents=True)
    torch.save(label_map, tmp_path / "pt" / "n01" / "n01_1.pt")
    code, said = convert(tmp_path / "pt", tmp_path / "npy")
    assert (code, said.strip()) == (0, f"{tmp_path / 'npy'}: 1 label maps written, 0 were there")
    found = load_label_map(tmp_path / "npy" / "n01" / "n01_1.npy", 1000)
    np.testing.assert_array_equal(found, label_map.float().numpy())
    code, said = convert(tmp_path / "pt", tmp_path / "npy")
    assert (code, said.strip()[-31:]) == (0, "0 label maps written, 1 were there"[-31:])


def test_other_files_are_refused(tmp_path):
    code, said = convert(tmp_path, tmp_path / "npy")
    assert (code, said.strip()) == (2, f"--input_dir: no .pt file in or below '{tmp_path}'")
    torch.save(torch.zeros(3, 2), tmp_path / "a.pt")
    code, said = convert(tmp_path, tmp_path / "npy")
    assert code == 2
    assert (
        said.strip() == f"{tmp_path / 'a.pt'}: a label map is a tensor (2, M, h, w), found (3, 2)"
    )
    assert not (tmp_path / "npy").exists()
    (tmp_path / "a.pt").write_bytes(b"damaged")
    assert "a.pt: cannot be read as a PyTorch file" in convert(tmp_path, tmp_path / "npy")[1]
