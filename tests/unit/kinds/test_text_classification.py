from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from tunesmith.errors import DataError
from tunesmith.kinds import text_classification as kind
from tunesmith.kinds.text_classification import TextClassification
from tunesmith.modeling.load import build_model, load_tokenizer

EXAMPLES = TextClassification(kind="text-classification", text="text", label="label")
LABELS = ("bad", "good")


def make_table(texts: list[Any], labels: Any, **more: Any) -> pa.Table:
    ids = [f"{number:016x}" for number in range(len(texts))]
    return pa.table({"row_id": ids, "text": texts, "label": labels, **more})


def origin(row: int) -> str:
    return f"reviews.csv:{row + 2}"


def check(table: pa.Table, examples: TextClassification = EXAMPLES) -> None:
    kind.check_rows(table, examples, origin)


def test_good_rows_pass() -> None:
    check(make_table(["fine", ""], ["good", "bad"]))


def test_a_missing_column_is_named_with_those_present_and_the_nearest() -> None:
    table = pa.table({"Text": ["a"], "label": ["b"]})
    with pytest.raises(
        DataError, match=r"^reviews.csv:2: there is no column 'text'.*present: 'Text', 'label'.*mean 'Text' for 'text'"
    ):
        check(table)


def test_a_table_without_rows_is_refused() -> None:
    with pytest.raises(DataError, match="no rows are left"):
        check(pa.table({"text": pa.array([], pa.string()), "label": pa.array([], pa.string())}))


@pytest.mark.parametrize("column", ["text", "label"])
def test_a_missing_value_is_named_with_its_file_and_line(column: str) -> None:
    columns = {"text": ["a", "b", "c"], "label": ["x", "y", "x"]}
    columns[column] = [columns[column][0], None, None]  # type: ignore[list-item]  # a null on purpose
    with pytest.raises(DataError, match=rf"reviews\.csv:3: no value in column '{column}' \(2 rows of 3"):
        check(pa.table(columns))


def test_a_text_column_of_numbers_is_refused_with_its_first_value() -> None:
    with pytest.raises(DataError, match=r"'text' holds whole numbers, not text \(first: 7\)"):
        check(make_table([7, 8], ["x", "y"]))


def test_a_second_text_is_checked_like_the_first() -> None:
    examples = TextClassification(kind="text-classification", text="text", text_pair="other", label="label")
    with pytest.raises(DataError, match="'other' holds decimal numbers"):
        check(make_table(["a", "b"], ["x", "y"], other=[0.5, 1.5]), examples)


def test_a_single_class_is_refused() -> None:
    with pytest.raises(DataError, match="'x' in all of 2 rows"):
        check(make_table(["a", "b"], ["x", "x"]))


def test_a_label_outside_the_set_is_named_with_its_line_and_the_set() -> None:
    examples = EXAMPLES.model_copy(update={"labels": LABELS})
    with pytest.raises(DataError, match=r"csv:4: .*'ugly'.*not in examples.labels \('bad', 'good'\).*1 row of 3"):
        check(make_table(["a", "b", "c"], ["good", "bad", "ugly"]), examples)


@pytest.mark.parametrize("value", [0.5, float("inf"), float("nan"), 1e300])
def test_labels_that_are_no_whole_numbers_are_refused(value: float) -> None:
    with pytest.raises(DataError, match=r"csv:3.*needs classes, not decimal numbers"):
        check(make_table(["a", "b"], [1.0, value]))


def test_a_label_that_is_a_list_is_refused() -> None:
    with pytest.raises(DataError, match="a label is text, a whole number or true/false"):
        check(make_table(["a", "b"], [["x"], ["y"]]))


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (["b", "a", "b"], ("a", "b")),
        ([10, 2, 1], ("1", "2", "10")),
        ([1.0, 0.0, 1.0], ("0", "1")),
        ([True, False, True], ("false", "true")),
        (["10", "2", "x"], ("10", "2", "x")),
    ],
)
def test_labels_are_compared_as_text_and_sorted(values: list[Any], labels: tuple[str, ...]) -> None:
    assert kind.find_labels(make_table(["t"] * 3, values), EXAMPLES) == labels


def test_the_recipe_decides_the_order_of_the_labels() -> None:
    examples = EXAMPLES.model_copy(update={"labels": ("good", "bad")})
    assert kind.find_labels(make_table(["a", "b"], ["bad", "good"]), examples) == ("good", "bad")


def test_a_train_split_of_one_class_is_refused() -> None:
    with pytest.raises(DataError, match=r"no two labels.*only 'x'"):
        kind.find_labels(make_table(["a"], ["x"]), EXAMPLES)


