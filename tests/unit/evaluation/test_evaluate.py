"""The evaluate stage."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import sklearn.metrics

from judged_candidate import CLASSIFICATION, GENERATION, LORA, Candidate, make_candidate
from tunesmith.errors import DataError, UserError
from tunesmith.evaluation.calibrate import find_temperature
from tunesmith.evaluation.evaluate import EvaluateConfig, derive_evaluate, evaluate
from tunesmith.evaluation.gate_config import GateConfig
from tunesmith.evaluation.limits import CALIBRATION
from tunesmith.evaluation.predictions import JudgedRows, read_predictions
from tunesmith.evaluation.slicing import slice_rows
from tunesmith.features.encode import TokenizeConfig
from tunesmith.kinds import find_kind, text_classification, text_generation
from tunesmith.recipe_judging import find_judging_conflicts
from tunesmith.store.ref import Ref


@pytest.fixture
def case(bert: Path, tmp_path: Path) -> Candidate:
    return make_candidate(tmp_path, bert, CLASSIFICATION)


def judge(case: Candidate, config: EvaluateConfig | None = None) -> Ref:
    return evaluate(*case.judged, config or EvaluateConfig(), case.store)


def test_a_classifier_is_judged_beside_the_majority_class(case: Candidate) -> None:
    report = judge(case)
    predictions = pq.read_table(report.folder / "predictions.parquet")
    truth, predicted = predictions["label"].to_pylist(), predictions["prediction"].to_pylist()
    assert truth == ["bad" if row % 3 == 0 else "good" for row in range(30)]
    facts = report.facts
    assert facts["metrics"]["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(truth, predicted), abs=1e-9)
    f1 = sklearn.metrics.f1_score(truth, predicted, average="macro", zero_division=0)
    assert facts["metrics"]["f1_macro"] == pytest.approx(f1, abs=1e-9)
    assert facts["baseline"]["name"] == "majority class (good)"
    assert facts["baseline"]["metrics"]["accuracy"] == pytest.approx(20 / 30)
    assert (facts["candidate"], facts["num_examples"], facts["greater_is_better"]) == ("candidate", 30, True)
    assert json.loads((report.folder / "metrics.json").read_text()) == facts


def test_a_generator_is_judged_beside_the_untouched_base_model(llama: Path, tmp_path: Path) -> None:
    facts = judge(make_candidate(tmp_path, llama, GENERATION, lora=LORA)).facts
    assert (facts["primary_metric"], facts["greater_is_better"]) == ("perplexity", False)
    assert facts["baseline"]["name"] == "untouched base model"
    untouched, trained = facts["baseline"]["metrics"]["perplexity"], facts["metrics"]["perplexity"]
    assert math.isfinite(trained)
    assert trained != pytest.approx(untouched, rel=1e-4)
    assert untouched == pytest.approx(320, rel=0.3)  # random weights know nothing: the size of the vocabulary


def test_a_row_of_several_windows_counts_once(bert: Path, tmp_path: Path) -> None:
    tokenize = TokenizeConfig(max_length=5, on_overflow="window", stride=1)
    case = make_candidate(tmp_path, bert, CLASSIFICATION, tokenize=tokenize)
    assert case.features.facts["num_examples"]["test"] > case.features.facts["num_rows"]["test"] == 30
    report = judge(case)
    predictions = pq.read_table(report.folder / "predictions.parquet")
    assert predictions["row_id"].to_pylist() == [f"{row:016x}" for row in range(30)]
    truth, predicted = predictions["label"].to_pylist(), predictions["prediction"].to_pylist()
    assert truth == ["bad" if row % 3 == 0 else "good" for row in range(30)]
    facts = report.facts
    assert facts["metrics"]["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(truth, predicted), abs=1e-9)
    assert facts["baseline"]["metrics"]["accuracy"] == pytest.approx(20 / 30)
    assert facts["num_examples"] == 30


def test_rows_that_were_dropped_as_too_long_are_not_judged(bert: Path, tmp_path: Path) -> None:
    case = make_candidate(tmp_path, bert, CLASSIFICATION, tokenize=TokenizeConfig(max_length=6, on_overflow="drop"))
    assert judge(case).facts["num_examples"] == 30 - case.features.facts["num_dropped"]["test"] < 30


def test_a_second_evaluation_is_found_and_a_changed_batch_size_is_not(case: Candidate) -> None:
    assert not judge(case).is_cached
    assert judge(case).is_cached
    again = judge(case, EvaluateConfig(batch_size=3))
    assert (again.is_cached, again.reason) == (False, "evaluate.batch_size: 64 -> 3")


def test_the_recipe_chooses_the_primary_metric(case: Candidate) -> None:
    assert judge(case, EvaluateConfig(primary_metric="f1_macro")).facts["primary_metric"] == "f1_macro"


def test_a_primary_metric_of_another_kind_is_refused_before_anything_is_computed(case: Candidate) -> None:
    with pytest.raises(UserError, match="'perplexity' is not a metric of this kind; there are accuracy,"):
        derive_evaluate(*case.judged, EvaluateConfig(primary_metric="perplexity"), case.store)


def test_the_key_holds_the_metrics_of_the_kind_and_no_others(case: Candidate) -> None:
    code = derive_evaluate(*case.judged, EvaluateConfig(), case.store).ingredients["code"]
    assert "tunesmith.evaluation.metrics.accuracy.accuracy" in code
    assert "tunesmith.evaluation.metrics.perplexity.perplexity" not in code
    assert "tunesmith.kinds.text_classification" in code


def test_the_calibration_is_told_and_only_where_it_is_asked_for_applied(case: Candidate) -> None:
    plain, calibrated = judge(case), judge(case, EvaluateConfig(calibrate=True))
    told, applied = plain.facts["calibration"], calibrated.facts["calibration"]
    assert (told["is_applied"], applied["is_applied"]) == (False, True)
    assert {**told, "is_applied": True} == applied
    assert told["num_validation_examples"] == 10
    for report, place in ((plain, "before"), (calibrated, "after")):
        assert report.facts["metrics"][CALIBRATION] == pytest.approx(told[place][CALIBRATION], abs=1e-9)
    assert calibrated.facts["metrics"]["accuracy"] == plain.facts["metrics"]["accuracy"]
    before, after = (pq.read_table(report.folder / "predictions.parquet") for report in (plain, calibrated))
    scaled = [[logit * told["temperature"] for logit in row] for row in after["logits"].to_pylist()]
    assert scaled == [pytest.approx(row, rel=1e-5) for row in before["logits"].to_pylist()]
    assert after["probability"].to_pylist() != before["probability"].to_pylist()
    assert find_temperature(plain.facts) is None
    assert find_temperature(calibrated.facts) == told["temperature"]


def test_the_temperature_is_fitted_on_the_validation_rows_and_not_on_those_that_judge(case: Candidate) -> None:
    report = judge(case)
    rows = JudgedRows(case.splits, "validation", case.examples, EvaluateConfig().batch_size)
    predicted = rows.predict("candidate", report.facts["labels"], lambda: pytest.fail("is there"), case.store)
    table = read_predictions(predicted, find_kind(case.examples), report.facts["labels"])
    expected = find_kind(case.examples).fit_temperature(table, report.facts["labels"])
    assert report.facts["calibration"]["temperature"] == expected


def test_a_generator_has_no_calibration_and_a_recipe_that_asks_for_it_is_refused(llama: Path, tmp_path: Path) -> None:
    assert judge(make_candidate(tmp_path, llama, GENERATION, lora=LORA)).facts["calibration"] is None
    recipe = {"examples": {"kind": "text-generation"}, "evaluate": {"calibrate": True}}
    ((place, text),) = find_judging_conflicts(recipe, text_generation)
    assert place == ("evaluate", "calibrate")
    assert text == "has no effect on text-generation, which predicts no classes; remove it"


def test_without_validation_rows_calibrating_is_refused_before_the_training(case: Candidate) -> None:
    splits = case.splits.model_copy(update={"facts": {"num_rows": {"train": 20, "validation": 0, "test": 30}}})
    with pytest.raises(DataError, match=r"no rows to fit the temperature on\. Make split\.validation_fraction"):
        slice_rows(splits, EvaluateConfig(calibrate=True), GateConfig(), case.store)
    recipe = {"evaluate": {"calibrate": True}, "split": {"validation_fraction": 0}}
    ((place, _),) = find_judging_conflicts(recipe, text_classification)
    assert place == ("evaluate", "calibrate")
