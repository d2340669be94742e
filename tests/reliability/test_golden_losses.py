"""P12: a refactoring moves no loss."""

import json

import numpy as np
import pytest

from mindformers_vit.kernels import library
from tests.reliability.golden_losses import GOLDENS, RECIPES, STEPS, losses, make_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("shapes") / "data")


def golden(recipe):
    return json.loads((GOLDENS / f"{recipe}.json").read_text())


def test_every_recipe_is_kept():
    assert sorted(path.stem for path in GOLDENS.glob("*.json")) == sorted(RECIPES)
    assert len(RECIPES) >= 5


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_losses(recipe, data, tmp_path, monkeypatch):
    monkeypatch.setattr(library, "path", lambda: None)
    found = losses(recipe, data, tmp_path)
    assert len(found) == len(golden(recipe)) == STEPS
    np.testing.assert_allclose(found, golden(recipe), rtol=0, atol=1e-6)


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_compiled_operators_begin_alike(recipe, data, tmp_path):
    """Other roundings grow with the updates; before the third they are still roundings."""
    found = losses(recipe, data, tmp_path, steps=3)
    np.testing.assert_allclose(found, golden(recipe)[:3], rtol=0, atol=1e-5)