@pytest.mark.parametrize(("labels", "message"), [(("a", "a"), "names 'a' twice"), (("a",), "at least two")])
def test_a_label_set_that_cannot_be_learned_is_refused(labels: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TextClassification(kind="text-classification", text="t", label="l", labels=labels)


def test_features_have_ids_types_labels_and_keep_the_row_id(bert: Path) -> None:
    tokenizer = load_tokenizer(bert)
    features, counts = kind.encode(make_table(["good film", "bad"], ["good", "bad"]), tokenizer, EXAMPLES, LABELS, 16)
    assert features.column_names == ["row_id", "input_ids", "token_type_ids", "labels"]
    assert features["row_id"].to_pylist() == [f"{0:016x}", f"{1:016x}"]
    assert features["labels"].to_pylist() == [1, 0]
    assert features["input_ids"].to_pylist() == tokenizer(["good film", "bad"])["input_ids"]
    assert counts == {"num_tokens": 7, "num_truncated": 0}


def test_a_pair_has_both_texts_and_their_types(bert: Path) -> None:
    tokenizer = load_tokenizer(bert)
    examples = EXAMPLES.model_copy(update={"text_pair": "other"})
    table = make_table(["good film"], ["good"], other=["a bad story"])
    features, _ = kind.encode(table, tokenizer, examples, LABELS, 16)
    expected = tokenizer("good film", "a bad story")
    assert features["input_ids"].to_pylist() == [expected["input_ids"]]
    assert features["token_type_ids"].to_pylist() == [expected["token_type_ids"]]


def test_a_label_that_train_does_not_have_names_the_row(bert: Path) -> None:
    with pytest.raises(DataError, match=r"row 0000000000000001: .*'ugly', which no row of the train split has"):
        kind.encode(make_table(["a", "b"], ["good", "ugly"]), load_tokenizer(bert), EXAMPLES, LABELS, 16)


def test_a_batch_is_padded_to_its_longest_row() -> None:
    rows = [{"input_ids": [5, 6, 7], "token_type_ids": [0, 0, 1], "labels": 1}, {"input_ids": [8], "labels": 0}]
    rows[1]["token_type_ids"] = [1]
    batch = kind.collate(rows, pad_token_id=9)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [1, 0]
    assert all(values.dtype == np.int64 for values in batch.values())


def test_predictions_are_the_greatest_logit_with_its_softmax() -> None:
    features = pa.table({"row_id": ["a", "b"], "labels": [1, 0]})
    logits = np.array([[0.0, np.log(3.0)], [1000.0, 0.0]], np.float32)
    table = kind.prediction_table({"logits": logits}, features, LABELS)
    assert table["row_id"].to_pylist() == ["a", "b"]
    assert table["label"].to_pylist() == ["good", "bad"]
    assert table["prediction"].to_pylist() == ["good", "bad"]
    assert table["probability"].to_pylist() == pytest.approx([0.75, 1.0])
    assert np.allclose(table["logits"].to_pylist(), logits)


def test_the_baseline_predicts_the_majority_of_train_and_keeps_the_true_labels() -> None:
    train = pa.table({"labels": [1, 1, 0]})
    predictions = pa.table({"row_id": ["a", "b"], "label": ["bad", "good"], "prediction": ["bad", "bad"]})
    baseline = kind.baseline_predictions(train, predictions, LABELS)
    assert baseline.to_pydict() == {"row_id": ["a", "b"], "label": ["bad", "good"], "prediction": ["good", "good"]}
    assert kind.baseline_name(train, LABELS) == "majority class (good)"


def test_of_two_equal_majorities_the_first_label_counts() -> None:
    assert kind.baseline_name(pa.table({"labels": [1, 0]}), LABELS) == "majority class (bad)"


def test_metrics_get_label_ids_and_every_name_is_computed() -> None:
    asked: dict[str, dict[str, list[int]]] = {}

    class Metric:
        def __init__(self, name: str) -> None:
            self.name = name

        def compute(self, **ids: list[int]) -> dict[str, float]:
            asked[self.name] = ids
            return {self.name: 0.5}

    predictions = pa.table({"label": ["bad", "good"], "prediction": ["good", "good"]})
    assert kind.compute_metrics(predictions, LABELS, Metric) == dict.fromkeys(kind.METRICS, 0.5)
    assert asked["f1"] == {"predictions": [1, 1], "references": [0, 1]}


def test_predictions_of_a_file_are_in_its_order_whatever_the_batch(bert: Path) -> None:
    model = build_model(bert, EXAMPLES, LABELS, None, seed=3).eval()
    tokenizer = load_tokenizer(bert)
    rows = pa.table({"text": ["the film was very good", "", "bad", "we liked it 🎬 سلام", "good " * 200]})
    tables = [
        kind.predict(model, tokenizer, rows, EXAMPLES, LABELS, batch_size=size, device="cpu") for size in (1, 2, 8)
    ]
    assert tables[0].column_names == ["prediction", "probability"]
    assert all(table["prediction"] == tables[0]["prediction"] for table in tables)
    for table in tables:
        assert table["probability"].to_pylist() == pytest.approx(tables[0]["probability"].to_pylist(), abs=1e-6)


def test_predicting_a_row_without_text_names_the_row(bert: Path) -> None:
    model = build_model(bert, EXAMPLES, LABELS, None, seed=3).eval()
    rows = pa.table({"text": pa.array(["a", None])})
    with pytest.raises(DataError, match="row 2: no value in column 'text'"):
        kind.predict(model, load_tokenizer(bert), rows, EXAMPLES, LABELS, batch_size=2, device="cpu")


def test_predicting_no_rows_gives_no_rows(bert: Path) -> None:
    model = build_model(bert, EXAMPLES, LABELS, None, seed=3).eval()
    rows = pa.table({"text": pa.array([], pa.string())})
    table = kind.predict(model, load_tokenizer(bert), rows, EXAMPLES, LABELS, batch_size=2, device="cpu")
    assert table.num_rows == 0
