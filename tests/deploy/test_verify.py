"""What counts as the same, and what is exported at all."""

import numpy as np
import pytest

from mindformers_vit.deploy.verify import compare
from mindformers_vit.errors import ExportError
from mindformers_vit.registry import families
from tests.deploy.conftest import RECIPES
from tests.engine.lab import command

pytestmark = pytest.mark.fast


def test_every_classifier_is_exported_here():
    assert {f.name for f in families() if f.task == "image_classification"} == RECIPES.keys()


def test_what_counts_as_different():
    wanted = np.array([[1.0, 2.0], [3.0, 2.0]], np.float32)
    near = compare(wanted + 0.9e-4, wanted, tolerance=1e-4, runtime="x")
    assert near.max_difference == pytest.approx(0.9e-4, rel=1e-3)
    for found in (wanted + 1.1e-4, wanted * np.nan, wanted + np.inf):
        with pytest.raises(ExportError, match=r"a logit differs by .* on 2 images, allowed is 0"):
            compare(found, wanted, tolerance=1e-4, runtime="x")
    with pytest.raises(ExportError, match=r"shape \(1, 2\), the network \(2, 2\)"):
        compare(wanted[:1], wanted, tolerance=1e-4, runtime="x")
    small = wanted * 1e-3  # of small logits, a share
    with pytest.raises(ExportError, match="allowed is 3e-07"):
        compare(small + 1e-6, small, tolerance=1e-4, runtime="x")
    half = compare(wanted[:, ::-1], wanted, tolerance=None, runtime="x")
    assert (half.tolerance, half.top1_agreement) == (None, 0.0)
    one = compare(np.array([[1.0, 2.0], [1.0, 2.0]]), wanted, tolerance=None, runtime="x")
    assert one.top1_agreement == 0.5
    with pytest.raises(ExportError, match="allowed is a finite one"):
        compare(wanted * np.nan, wanted, tolerance=None, runtime="x")


def test_a_masked_autoencoder_is_no_classifier(capsys, tmp_path):
    recipe = RECIPES["vit"].parents[1] / "mae" / "run_mae_vit_tiny_p8_48_cpu.yaml"
    assert command(recipe, tmp_path, "--run_mode", "export", "--dry_run") == 2
    assert "run_mode: export is for classifiers, ViTMAEForPreTraining is" in capsys.readouterr().err
