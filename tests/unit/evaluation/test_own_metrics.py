"""Metrics of the user's own: computed for both models, with intervals, and refused in time where they cannot work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from judged_candidate import CLASSIFICATION, GENERATION, make_candidate
from made_predictions import LABELS, make_predictions
from tunesmith.data.functions import FunctionOptions
from tunesmith.errors import DataError, UserError
from tunesmith.evaluation.evaluate import EvaluateConfig, derive_evaluate, evaluate
from tunesmith.evaluation.own_metrics import (
    NUM_DRAWS,
    OwnMetric,
    check_metrics,
    compute_own_intervals,
    compute_own_metrics,
)
from tunesmith.kinds import text_classification, text_generation
from tunesmith.recipe_judging import find_judging_conflicts

ERRORS = """\
def share(predictions, references):
    return sum(ours != theirs for ours, theirs in zip(predictions, references)) / len(predictions)
"""


def make_metric(folder: Path, source: str, path: str = "mine:share", name: str = "errors") -> OwnMetric:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine.py").write_text(source)
    return OwnMetric(name=name, function=FunctionOptions(path=path, folder=str(folder)))


def compute(folder: Path, source: str, path: str = "mine:share", accuracy: float = 0.75) -> dict[str, float]:
    metrics = [make_metric(folder, source, path)]
    return compute_own_metrics(metrics, make_predictions(accuracy, 40), LABELS, text_classification.METRICS)


def test_a_function_is_called_with_labels_and_its_number_is_the_metric(tmp_path: Path) -> None:
    assert compute(tmp_path, ERRORS) == {"errors": pytest.approx(0.25)}


def test_a_function_that_asks_for_probabilities_gets_those_of_each_label(tmp_path: Path) -> None:
    source = (
        "def share(predictions, references, probabilities):\n"
        "    assert all(abs(sum(each.values()) - 1) < 1e-9 for each in probabilities)\n"
        "    assert [max(each, key=each.get) for each in probabilities] == predictions\n"
        "    return len(probabilities)\n"
    )
    assert compute(tmp_path, source) == {"errors": 40.0}


def test_several_numbers_are_several_metrics(tmp_path: Path) -> None:
    found = compute(tmp_path, "def share(predictions, references):\n    return {'all': len(references), 'none': 0}\n")
    assert found == {"errors_all": 40.0, "errors_none": 0.0}


def test_a_name_that_is_a_metric_already_is_refused_and_replaces_none(bert: Path, tmp_path: Path) -> None:
    macro = "def share(predictions, references):\n    return {'macro': 7, 'micro': 7}\n"
    case = make_candidate(tmp_path / "case", bert, CLASSIFICATION)
    config = EvaluateConfig(metrics=(make_metric(tmp_path, macro, name="f1"),))
    with pytest.raises(DataError, match=r"f1: function mine:share.*f1_macro.*is a metric already; give"):
        evaluate(*case.judged, config, case.store)
    twice = [make_metric(tmp_path, macro, name=name) for name in ("cost", "cost_macro")]
    make_metric(tmp_path, "def share(a, b):\n    return {'macro': 1, 'macro_macro': 2}\n")
    with pytest.raises(DataError, match=r"cost_macro: function mine:share.*cost_macro_macro"):
        compute_own_metrics(twice, make_predictions(0.75, 40), LABELS, text_classification.METRICS)


def test_a_class_of_the_evaluate_library_is_a_metric_too(tmp_path: Path) -> None:
    source = (
        "import datasets\nimport evaluate\n\n\nclass Errors(evaluate.Metric):\n"
        "    def _info(self):\n"
        "        names = ('predictions', 'references')\n"
        "        features = datasets.Features({name: datasets.Value('string') for name in names})\n"
        "        return evaluate.MetricInfo(description='', citation='', features=features)\n\n"
        "    def _compute(self, predictions, references):\n"
        "        return {'errors': sum(a != b for a, b in zip(predictions, references)) / len(predictions)}\n"
    )
    assert compute(tmp_path, source, "mine:Errors") == {"errors": pytest.approx(0.25)}


def test_an_interval_is_around_its_value_the_same_twice_and_takes_a_bounded_number_of_calls(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    source = (
        f"{ERRORS}\n\ndef counted(predictions, references):\n    with open({str(calls)!r}, 'a') as file:\n"
        "        file.write('.')\n    return share(predictions, references)\n"
    )
    metric = make_metric(tmp_path, source, "mine:counted")
    found = [compute_own_intervals([metric], make_predictions(0.75, 400), LABELS)["errors"] for _ in range(2)]
    assert found[0] == found[1]
    assert 0.19 < found[0].low < 0.25 < found[0].high < 0.31
    assert calls.stat().st_size <= 2 * (2 * NUM_DRAWS + 2)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "def share(a, b):\n    return 1 / 0\n",
            r"errors: function mine:share raised ZeroDivisionError.*\(mine.py:2\)",
        ),
        ("def share(a, b):\n    return 'many'\n", "returned 'many'; it must return a number or a dict of numbers"),
        ("def share(a, b):\n    return float('nan')\n", "returned nan for errors; it must be finite"),
    ],
)
def test_what_a_function_does_wrong_is_said_with_its_name(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        compute(tmp_path, source)


@pytest.mark.parametrize(
    ("source", "path", "message"),
    [
        (ERRORS, "mine:shares", "has no function 'shares'.*share"),
        (ERRORS, "yours:share", "there is no module yours"),
        ("def share(a):\n    return 1\n", "mine:share", r"cannot be called with \(predictions, references\)"),
        ("class Share:\n    pass\n", "mine:Share", "not one derived from evaluate.Metric"),
    ],
)
def test_what_cannot_work_is_refused_before_the_training(tmp_path: Path, source: str, path: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_metrics([make_metric(tmp_path, source, path)])


def test_a_report_has_it_for_the_candidate_and_its_baseline_and_another_source_has_another_key(
    bert: Path, tmp_path: Path
) -> None:
    case = make_candidate(tmp_path / "case", bert, CLASSIFICATION)
    config = EvaluateConfig(metrics=(make_metric(tmp_path, ERRORS),))
    report = evaluate(*case.judged, config, case.store)
    facts = report.facts
    for measured in (facts, facts["baseline"]):
        assert measured["metrics"]["errors"] == pytest.approx(1 - measured["metrics"]["accuracy"])
        assert measured["intervals"]["errors"]["low"] <= measured["metrics"]["errors"]
    assert facts["headline_metrics"][-1] == "errors"
    make_metric(tmp_path, ERRORS + "\n")
    assert derive_evaluate(*case.judged, config, case.store).key != report.key


def test_a_kind_without_labels_refuses_it(llama: Path, tmp_path: Path) -> None:
    case = make_candidate(tmp_path / "case", llama, GENERATION)
    config = EvaluateConfig(metrics=(make_metric(tmp_path, ERRORS),))
    with pytest.raises(UserError, match="text-generation has no labels to compare with"):
        derive_evaluate(*case.judged, config, case.store)


def conflicts(kind: str = "text-classification", **evaluate: Any) -> list[str]:
    recipe = {"examples": {"kind": kind}, "evaluate": evaluate}
    module = text_generation if kind == "text-generation" else text_classification
    return [text for _, text in find_judging_conflicts(recipe, module)]


def test_a_recipe_cannot_rest_its_decision_on_it_nor_take_a_name_twice(tmp_path: Path) -> None:
    mine = [{"name": "cost", "function": {"path": "mine:cost"}}]
    assert conflicts(metrics=mine) == []
    (text,) = conflicts(metrics=mine, primary_metric="cost")
    assert text.startswith("cost is a metric of yours, which is reported and not tested; choose accuracy")
    (text,) = conflicts(metrics=[{**mine[0], "name": "accuracy"}])
    assert text == "text-classification has a metric accuracy already; give yours another name"
    assert "no labels to compare with" in conflicts("text-generation", metrics=mine)[0]
    metric = make_metric(tmp_path, ERRORS)
    with pytest.raises(ValidationError, match="two metrics 'errors'"):
        EvaluateConfig(metrics=(metric, metric))
