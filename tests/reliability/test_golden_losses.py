"""P12: a refactoring moves no loss."""

import json

import numpy as np
import pytest

from tests.reliability.golden_losses import GOLDENS, RECIPES, STEPS, losses, make_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("shapes") / "data")


def test_every_recipe_is_kept():
    assert sorted(path.stem for path in GOLDENS.glob("*.json")) == sorted(RECIPES)
    assert len(RECIPES) >= 5


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_losses(recipe, data, tmp_path):
    found, expected = (
        losses(recipe, data, tmp_path),
        json.loads((GOLDENS / f"{recipe}.json").read_text()),
    )
    assert len(found) == len(expected) == STEPS
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
