"""Slices of the test rows, and what the gate demands on them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter, ValidationError

from judged_candidate import CLASSIFICATION, make_candidate
from made_predictions import EXAMPLES, LABELS, make_predictions
from tunesmith.errors import DataError, TunesmithError, UserError
from tunesmith.evaluation.case import Baseline, Case, Champion, Contender
from tunesmith.evaluation.evaluate import EvaluateConfig, evaluate
from tunesmith.evaluation.gate import make_decision
from tunesmith.evaluation.gate_config import GateConfig
from tunesmith.evaluation.intervals import compute_values
from tunesmith.evaluation.slices import SliceOptions, align_slices, find_slices
from tunesmith.kinds import text_classification

TABLE = pa.table(
    {
        "row_id": list("abcdef"),
        "text": ["one two", "one", "one two three", "", "one!!", "one two three four"],
        "genre": ["war", "drama", None, "drama", "drama", "war"],
        "stars": [1, 2, 3, 4, 5, None],
    }
)


def parse(*slices):
    return TypeAdapter(tuple[SliceOptions, ...]).validate_json(json.dumps(slices), context={"folder": "."})


def members(*slices, table=TABLE):
    found = find_slices(table, parse(*slices))
    return {name: "".join(np.array(table["row_id"].to_pylist())[is_in]) for name, is_in in found.items()}


def test_a_column_makes_a_slice_of_each_value_the_largest_first():
    assert members({"by": "genre"}) == {"genre: drama": "bde", "genre: war": "af", "genre: no value": "c"}


def test_ranges_hold_their_lower_bound_and_nobody_without_a_number():
    assert members({"by": "stars", "bounds": [2, 4]}) == {
        "stars: below 2": "a", "stars: 2 to 4": "bc", "stars: from 4": "de",
    }  # fmt: skip
    assert members({"by": "text", "measure": "words", "bounds": [2]}) == {
        "words of text: below 2": "bde", "words of text: from 2": "acf",
    }  # fmt: skip


def test_conditions_hold_together():
    where = [{"column": "text", "matches": "one"}, {"column": "stars", "range": {"min": 2}}]
    assert members({"name": "mine", "where": where}) == {"mine": "bce"}


def test_a_function_returns_the_rows_that_are_in(tmp_path, monkeypatch):
    (tmp_path / "my_slices.py").write_text(
        "def is_hard(row):\n    return row if row['genre'] == 'drama' and row['text'] else None\n"
    )
    function = {"path": "my_slices:is_hard", "folder": str(tmp_path)}
    assert members({"name": "hard", "function": function}) == {"hard": "be"}
    assert "my_slices" not in sys.modules


@pytest.mark.parametrize(
    ("slices", "message"),
    [
        ([{"by": "gender"}], r"evaluate.slices\[0\]: there is no column 'gender'.*Did you mean genre"),
        ([{"name": "x", "where": [{"column": "stars", "range": {"min": 9}}]}], "'x' matches none of the 6 test rows"),
        ([{"by": "genre"}, {"by": "genre"}], r"slices\[1\]: there is a slice 'genre: drama' already"),
    ],
)
def test_what_makes_no_slice_is_refused(slices, message):
    with pytest.raises(DataError, match=message):
        members(*slices)


def test_a_column_of_too_many_values_makes_no_slices():
    table = pa.table({"row_id": [f"{row}" for row in range(60)], "name": [f"n{row}" for row in range(60)]})
    with pytest.raises(DataError, match="column 'name' has 60 values in the test rows; a column makes 50 slices"):
        members({"by": "name"}, table=table)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"column": "genre"}, "a slice needs `by`"),
        ({"by": "text", "measure": "words"}, "measure needs `bounds`"),
        ({"by": "stars", "bounds": [4, 2]}, "ascending order"),
    ],
)
def test_a_slice_that_says_nothing_is_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        parse(options)


def test_rows_that_were_not_judged_are_in_no_slice():
    slices = pa.table({"row_id": ["a", "b", "c"], "x": [True, False, True]})
    aligned = align_slices(slices, pa.chunked_array([["c", "b"]]))
    assert aligned.to_pydict() == {"row_id": ["c", "b"], "x": [True, False]}


def test_each_slice_is_measured_on_its_own_rows(bert: Path, tmp_path: Path) -> None:
    case = make_candidate(tmp_path, bert, CLASSIFICATION)
    slices = case.slice(*parse({"by": "review", "measure": "words", "bounds": [4]}))
    candidate, splits, _, *rest = case.judged
    report = evaluate(candidate, splits, slices, *rest, EvaluateConfig(), case.store)
    predictions = pq.read_table(report.folder / "predictions.parquet")
    lengths = np.array([1 + row % 9 for row in range(30)])
    for part, is_in in zip(report.facts["slices"], (lengths < 4, lengths >= 4), strict=True):
        assert part["num_examples"] == is_in.sum()
        measured = text_classification.measure(predictions.filter(pa.array(is_in)), ("bad", "good"))
        assert part["metrics"]["accuracy"] == compute_values(measured, ["accuracy"])["accuracy"]
        assert part["intervals"]["accuracy"]["low"] <= part["metrics"]["accuracy"]
    assert [part["name"] for part in report.facts["slices"]] == ["words of review: below 4", "words of review: from 4"]


def judge(gate, *, spoiled=60, num_rows=1000):
    """A candidate that is better on all rows together, and wrong on many of the first 100; a slice has these."""
    ours, theirs = make_predictions(0.95, num_rows), make_predictions(0.8, num_rows)
    wrong = np.arange(num_rows) < spoiled
    flipped = np.where(wrong, np.array(["bad", "good"])[(np.arange(num_rows) + 1) % 2], ours["prediction"].to_pylist())
    ours = ours.set_column(2, "prediction", pa.array(flipped))
    case = Case(
        report="report", examples=EXAMPLES, labels=LABELS, primary_metric="accuracy", greater_is_better=True, gate=gate,
        candidate=Contender(key="candidate"), champion=Champion(version=3, key="champion"),
        baseline=Baseline(name="majority class"),
    )  # fmt: skip
    slices = pa.table(
        {
            "row_id": ours["row_id"],
            "first": np.arange(num_rows) < 100,
            "rest": np.arange(num_rows) >= 100,
            "tiny": np.arange(num_rows) < 5,
        }
    )
    return make_decision(case, ours, theirs, slices)


def test_a_candidate_that_is_better_overall_and_worse_on_a_slice_is_not_promoted_and_the_slice_is_named():
    assert judge(GateConfig()).verdict == "PROMOTE"
    decision = judge(GateConfig(max_slice_loss=0.05))
    assert decision.verdict == "REJECT"
    assert decision.reasons[1].startswith("On the slice 'first' (100 examples) accuracy is 0.4000; the gate demands a")
    untested = "Slices that could not be tested (fewer than 30 examples, or accuracy is not defined): tiny."
    assert untested in decision.reasons
    assert [finding.is_broken for finding in decision.slices] == [True, False, False]
    assert judge(GateConfig(max_slice_loss=0.05), spoiled=5).verdict == "PROMOTE"


def test_a_floor_holds_whatever_the_champion_does():
    decision = judge(GateConfig(slice_floors={"first": 0.6, "rest": 0.9}))
    assert decision.verdict == "REJECT"
    assert "accuracy is 0.4000; the gate demands accuracy of at least 0.6, which is not kept" in decision.reasons[1]
    assert judge(GateConfig(slice_floors={"first": 0.3})).verdict == "PROMOTE"
    with pytest.raises(DataError, match=r"no slice 'furst'; there are 'first', 'rest', 'tiny'.*Did you mean first"):
        judge(GateConfig(slice_floors={"furst": 0.3}))


def test_many_slices_are_many_chances_and_each_counts_less():
    one = judge(GateConfig(slice_floors={"first": 0.5}), spoiled=58)
    many = judge(GateConfig(slice_floors={"first": 0.5, "rest": 0.1}, max_slice_loss=0.9), spoiled=58)
    p_values = [next(f.p_value for f in found.slices if "0.5" in f.demand) for found in (one, many)]
    assert p_values[1] == pytest.approx(4 * p_values[0])  # two floors, and two losses that can be tested


def test_a_demand_that_cannot_be_tested_is_an_error_and_no_pass():
    with pytest.raises(TunesmithError, match="accuracy gave nan for a p-value; nothing is decided"):
        judge(GateConfig(slice_floors={"first": 80}))
    with pytest.raises(UserError, match="no two shares differ by 5"):
        judge(GateConfig(max_slice_loss=5))
