"""The metrics: equal to scikit-learn's, loadable by path and by name, silent in the corners."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics

from tunesmith.evaluation.metric import METRICS_FOLDER, load_metric, metric_names

NAMES = (
    "accuracy",
    "average_precision",
    "balanced_accuracy",
    "brier_score",
    "exact_match",
    "expected_calibration_error",
    "f1",
    "log_loss",
    "matthews_correlation",
    "perplexity",
    "precision",
    "recall",
    "roc_auc",
    "sequence_accuracy",
    "token_accuracy",
)
REFERENCES = {
    "accuracy": sklearn.metrics.accuracy_score,
    "balanced_accuracy": sklearn.metrics.balanced_accuracy_score,
    "f1": sklearn.metrics.f1_score,
    "matthews_correlation": sklearn.metrics.matthews_corrcoef,
    "precision": sklearn.metrics.precision_score,
    "recall": sklearn.metrics.recall_score,
}
AVERAGED = ("f1", "precision", "recall")


def random_labels(num_classes: int, seed: int) -> tuple[list[int], list[int]]:
    generator = np.random.default_rng(seed)
    references = generator.integers(num_classes, size=200)
    is_right = generator.random(200) < 0.6
    predictions = np.where(is_right, references, generator.integers(num_classes, size=200))
    return predictions.tolist(), references.tolist()


def reference_value(name: str, predictions: list[int], references: list[int], **options: object) -> float:
    if name in AVERAGED:
        options = {"zero_division": 0, **options}
    return float(REFERENCES[name](references, predictions, **options))


def test_every_metric_folder_has_a_module_of_its_name() -> None:
    assert metric_names() == NAMES
    folders = [path.name for path in METRICS_FOLDER.iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert tuple(sorted(folders)) == NAMES


@pytest.mark.parametrize("name", sorted(REFERENCES))
@pytest.mark.parametrize("num_classes", [2, 3, 77])
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")  # of the reference, not of ours
def test_a_metric_equals_that_of_scikit_learn(name: str, num_classes: int) -> None:
    predictions, references = random_labels(num_classes, seed=num_classes)
    options = {"average": "macro"} if name in AVERAGED else {}
    value = load_metric(name).compute(predictions=predictions, references=references, **options)
    assert set(value) == {name}
    assert value[name] == pytest.approx(reference_value(name, predictions, references, **options), abs=1e-9)


@pytest.mark.parametrize("name", AVERAGED)
@pytest.mark.parametrize("average", ["macro", "micro", "weighted", "binary"])
def test_an_average_means_what_it_means_in_scikit_learn(name: str, average: str) -> None:
    predictions, references = random_labels(2, seed=0)
    value = load_metric(name).compute(predictions=predictions, references=references, average=average)[name]
    assert value == pytest.approx(reference_value(name, predictions, references, average=average), abs=1e-9)


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_labels_as_text_and_as_numbers_give_the_same_value(name: str) -> None:
    predictions, references = random_labels(3, seed=1)
    as_numbers = load_metric(name).compute(predictions=predictions, references=references)
    predicted_texts, reference_texts = [f"label {p}" for p in predictions], [f"label {r}" for r in references]
    assert load_metric(name).compute(predictions=predicted_texts, references=reference_texts) == as_numbers


def test_labels_that_look_like_numbers_stay_text() -> None:
    assert load_metric("accuracy").compute(predictions=["01", "x"], references=["1", "x"]) == {"accuracy": 0.5}


@pytest.mark.parametrize("name", sorted(REFERENCES))
@pytest.mark.filterwarnings("error")
def test_a_class_that_is_never_predicted_counts_as_zero_without_a_warning(name: str) -> None:
    options = {"average": "macro"} if name in AVERAGED else {}
    value = load_metric(name).compute(predictions=[0, 0, 0], references=[0, 1, 2], **options)[name]
    assert value == pytest.approx(reference_value(name, [0, 0, 0], [0, 1, 2], **options))


@pytest.mark.filterwarnings("error")
def test_matthews_correlation_of_a_single_class_is_zero_without_a_warning() -> None:
    value = load_metric("matthews_correlation").compute(predictions=["a"], references=["a"])
    assert value == {"matthews_correlation": 0.0}


def random_scores(num_classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    scores = np.round(generator.dirichlet(np.ones(num_classes), 300), 3) + 1e-4  # rounded: some are equal
    references = np.concatenate([np.arange(num_classes), generator.integers(num_classes, size=300 - num_classes)])
    return scores / scores.sum(axis=1, keepdims=True), references


def reference_calibration_error(scores: np.ndarray, references: np.ndarray) -> float:
    edges = np.linspace(0, 1, 16)
    confidence, is_right = scores.max(axis=1), scores.argmax(axis=1) == references
    error = 0.0
    for low, high in itertools.pairwise(edges):
        is_in = (confidence > low) & (confidence <= high)
        if is_in.any():
            error += is_in.mean() * abs(is_right[is_in].mean() - confidence[is_in].mean())
    return error


SCORED = {
    "roc_auc": lambda scores, references: (
        sklearn.metrics.roc_auc_score(references, scores[:, 1])
        if scores.shape[1] == 2
        else sklearn.metrics.roc_auc_score(references, scores, multi_class="ovr", average="macro")
    ),
    "average_precision": lambda scores, references: sklearn.metrics.average_precision_score(
        references, scores[:, 1] if scores.shape[1] == 2 else scores, average="macro"
    ),
    "log_loss": lambda scores, references: sklearn.metrics.log_loss(references, scores),
    "brier_score": lambda scores, references: sklearn.metrics.brier_score_loss(
        references, scores[:, 1] if scores.shape[1] == 2 else scores
    ),
    "expected_calibration_error": reference_calibration_error,
}


@pytest.mark.parametrize("name", sorted(SCORED))
@pytest.mark.parametrize("num_classes", [2, 3, 30])
def test_a_metric_of_probabilities_equals_its_reference(name: str, num_classes: int) -> None:
    scores, references = random_scores(num_classes, seed=num_classes)
    value = load_metric(name).compute(prediction_scores=scores, references=references)[name]
    assert value == pytest.approx(SCORED[name](scores, references), abs=1e-9)


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
@pytest.mark.filterwarnings("error")
def test_a_class_without_examples_is_left_out_of_the_mean_over_classes(name: str) -> None:
    scores, references = random_scores(3, seed=1)
    references[references == 2] = 1
    value = load_metric(name).compute(prediction_scores=scores, references=references)[name]
    one = {"roc_auc": sklearn.metrics.roc_auc_score, "average_precision": sklearn.metrics.average_precision_score}[name]
    assert value == pytest.approx(np.mean([one(references == number, scores[:, number]) for number in (0, 1)]))


def test_exact_match_looks_at_every_letter_but_not_at_white_space_around() -> None:
    value = load_metric("exact_match").compute(predictions=["Yes ", "no", "a b"], references=["Yes", "No", "a  b"])
    assert value == {"exact_match": pytest.approx(1 / 3)}


def test_perplexity_weighs_every_token_the_same() -> None:
    value = load_metric("perplexity").compute(nll=[10 * math.log(4), 0.0], num_tokens=[10, 10])["perplexity"]
    assert value == pytest.approx(2.0, abs=1e-9)


def test_perplexity_beyond_a_float_is_infinite() -> None:
    assert load_metric("perplexity").compute(nll=[1e9], num_tokens=[1]) == {"perplexity": math.inf}


@pytest.mark.parametrize(("name", "sums"), [("perplexity", "nll"), ("token_accuracy", "num_correct")])
def test_a_mean_over_no_tokens_is_refused(name: str, sums: str) -> None:
    with pytest.raises(ValueError, match="zero tokens"):
        load_metric(name).compute(**{sums: [0], "num_tokens": [0]})


def test_a_sequence_counts_only_where_every_token_is_right() -> None:
    value = load_metric("sequence_accuracy").compute(num_correct=[3, 2, 7, 0], num_tokens=[3, 3, 7, 1])
    assert value == {"sequence_accuracy": 0.5}


def test_token_accuracy_weighs_every_token_the_same() -> None:
    assert load_metric("token_accuracy").compute(num_correct=[1, 3], num_tokens=[1, 7]) == {"token_accuracy": 0.5}


def test_a_metric_can_be_used_twice() -> None:
    metric = load_metric("accuracy")
    assert metric.compute(predictions=[0], references=[0]) == {"accuracy": 1.0}
    assert metric.compute(predictions=[1, 0], references=[0, 0]) == {"accuracy": 0.5}


def test_an_unknown_metric_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match="'acuracy' is not a metric; there are accuracy, average_precision"):
        load_metric("acuracy")


LOAD_BY_PATH = """
import json, sys, evaluate
names = sys.argv[2:]
print(json.dumps([evaluate.load(f"{sys.argv[1]}/{name}").name for name in names]))
"""
LOAD_BY_NAME = """
from tunesmith.evaluation.metric import load_metric
print(load_metric("accuracy").compute(predictions=["a"], references=["a"]))
"""


def run_python(script: str, *arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HOME": str(home), "HF_HOME": str(home / "hf"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_evaluate_loads_every_metric_by_its_path_with_no_network(tmp_path: Path) -> None:
    done = run_python(LOAD_BY_PATH, str(METRICS_FOLDER), *NAMES, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == list(NAMES)


def test_loading_by_name_needs_no_home_and_says_nothing(tmp_path: Path) -> None:
    home = tmp_path / "a file, not a folder"
    home.write_text("")
    done = run_python(LOAD_BY_NAME, home=home)
    assert (done.stdout, done.stderr, done.returncode) == ("{'accuracy': 1.0}\n", "", 0)
    assert home.read_text() == ""
