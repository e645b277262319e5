from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from small_memory import run_out_beyond
from table_rows import TableRows
from tiny_models import copy_without_special_tokens, make_bart
from tunesmith.errors import DataError
from tunesmith.evaluation.metric import load_metric
from tunesmith.evaluation.scoring import score
from tunesmith.kinds import text_classification as kind
from tunesmith.kinds.limit import Limit
from tunesmith.kinds.protocol import Distinct, Encoded, LoadedModel
from tunesmith.kinds.ragged import FeatureRows, Ragged
from tunesmith.kinds.text_classification import TextClassification
from tunesmith.modeling.load import build_model
from tunesmith.modeling.tokenizer import load_tokenizer, make_encoder

EXAMPLES = TextClassification(kind="text-classification", text="text", label="label")
LABELS = ("bad", "good")


def make_table(texts: list[Any], labels: Any, **more: Any) -> pa.Table:
    ids = [f"{number:016x}" for number in range(len(texts))]
    return pa.table({"row_id": ids, "text": texts, "label": labels, **more})


def all_rows(*parts: list[Any]) -> TableRows:
    return TableRows(pa.table({"label": pa.chunked_array(parts)}))


def distinct_of(values: list[Any]) -> Distinct:
    return {"label": pa.chunked_array([values])}.__getitem__


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


@pytest.mark.parametrize("type_", [pa.string(), pa.null(), pa.int64(), pa.float64(), pa.list_(pa.string())])
@pytest.mark.parametrize("labels", [None, LABELS])
def test_a_part_without_rows_passes(type_: pa.DataType, labels: tuple[str, ...] | None) -> None:
    examples = EXAMPLES.model_copy(update={"labels": labels})
    check(pa.table({"text": pa.array([], type_), "label": pa.array([], type_)}), examples)


def test_a_part_without_rows_still_needs_its_columns() -> None:
    with pytest.raises(DataError, match=r"^there is no column 'label'"):
        check(pa.table({"text": pa.array([], pa.string())}))


def test_data_without_rows_is_refused() -> None:
    with pytest.raises(DataError, match="no rows are left"):
        kind.check_whole(all_rows([]), EXAMPLES)


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


@pytest.mark.parametrize(("value", "name"), [("x", "'x'"), (1, "'1'"), (1.0, "'1'"), (True, "'true'")])
def test_a_single_class_in_all_rows_is_refused_though_each_part_is_good(value: Any, name: str) -> None:
    check(make_table(["a", "b"], [value, value]))
    with pytest.raises(DataError, match=f"column 'label' has the value {name} in all of 2 rows; with a single class"):
        kind.check_whole(all_rows([value], [value]), EXAMPLES)


def test_two_classes_pass_though_each_part_has_one() -> None:
    kind.check_whole(all_rows(["x", "x"], ["y"]), EXAMPLES)


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
    assert kind.find_labels(distinct_of(values), EXAMPLES) == labels


def test_the_recipe_decides_the_order_of_the_labels() -> None:
    examples = EXAMPLES.model_copy(update={"labels": ("good", "bad")})
    assert kind.find_labels(distinct_of(["bad", "good"]), examples) == ("good", "bad")


def test_a_train_split_of_one_class_is_refused() -> None:
    with pytest.raises(DataError, match=r"no two labels.*only 'x'"):
        kind.find_labels(distinct_of(["x", "x"]), EXAMPLES)


