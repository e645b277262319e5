"""What does not go together with `data.streaming`."""

from __future__ import annotations

import pytest

from tunesmith.errors import RecipeError
from tunesmith.recipe import Recipe

STREAMED = """\
name: reviews
examples: {kind: text-classification, text: text, label: label, labels: [bad, good]}
data:
  sources: [{files: [reviews.csv]}]
  streaming: {shuffle_buffer: 100, sample_rows: 50}
  transforms:
    - drop_null: [text]
model: {base: ./base}
train:
  max_steps: 100
  validation_steps: 10
"""


@pytest.fixture
def load(tmp_path):
    def load(text):
        (tmp_path / "recipe.yaml").write_text(text)
        return Recipe.load(tmp_path / "recipe.yaml", environ={})

    return load


def test_a_recipe_may_stream(load):
    recipe = load(STREAMED)
    assert recipe.data.streaming is not None
    assert (recipe.data.streaming.shuffle_buffer, recipe.data.streaming.sample_rows) == (100, 50)
    assert recipe.train.validation_steps == 10


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("  max_steps: 100\n", "", "9: train.max_steps: needed with data.streaming"),
        ("./base}", "./base, start: champion}", "8: model.start: champion asks which rows are new to it"),
        ("  validation_steps: 10\n", "", "9: train.validation_steps: needed with data.streaming"),
        ("  max_steps", "  num_epochs: 2\n  max_steps", "10: train.num_epochs: not with data.streaming"),
        (", labels: [bad, good]", "", "2: examples.labels: needed with data.streaming"),
        ("drop_null: [text]", "take: 3", r"7: data.transforms.0: take looks at all rows.*train.max_steps"),
        ("drop_null: [text]", "shuffle: {}", "7: data.transforms.0: shuffle looks at all rows"),
        ("drop_null: [text]", "drop_duplicates: [text]", "7: data.transforms.0: drop_duplicates looks at all"),
        ("drop_null: [text]", "sample: {num_rows: 3}", "7: data.transforms.0: sample looks at all rows"),
        ("  max_steps", "  class_weights: balanced\n  max_steps", "10: train.class_weights: balanced counts all rows"),
        ("model:", "split: {stratify: label}\nmodel:", "8: split.stratify: not with data.streaming"),
        ("model:", "split: {leakage: {policy: drop}}\nmodel:", "8: split.leakage.policy: drop looks at all rows"),
        (
            "model:",
            "  contract: {columns: {text: {unique: true}}}\nmodel:",
            "8: data.contract.columns.text.unique: looks at all rows",
        ),
        ("  streaming: {shuffle_buffer: 100, sample_rows: 50}\n", "", "10: train.validation_steps: has no effect"),
    ],
)
def test_what_a_stream_cannot_give_is_refused_with_its_line(load, before, after, told):
    with pytest.raises(RecipeError, match=told):
        load(STREAMED.replace(before, after))


def test_conflicts_with_a_stream_are_told_beside_other_mistakes(load):
    with pytest.raises(RecipeError) as caught:
        load(STREAMED.replace("max_steps: 100", "num_epochs: two").replace("base: ./base", "bas: ./base"))
    told = str(caught.value)
    assert "train.max_steps: needed with data.streaming" in told
    assert "model.bas" in told
