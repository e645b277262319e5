"""Error tables of predictions that were made by hand."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from split_rows import write_splits
from tunesmith.data.chunked import ChunkedRows
from tunesmith.evaluation.error_analysis import MAX_MATRIX, MAX_ROWS, MAX_TEXT, analyze_errors
from tunesmith.evaluation.reliability import compute_reliability
from tunesmith.kinds.class_metrics import Classified
from tunesmith.kinds.text_classification import TextClassification
from tunesmith.kinds.text_generation import TextGeneration
from tunesmith.store.folder import FolderStore
from tunesmith.store.ref import Ref

EXAMPLES = TextClassification(kind="text-classification", text="review", label="verdict")
LABELS = ("a", "b", "c")


def predict(truth: str, probabilities: list[list[float]], labels=LABELS) -> pa.Table:
    values = np.array(probabilities)
    best = values.argmax(axis=1)
    return pa.table(
        {
            "row_id": [f"row{number}" for number in range(len(truth))],
            "label": [*truth],
            "prediction": [labels[number] for number in best],
            "probability": values.max(axis=1),
            "logits": pa.array(list(np.log(values).astype(np.float32)), pa.list_(pa.float32())),
        }
    )


def write_rows(tmp_path, texts: list[str]) -> ChunkedRows:
    splits = Ref(kind="split", key="splits", uri=str(tmp_path / "splits"))
    rows = pa.table({"row_id": [f"row{number}" for number in range(len(texts))], "review": texts})
    write_splits(splits, {"test": rows}, FolderStore(tmp_path / "store").chunks)
    return ChunkedRows.open(splits.folder, "test")


OURS = [[0.8, 0.1, 0.1], [0.6, 0.2, 0.2], [0.1, 0.7, 0.2], [0.9, 0.05, 0.05], [0.3, 0.6, 0.1]]
THEIRS = [[0.1, 0.8, 0.1], [0.2, 0.6, 0.2], [0.1, 0.7, 0.2], [0.2, 0.2, 0.6], [0.3, 0.6, 0.1]]
TRUTH = "abbca"


@pytest.fixture
def tables(tmp_path):
    rows = write_rows(tmp_path, ["zero", "one", "two", "three", "four"])
    return analyze_errors(predict(TRUTH, OURS), predict(TRUTH, THEIRS), EXAMPLES, LABELS, rows)


def test_the_highest_loss_stands_first_with_its_text(tables):
    found = tables.losses.to_pylist()
    assert [row["text"] for row in found] == ["three", "one", "four", "two", "zero"]
    first = found[0]
    assert (first["label"], first["prediction"]) == ("c", "a")
    assert first["loss"] == pytest.approx(-np.log(0.05), rel=1e-6)
    assert first["probability"] == pytest.approx(0.9)


def test_confusions_are_the_errors_with_their_share_of_the_label(tables):
    found = {(row["label"], row["prediction"]): row for row in tables.confusions.to_pylist()}
    assert {pair: row["count"] for pair, row in found.items()} == {("b", "a"): 1, ("c", "a"): 1, ("a", "b"): 1}
    assert {pair: row["share_of_label"] for pair, row in found.items()} == {
        ("b", "a"): 0.5, ("c", "a"): 1.0, ("a", "b"): 0.5,
    }  # fmt: skip
    assert tables.matrix.counts == ((1, 1, 0), (1, 1, 0), (1, 0, 0))


def test_flips_name_what_was_fixed_and_what_was_broken(tables):
    assert tables.num_flips == {"fixed": 1, "broken": 2}
    found = [
        (row["change"], row["text"], row["prediction"], row["other_prediction"]) for row in tables.flips.to_pylist()
    ]
    assert found == [("fixed", "zero", "a", "b"), ("broken", "three", "a", "c"), ("broken", "one", "a", "b")]


def test_the_opponents_rows_may_be_in_another_order(tables, tmp_path):
    rows = write_rows(tmp_path / "again", ["zero", "one", "two", "three", "four"])
    other = predict(TRUTH, THEIRS).take([4, 2, 0, 1, 3])
    assert analyze_errors(predict(TRUTH, OURS), other, EXAMPLES, LABELS, rows).flips.equals(tables.flips)


def test_an_opponent_that_predicted_for_other_rows_flips_nothing(tmp_path):
    rows = write_rows(tmp_path, ["zero", "one", "two", "three", "four"])
    found = analyze_errors(predict(TRUTH, OURS), predict(TRUTH, THEIRS).slice(0, 4), EXAMPLES, LABELS, rows)
    assert (found.flips, found.num_flips) == (None, None)


def test_classes_are_those_of_scikit_learn(tables):
    from sklearn.metrics import precision_recall_fscore_support

    predicted = predict(TRUTH, OURS)["prediction"].to_pylist()
    wanted = precision_recall_fscore_support([*TRUTH], predicted, labels=[*LABELS], zero_division=0)
    for row in tables.classes.to_pylist():
        number = LABELS.index(row["label"])
        assert (row["precision"], row["recall"], row["f1"], row["support"]) == pytest.approx(
            tuple(values[number] for values in wanted)
        )


def test_reliability_agrees_with_the_metric(tables):
    probabilities = np.array(OURS)
    classified = Classified(np.array([0, 1, 1, 2, 0]), probabilities.argmax(axis=1), probabilities)
    wanted = classified.compute(["expected_calibration_error"], np.ones((1, 5)))["expected_calibration_error"][0]
    assert compute_reliability(classified).expected_calibration_error == pytest.approx(wanted)
    assert tables.reliability.expected_calibration_error == pytest.approx(wanted, rel=1e-5)
    assert sum(item.count for item in tables.reliability.bins) == 5


def test_tables_of_many_rows_long_texts_and_many_labels_are_bounded(tmp_path):
    labels = tuple(f"label {number}" for number in range(40))
    rows = write_rows(tmp_path, ["word " * 5000] * 300)
    truth = np.arange(300) % 40
    logits = np.eye(40)[(truth + 1) % 40] * 5
    ours = pa.table(
        {
            "row_id": [f"row{number}" for number in range(300)],
            "label": [labels[number] for number in truth],
            "prediction": [labels[(number + 1) % 40] for number in truth],
            "probability": np.full(300, 0.7),
            "logits": pa.array(list(logits.astype(np.float32)), pa.list_(pa.float32())),
        }
    )
    tables = analyze_errors(ours, None, EXAMPLES, labels, rows)
    assert tables.losses.num_rows == MAX_ROWS
    assert {len(text) for text in tables.losses["text"].to_pylist()} == {MAX_TEXT}
    assert (tables.flips, tables.num_flips) == (None, None)
    assert len(tables.matrix.labels) == MAX_MATRIX


def test_a_kind_without_labels_shows_the_row_that_a_block_begins_in(tmp_path):
    examples = TextGeneration(kind="text-generation", text="review", max_new_tokens=5)
    rows = write_rows(tmp_path, ["zero", "one"])
    blocks = pa.table(
        {"row_id": ["row0+0", "row1+7"], "nll": [4.0, 30.0], "num_tokens": [4, 10], "num_correct": [1, 2]}
    )
    tables = analyze_errors(blocks, blocks, examples, (), rows)
    assert tables.losses.to_pylist() == [
        {"row_id": "row1+7", "text": "one", "loss": 3.0},
        {"row_id": "row0+0", "text": "zero", "loss": 1.0},
    ]
    assert (tables.classes, tables.confusions, tables.flips, tables.reliability) == (None, None, None, None)


def test_the_tables_are_written_as_files_that_can_be_read_again(tables, tmp_path):
    tables.write(tmp_path / "errors")
    names = {"highest_losses.csv", "confusions.csv", "classes.csv", "flips.csv", "errors.json"}
    assert {path.name for path in (tmp_path / "errors").iterdir()} == names
    assert pa.csv.read_csv(tmp_path / "errors" / "flips.csv")["text"].to_pylist() == ["zero", "three", "one"]
    assert json.loads((tmp_path / "errors" / "errors.json").read_bytes())["num_flips"] == {"fixed": 1, "broken": 2}
