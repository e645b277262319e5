"""The model card: metadata that Hugging Face's own parser takes, and the sections of the card."""

import pytest
from huggingface_hub import ModelCard

from told_story import METRICS, tell_story
from tunesmith.report.model_card import render_card


@pytest.fixture
def card(tmp_path) -> ModelCard:
    return ModelCard(render_card(tell_story(tmp_path)))


def test_the_metadata_is_read_again_by_hugging_face(card):
    data = card.data
    assert (data.library_name, data.pipeline_tag, data.base_model) == (
        "transformers", "text-classification", "org/tiny-model",
    )  # fmt: skip
    assert data.language is None
    assert data.model_name == "reviews"
    assert {item.metric_type: item.metric_value for item in data.eval_results} == METRICS
    assert {(item.dataset_name, item.dataset_split, item.task_type) for item in data.eval_results} == {
        ("reviews", "test", "text-classification")
    }


def test_the_card_has_its_sections(card):
    titles = [line.removeprefix("## ") for line in card.text.splitlines() if line.startswith("## ")]
    assert titles == [
        "Data", "Metrics on 200 test examples", "Slices", "Calibration", "Training", "Recipe", "Limits", "Lineage",
    ]  # fmt: skip
    for text in (
        "ab" * 32,
        "0.7000 to 0.8000",
        "Expected calibration error",
        "git commit c0ffee",
        "| test rows | 200 |",
    ):
        assert text in card.text


def test_a_base_model_on_this_machine_is_not_called_one_of_the_hub(tmp_path):
    card = ModelCard(render_card(tell_story(tmp_path, base="/home/me/models/tiny")))
    assert card.data.base_model is None
    assert "| base model | tiny |" in card.text
    assert "/home/me" not in card.text


def test_yaml_and_fences_in_a_recipe_or_a_name_do_not_break_the_card(tmp_path):
    card = ModelCard(render_card(tell_story(tmp_path, name="a: b\n---\n# c", recipe_text="```\n---\nname: x\n")))
    assert card.data.eval_results[0].dataset_name == "a: b\n---\n# c"
    assert "````yaml\n```\n---\nname: x\n````" in card.text
