"""Predictions for files."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from judged_candidate import CLASSIFICATION, GENERATION, WORDS, make_candidate
from predicted_files import predict_file
from tunesmith.errors import CallError, DataError
from tunesmith.evaluation.served import ServedModel, find_served_model
from tunesmith.inference import predict as predict_module
from tunesmith.inference.config import PredictReport
from tunesmith.kinds.limit import Limit


@pytest.fixture(scope="session")
def classifier(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an exported classifier of `review`."""
    return make_served(tmp_path_factory.mktemp("classifier"), bert, CLASSIFICATION)


@pytest.fixture(scope="session")
def generator(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an exported generation model of `review`."""
    return make_served(tmp_path_factory.mktemp("generator"), llama, GENERATION)


def make_served(folder: Path, base: Path, examples: Any) -> Path:
    case = make_candidate(folder / "case", base, examples)
    labels = tuple(case.features.facts["labels"])
    shutil.copytree(case.candidate.folder / "model", folder / "model")
    ServedModel(examples=examples, labels=labels, max_length=16, candidate="candidate").save(folder / "model")
    return folder


def make_reviews(num_rows: int) -> list[dict[str, Any]]:
    texts = [" ".join(WORDS[(row * step) % len(WORDS)] for step in range(1, 2 + row % 9)) for row in range(num_rows)]
    return [{"id": f"{row:03}", "review": text} for row, text in enumerate(texts)]


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_any(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    if ".csv" in path.name:
        return list(csv.DictReader(text.splitlines()))
    return [json.loads(line) for line in text.splitlines()]


def test_every_row_is_there_once_and_in_order_whatever_the_batch_size(classifier: Path, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "in.csv", make_reviews(45))
    report = predict_file(classifier, source, tmp_path / "two.csv", batch_size=2)  # two chunks of 32 rows
    predict_file(classifier, source, tmp_path / "all.csv", batch_size=64)
    rows, others = read_csv(tmp_path / "two.csv"), read_csv(tmp_path / "all.csv")
    assert [(row["id"], row["review"]) for row in rows] == [(row["id"], row["review"]) for row in make_reviews(45)]
    assert isinstance(report, PredictReport)
    assert (report.num_rows, report.added_columns) == (45, ("prediction", "probability"))
    assert {row["prediction"] for row in rows} <= {"good", "bad"}
    for row, other in zip(rows, others, strict=True):
        assert row["prediction"] == other["prediction"]
        assert float(row["probability"]) == pytest.approx(float(other["probability"]), abs=1e-5)


@pytest.mark.parametrize("name", ["out.csv", "out.csv.gz", "out.jsonl", "out.jsonl.gz", "out.parquet"])
def test_the_targets_extension_decides_its_format(classifier: Path, tmp_path: Path, name: str) -> None:
    source = write_csv(tmp_path / "in.csv", make_reviews(5))
    predict_file(classifier, source, tmp_path / name)
    rows = read_any(tmp_path / name)
    assert [row["review"] for row in rows] == [row["review"] for row in make_reviews(5)]
    assert list(rows[0]) == ["id", "review", "prediction", "probability"]
    assert all(0.5 <= float(row["probability"]) <= 1 for row in rows)


@pytest.mark.parametrize("name", ["in.jsonl", "in.parquet", "in.jsonl.gz"])
def test_the_source_may_have_any_format_that_the_recipe_may_read(classifier: Path, tmp_path: Path, name: str) -> None:
    rows, source = make_reviews(4), tmp_path / name
    text = "".join(json.dumps({**row, "tags": ["a", 1]}) + "\n" for row in rows)
    if name == "in.parquet":
        pq.write_table(pa.Table.from_pylist([{**row, "tags": ["a"]} for row in rows]), source)
    else:
        source.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    predict_file(classifier, source, tmp_path / "out.jsonl")
    written = read_any(tmp_path / "out.jsonl")
    assert [row["review"] for row in written] == [row["review"] for row in rows]
    assert all(row["tags"][0] == "a" for row in written)


def test_a_generation_model_adds_the_text_that_it_writes(generator: Path, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "in.csv", make_reviews(5))
    report = predict_file(generator, source, tmp_path / "out.jsonl", batch_size=2)
    rows = read_any(tmp_path / "out.jsonl")
    assert [row["review"] for row in rows] == [row["review"] for row in make_reviews(5)]
    assert all(isinstance(row[report.added_columns[0]], str) for row in rows)


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.parquet"])
def test_columns_that_the_model_does_not_read_come_out_as_they_were_written(
    classifier: Path, tmp_path: Path, name: str
) -> None:
    written = {"price": "1.10", "share": "0.12345678901234567890", "size": "1e5", "id": "7", "new": "true", "none": ""}
    source = write_csv(tmp_path / "in.csv", [{"review": "good film", **written}])
    predict_file(classifier, source, tmp_path / name)
    (row,) = read_any(tmp_path / name)
    assert {column: row[column] or "" for column in written} == written


def test_values_of_a_file_with_types_keep_them(classifier: Path, tmp_path: Path) -> None:
    rows = {
        "review": ["good film", "bad"],
        "code": ["07", "8"],
        "price": [1.0, 2.0],
        "id": [1, None],
        "new": [True, False],
    }
    pq.write_table(pa.table(rows), tmp_path / "in.parquet")
    predict_file(classifier, tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").select([*rows]) == pa.table(rows)


def test_texts_that_are_all_numbers_are_still_texts(classifier: Path, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "in.csv", [{"review": "42"}, {"review": "7"}])
    predict_file(classifier, source, tmp_path / "out.csv")
    assert [row["review"] for row in read_csv(tmp_path / "out.csv")] == ["42", "7"]


def set_limit(classifier: Path, folder: Path, **limit: Any) -> Path:
    """The same model, trained with another limit."""
    shutil.copytree(classifier, folder)
    place, served = find_served_model(folder)
    served.model_copy(update=limit).save(place)
    return folder


def test_a_row_that_training_dropped_as_too_long_has_no_prediction_and_is_counted(
    classifier: Path, tmp_path: Path
) -> None:
    source = write_csv(tmp_path / "in.csv", [{"review": "good"}, {"review": "very good film " * 9}, {"review": "bad"}])
    model = set_limit(classifier, tmp_path / "model", max_length=6, on_overflow="drop")
    report = predict_file(model, source, tmp_path / "out.csv")
    assert (report.num_rows, report.num_too_long) == (3, 1)
    assert [bool(row["prediction"]) for row in read_csv(tmp_path / "out.csv")] == [True, False, True]
    predict_file(model, source, tmp_path / "out.jsonl")
    assert [row["prediction"] is None for row in read_any(tmp_path / "out.jsonl")] == [False, True, False]


def test_where_training_stopped_at_a_row_too_long_predicting_does_and_names_its_line(
    classifier: Path, tmp_path: Path
) -> None:
    source = write_csv(tmp_path / "in.csv", [{"review": "good"}, {"review": "very good film " * 9}])
    model = set_limit(classifier, tmp_path / "model", max_length=6, on_overflow="stop")
    with pytest.raises(DataError, match=r"in\.csv:3: the row is longer than 6 tokens, .*on_overflow is stop"):
        predict_file(model, source, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_a_model_that_says_nothing_of_long_rows_cuts_them(classifier: Path, tmp_path: Path) -> None:
    shutil.copytree(classifier, tmp_path / "model")
    path = tmp_path / "model" / "model" / "tunesmith.json"
    fields = json.loads(path.read_text())
    path.write_text(
        json.dumps({name: value for name, value in fields.items() if name not in ("on_overflow", "stride")})
    )
    assert find_served_model(tmp_path / "model")[1].limit == Limit(max_length=16)


def test_rows_that_lack_a_column_or_hold_other_types_are_written_as_one_table(classifier: Path, tmp_path: Path) -> None:
    source, rows = tmp_path / "in.jsonl", [{"review": "good", "n": 1} for _ in range(6000)]
    rows += [{"review": 42, "n": 1.5, "late": "x"}]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    predict_file(classifier, source, tmp_path / "out.parquet", batch_size=512)
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.num_rows == 6001
    assert table["late"].to_pylist()[-2:] == [None, "x"]
    assert (table["n"].type, table["n"][-1].as_py()) == (pa.float64(), 1.5)


def test_a_source_without_text_in_a_late_row_is_refused_before_the_model_is_loaded(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"review": "good"}\n' * 6000 + '{"review": ["a"]}\n')
    monkeypatch.setattr(predict_module, "load_served", lambda *_: pytest.fail("loaded"))
    with pytest.raises(DataError, match=r"in\.jsonl:6001: column 'review', which the model reads, must hold text"):
        predict_file(classifier, source, tmp_path / "out.csv")


def test_a_missing_text_column_is_named_with_those_that_are_there(classifier: Path, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "in.csv", [{"id": "1", "reviews": "good"}])
    message = "no column 'review', which the model reads; columns present: 'id', 'reviews'. Did you mean reviews"
    with pytest.raises(DataError, match=message):
        predict_file(classifier, source, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_a_row_without_text_is_named_by_its_line(classifier: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"review": "good"}\n{"review": null}\n')
    with pytest.raises(DataError, match=r"in\.jsonl:2: no value in column 'review'"):
        predict_file(classifier, source, tmp_path / "out.csv")


def test_a_column_that_predicting_adds_is_not_overwritten_and_no_half_file_is_left(
    classifier: Path, tmp_path: Path
) -> None:
    source = write_csv(tmp_path / "in.csv", [{"review": "good", "prediction": "mine"}])
    with pytest.raises(DataError, match="has a column 'prediction' already"):
        predict_file(classifier, source, tmp_path / "out.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_a_target_that_exists_is_replaced_only_on_demand(classifier: Path, tmp_path: Path) -> None:
    source, target = write_csv(tmp_path / "in.csv", make_reviews(2)), tmp_path / "out.csv"
    target.write_text("precious")
    with pytest.raises(CallError, match="exists already"):
        predict_file(classifier, source, target)
    assert target.read_text() == "precious"
    predict_file(classifier, source, target, overwrite=True)
    assert len(read_csv(target)) == 2


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("none.csv", "out.csv", r"none\.csv: no such file"),
        ("in.csv", "out.xlsx", r"written as \.csv, \.jsonl .* or \.parquet"),
        ("in.csv", "nowhere/out.csv", "there is no folder"),
        ("in.csv", "in.csv", "is the input"),
        ("in.xyz", "out.csv", "in.xyz"),
    ],
)
def test_a_call_that_cannot_work_is_refused_at_once(
    classifier: Path, tmp_path: Path, source: str, target: str, message: str
) -> None:
    write_csv(tmp_path / "in.csv", make_reviews(1))
    (tmp_path / "in.xyz").write_text("?")
    with pytest.raises((CallError, DataError), match=message):
        predict_file(classifier, tmp_path / source, tmp_path / target, overwrite=True)


def test_a_folder_that_tunesmith_did_not_export_is_refused(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "in.csv", make_reviews(1))
    with pytest.raises(CallError, match=r"there is no tunesmith\.json"):
        predict_file(tmp_path, source, tmp_path / "out.csv")
    with pytest.raises(CallError, match="there is no such folder"):
        predict_file(tmp_path / "nowhere", source, tmp_path / "out.csv")
    (tmp_path / "tunesmith.json").write_text('{"labels": []}')
    with pytest.raises(CallError, match=r"tunesmith\.json: .*; export the model again"):
        predict_file(tmp_path, source, tmp_path / "out.csv")
