"""The evaluate stage."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import sklearn.metrics

from judged_candidate import CLASSIFICATION, GENERATION, LORA, Candidate, make_candidate
from tunesmith.errors import UserError
from tunesmith.evaluation.evaluate import EvaluateConfig, derive_evaluate, evaluate
from tunesmith.features.encode import TokenizeConfig
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