@pytest.mark.parametrize(("labels", "message"), [(("a", "a"), "names 'a' twice"), (("a",), "at least two")])
def test_a_label_set_that_cannot_be_learned_is_refused(labels: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TextClassification(kind="text-classification", text="t", label="l", labels=labels)


def encode(table: pa.Table, tokenizer: Any, examples: TextClassification = EXAMPLES, **limit: Any) -> Encoded:
    return kind.encode(table, make_encoder(tokenizer), examples, LABELS, Limit(**{"max_length": 16, **limit}))


def test_features_have_ids_types_labels_and_keep_the_row_id(bert: Path) -> None:
    tokenizer = load_tokenizer(bert)
    encoded = encode(make_table(["good film", "bad"], ["good", "bad"]), tokenizer)
    features = encoded.features
    assert features.column_names == ["row_id", "input_ids", "token_type_ids", "labels"]
    assert features["row_id"].to_pylist() == [f"{0:016x}", f"{1:016x}"]
    assert features["labels"].to_pylist() == [1, 0]
    assert features["input_ids"].to_pylist() == tokenizer(["good film", "bad"])["input_ids"]
    assert features["token_type_ids"].to_pylist() == tokenizer(["good film", "bad"])["token_type_ids"]
    assert (encoded.counts["num_tokens"], encoded.counts["num_truncated"], encoded.too_long) == (7, 0, [])


def test_a_pair_has_both_texts_and_their_types(bert: Path) -> None:
    tokenizer = load_tokenizer(bert)
    examples = EXAMPLES.model_copy(update={"text_pair": "other"})
    features = encode(make_table(["good film"], ["good"], other=["a bad story"]), tokenizer, examples).features
    expected = tokenizer("good film", "a bad story")
    assert features["input_ids"].to_pylist() == [expected["input_ids"]]
    assert features["token_type_ids"].to_pylist() == [expected["token_type_ids"]]


def test_the_windows_of_a_row_repeat_its_row_id_and_label_and_are_numbered(bert: Path) -> None:
    table = make_table(["good film", "the story was very very bad", "bad"], ["good", "bad", "good"])
    features = encode(table, load_tokenizer(bert), max_length=5, on_overflow="window", stride=1).features
    assert features["row_id"].to_pylist() == [f"{row:016x}" for row in (0, 1, 1, 1, 2)]
    assert features["window"].to_pylist() == [0, 0, 1, 2, 0]
    assert features["labels"].to_pylist() == [1, 0, 0, 0, 1]


def test_the_windows_are_those_of_a_map_with_its_old_columns_repeated(bert: Path) -> None:
    import datasets

    tokenizer = load_tokenizer(bert)
    table = make_table(["good film", "the story was very very bad", "bad"], ["good", "bad", "good"])

    def windows(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        found = tokenizer(batch["text"], truncation=True, max_length=5, stride=1, return_overflowing_tokens=True)
        rows = found.pop("overflow_to_sample_mapping")
        return {
            **found,
            "row_id": [batch["row_id"][row] for row in rows],
            "label": [batch["label"][row] for row in rows],
        }

    expected = datasets.Dataset(table).map(windows, batched=True, remove_columns=["text"])
    features = encode(table, tokenizer, max_length=5, on_overflow="window", stride=1).features
    assert features["input_ids"].to_pylist() == expected["input_ids"][:]
    assert features["row_id"].to_pylist() == expected["row_id"][:]
    assert [LABELS[number] for number in features["labels"].to_pylist()] == expected["label"][:]


@pytest.mark.parametrize("policy", ["drop", "stop"])
def test_a_row_that_leaves_is_counted_and_named(bert: Path, policy: str) -> None:
    table = make_table(["good film", "the story was very very bad", "bad"], ["good", "bad", "good"])
    encoded = encode(table, load_tokenizer(bert), max_length=5, on_overflow=policy)
    assert encoded.features["row_id"].to_pylist() == [f"{row:016x}" for row in (0, 2)]
    assert encoded.features["labels"].to_pylist() == [1, 1]
    assert (encoded.counts["num_dropped"], encoded.counts["num_tokens_lost"]) == (1, 8)
    assert encoded.too_long == [(f"{1:016x}", 8)]


def test_a_label_that_train_does_not_have_names_the_row(bert: Path) -> None:
    with pytest.raises(DataError, match=r"row 0000000000000001: .*'ugly', which no row of the train split has"):
        encode(make_table(["a", "b"], ["good", "ugly"]), load_tokenizer(bert))


def test_no_rows_give_no_features_but_their_columns(bert: Path) -> None:
    rows = make_table(["good film"], ["good"])
    for policy in ("truncate", "window", "drop"):
        some = encode(rows, load_tokenizer(bert), on_overflow=policy).features
        assert encode(rows.slice(0, 0), load_tokenizer(bert), on_overflow=policy).features.schema == some.schema


def test_a_batch_is_padded_to_its_longest_row() -> None:
    lengths = np.array([3, 1])
    tokens = {
        "input_ids": Ragged(np.array([5, 6, 7, 8]), lengths),
        "token_type_ids": Ragged(np.array([0, 0, 1, 1]), lengths),
    }
    batch = kind.collate(FeatureRows(tokens, {"labels": np.array([1, 0])}), pad_token_id=9)
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


def test_a_row_of_several_windows_is_predicted_once_by_their_mean_logits() -> None:
    features = pa.table({"row_id": ["a", "b", "b", "b", "c"], "labels": [1, 0, 0, 0, 1], "window": [0, 0, 1, 2, 0]})
    logits = np.array([[0.0, 1.0], [3.0, 0.0], [0.0, 1.0], [0.0, 1.0], [2.0, 4.0]], np.float32)
    table = kind.prediction_table({"logits": logits}, features, LABELS)
    assert table["row_id"].to_pylist() == ["a", "b", "c"]
    assert table["label"].to_pylist() == ["good", "bad", "good"]
    assert table["prediction"].to_pylist() == ["good", "bad", "good"]  # two of three windows of b say good
    assert np.allclose(table["logits"].to_pylist(), [[0, 1], [1, 2 / 3], [2, 4]])


def test_the_majority_counts_each_row_once_whatever_its_windows() -> None:
    train = pa.table({"labels": [1, 1, 1, 0, 0], "window": [0, 1, 2, 0, 0]})
    assert kind.baseline_name(train, LABELS) == "majority class (bad)"


def test_the_baseline_predicts_the_majority_of_train_and_keeps_the_true_labels() -> None:
    train = pa.table({"labels": [1, 1, 0]})
    predictions = pa.table({"row_id": ["a", "b"], "label": ["bad", "good"], "prediction": ["bad", "bad"]})
    baseline = kind.baseline_predictions(train, predictions, LABELS)
    found = baseline.drop_columns(["logits", "probability"]).to_pydict()
    assert found == {"row_id": ["a", "b"], "label": ["bad", "good"], "prediction": ["good", "good"]}
    assert baseline["probability"].to_pylist() == pytest.approx([3 / 5, 3 / 5])  # one more of each label
    assert kind.baseline_name(train, LABELS) == "majority class (good)"


def test_of_two_equal_majorities_the_first_label_counts() -> None:
    assert kind.baseline_name(pa.table({"labels": [1, 0]}), LABELS) == "majority class (bad)"


def test_every_metric_is_that_of_its_module() -> None:
    logits = np.array([[2.0, 0.5], [0.0, 1.0], [0.3, 0.1]], np.float32)
    table = kind.prediction_table(
        {"logits": logits}, pa.table({"row_id": ["a", "b", "c"], "labels": [0, 1, 1]}), LABELS
    )
    metrics = kind.compute_metrics(table, LABELS, load_metric)
    assert [*metrics] == [*kind.METRICS]
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    assert metrics["f1_macro"] == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert metrics["roc_auc"] == pytest.approx(1.0)
    measured = kind.measure(table, LABELS)
    found = measured.compute([*kind.METRICS], np.ones((1, 3)))
    assert {name: values[0] for name, values in found.items()} == pytest.approx(metrics)


def test_logits_of_a_model_with_other_places_for_its_labels_are_put_in_order() -> None:
    table = kind.prediction_table(
        {"logits": np.array([[2.0, 0.5]], np.float32)}, pa.table({"row_id": ["a"], "labels": [0]}), ("bad", "good")
    )
    turned = kind.reorder_labels(table, ("bad", "good"), ("good", "bad"))
    assert turned["logits"].to_pylist() == [[0.5, 2.0]]
    assert turned.drop_columns("logits").equals(table.drop_columns("logits"))
    assert kind.reorder_labels(table, ("bad", "good"), ("bad", "good")) is table


def load(folder: Path) -> LoadedModel:
    tokenizer = load_tokenizer(folder)
    model = build_model(folder, EXAMPLES, LABELS, None, seed=3).eval()
    return LoadedModel(model, tokenizer, make_encoder(tokenizer))


def test_predictions_of_a_file_are_in_its_order_whatever_the_batch(bert: Path) -> None:
    loaded = load(bert)
    rows = pa.table({"text": ["the film was very good", "", "bad", "we liked it 🎬 سلام", "good " * 200]})
    tables = [kind.predict(loaded, rows, EXAMPLES, LABELS, Limit(max_length=64), size) for size in (1, 2, 8)]
    assert tables[0].column_names == ["prediction", "probability"]
    assert all(table["prediction"] == tables[0]["prediction"] for table in tables)
    for table in tables:
        assert table["probability"].to_pylist() == pytest.approx(tables[0]["probability"].to_pylist(), abs=1e-6)


def test_rows_that_do_not_fit_into_the_memory_together_are_predicted_in_parts(bert: Path) -> None:
    loaded, rows = load(bert), pa.table({"text": ["good", "the film was bad", "bad " * 30, "a", "we liked it"]})
    whole = kind.predict(loaded, rows, EXAMPLES, LABELS, Limit(max_length=64), 8)
    loaded.model.register_forward_hook(run_out_beyond(2), with_kwargs=True)
    parts = kind.predict(loaded, rows, EXAMPLES, LABELS, Limit(max_length=64), 8)
    assert parts["prediction"] == whole["prediction"]
    assert parts["probability"].to_pylist() == pytest.approx(whole["probability"].to_pylist(), abs=1e-6)


@pytest.mark.parametrize("pair", [None, "other"], ids=["texts", "pairs"])
def test_an_empty_text_has_a_token_where_the_tokenizer_adds_none(llama: Path, tmp_path: Path, pair: str | None) -> None:
    loaded, limit = load(copy_without_special_tokens(llama, tmp_path / "llama")), Limit(max_length=8)
    examples = EXAMPLES.model_copy(update={"text_pair": pair})
    table = make_table(["", "", "good", ""], ["bad", "good", "good", "bad"], other=["", "", "", ""])
    encoded = kind.encode(table, loaded.encoder, examples, LABELS, limit)
    ids = encoded.features["input_ids"].to_pylist()
    assert [row for row in ids if row == [loaded.tokenizer.bos_token_id]] == [ids[0], ids[1], ids[3]]
    assert encoded.counts["num_tokens"] == sum(map(len, ids))
    summary = score(loaded.model, encoded.features, kind, 0, batch_size=2, title="testing")
    expected = kind.prediction_table(summary, encoded.features, LABELS)["probability"].to_pylist()
    alone = kind.predict(loaded, table.slice(0, 2), examples, LABELS, limit, 2)["probability"].to_pylist()
    assert alone == pytest.approx(expected[:2], abs=1e-6)


@pytest.mark.parametrize("pair", [None, "other"], ids=["texts", "pairs"])
def test_a_text_that_names_the_end_of_a_text_is_read_without_by_a_model_that_looks_at_ends(
    tmp_path: Path, pair: str | None
) -> None:
    loaded = load(make_bart(tmp_path / "bart", ["good bad film"]))
    examples = EXAMPLES.model_copy(update={"text_pair": pair})
    texts, plain = ["</s>good</s> film", "bad", "good" * 9 + "</s>"], ["good film", "bad", "good" * 9]
    others = {"other": ["film", "</s>", "a</s>b</s>c"]}
    limit = Limit(max_length=12, on_overflow="window", stride=1)
    encoded = kind.encode(make_table(texts, ["bad", "good", "good"], **others), loaded.encoder, examples, LABELS, limit)
    others = {"other": ["film", "", "abc"]}
    table = make_table(plain, ["bad", "good", "good"], **others)
    ends = [row.count(loaded.tokenizer.eos_token_id) for row in encoded.features["input_ids"].to_pylist()]
    assert set(ends) == {1 if pair is None else 3}
    if pair is None:
        assert encoded.features.equals(kind.encode(table, loaded.encoder, examples, LABELS, limit).features)
    summary = score(loaded.model, encoded.features, kind, 0, batch_size=8, title="testing")
    expected = kind.prediction_table(summary, encoded.features, LABELS)["probability"].to_pylist()
    rows = make_table(texts, ["bad"] * 3, other=["film", "</s>", "a</s>b</s>c"])
    found = kind.predict(loaded, rows, examples, LABELS, limit, 8)["probability"].to_pylist()
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_long_row_is_predicted_by_its_windows_as_evaluation_does(bert: Path) -> None:
    loaded, limit = load(bert), Limit(max_length=6, on_overflow="window", stride=2)
    table = make_table(["bad", "the film was very good and we liked it", "good film"], ["bad", "good", "good"])
    features = kind.encode(table, loaded.encoder, EXAMPLES, LABELS, limit).features
    summary = score(loaded.model, features, kind, 0, batch_size=2, title="testing")
    expected = kind.prediction_table(summary, features, LABELS)
    predictions = kind.predict(loaded, table, EXAMPLES, LABELS, limit, 2)
    assert predictions["prediction"].to_pylist() == expected["prediction"].to_pylist()
    assert predictions["probability"].to_pylist() == pytest.approx(expected["probability"].to_pylist(), abs=1e-6)


def test_a_temperature_changes_how_probable_a_label_is_as_evaluation_does(bert: Path) -> None:
    loaded, limit = replace(load(bert), temperature=2.5), Limit(max_length=64)
    table = make_table(["bad", "the film was very good and we liked it", "good film"], ["bad", "good", "good"])
    features = kind.encode(table, loaded.encoder, EXAMPLES, LABELS, limit).features
    summary = score(loaded.model, features, kind, 0, batch_size=2, title="testing")
    expected = kind.scale(kind.prediction_table(summary, features, LABELS), LABELS, 2.5)
    predictions = kind.predict(loaded, table, EXAMPLES, LABELS, limit, 2)
    assert predictions["prediction"].to_pylist() == expected["prediction"].to_pylist()
    assert predictions["probability"].to_pylist() == pytest.approx(expected["probability"].to_pylist(), abs=1e-6)
    plain = kind.predict(load(bert), table, EXAMPLES, LABELS, limit, 2)
    assert plain["probability"].to_pylist() != pytest.approx(predictions["probability"].to_pylist(), abs=1e-6)


@pytest.mark.parametrize("policy", ["drop", "stop"])
def test_a_row_that_training_would_leave_out_gets_no_prediction(bert: Path, policy: str) -> None:
    rows = pa.table({"text": ["bad", "the film was very good and we liked it", "good film"]})
    table = kind.predict(load(bert), rows, EXAMPLES, LABELS, Limit(max_length=6, on_overflow=policy), 2)
    assert [value is None for value in table["prediction"].to_pylist()] == [False, True, False]
    assert [value is None for value in table["probability"].to_pylist()] == [False, True, False]


def test_predicting_a_row_without_text_names_the_row(bert: Path) -> None:
    with pytest.raises(DataError, match="row 2: no value in column 'text'"):
        kind.predict(load(bert), pa.table({"text": ["a", None]}), EXAMPLES, LABELS, Limit(max_length=64), 2)


def test_predicting_no_rows_gives_no_rows(bert: Path) -> None:
    rows = pa.table({"text": pa.array([], pa.string())})
    assert kind.predict(load(bert), rows, EXAMPLES, LABELS, Limit(max_length=64), 2).num_rows == 0
