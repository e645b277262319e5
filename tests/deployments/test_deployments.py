"""Every entry point imports, and every shipped recipe is valid."""

from importlib import import_module
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tunesmith.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]
DEPLOYMENTS = YAML(typ="safe").load(ROOT / "deployments" / "prefect.yaml")["deployments"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["name"])
def test_an_entry_point_is_a_flow_that_takes_the_parameters(deployment):
    from prefect import Flow

    module, _, name = deployment["entrypoint"].rpartition(".")
    flow = getattr(import_module(module), name)
    assert isinstance(flow, Flow)
    assert flow.validate_parameters(deployment["parameters"])


@pytest.mark.parametrize("recipe", sorted((ROOT / "deployments" / "recipes").rglob("recipe.yaml")), ids=str)
def test_a_shipped_recipe_is_valid(recipe, tmp_path):
    loaded = Recipe.load(recipe, environ={"TUNESMITH_HOME": str(tmp_path)})
    assert loaded.name
