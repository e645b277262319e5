"""The batched forward pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from judged_candidate import CLASSIFICATION, GENERATION, Candidate, make_candidate
from small_memory import run_out_beyond
from tunesmith.errors import TunesmithError
from tunesmith.evaluation.scoring import MAX_BATCH_TOKENS, plan_forward, score
from tunesmith.features.batching import Features
from tunesmith.features.files import read_split
from tunesmith.kinds import find_kind
from tunesmith.modeling.load import load_trained


def load(case: Candidate) -> Any:
    return load_trained(case.candidate.folder, Path(case.model.base), case.examples, case.features.facts["labels"])


def score_test_split(case: Candidate, batch_size: int) -> dict[str, np.ndarray]:
    test, pad_token_id = read_split(case.features.folder, "test"), case.features.facts["pad_token_id"]
    return dict(score(load(case), test, find_kind(case.examples), pad_token_id, batch_size=batch_size, title="testing"))


def score_row_by_row(case: Candidate) -> dict[str, np.ndarray]:
    model, kind = load(case), find_kind(case.examples)
    parts = []
    features = Features(read_split(case.features.folder, "test"))
    for row in range(len(features)):
        taken = features.take(np.array([row]))
        batch = {name: torch.from_numpy(values) for name, values in kind.collate(taken, 0).items()}
        with torch.inference_mode():
            parts.append(kind.summarize(model(**batch).logits, batch))
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}


@given(st.lists(st.integers(1, 20_000), max_size=60), st.integers(1, 70))
def test_every_example_is_in_one_batch_that_is_neither_too_many_nor_too_large(lengths: list[int], size: int) -> None:
    batches = plan_forward(np.array(lengths, dtype=np.int64), size)
    assert sorted(int(row) for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = len(batch) * max(lengths[row] for row in batch)
        assert 1 <= len(batch) <= size
        assert padded <= MAX_BATCH_TOKENS or len(batch) == 1


def test_the_longest_examples_come_first() -> None:
    assert [batch.tolist() for batch in plan_forward(np.array([3, 9, 5, 9]), 2)] == [[1, 3], [2, 0]]


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_results_in_batches_are_those_of_each_example_alone_and_in_order(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    examples = CLASSIFICATION if name == "bert" else GENERATION
    case = make_candidate(tmp_path, request.getfixturevalue(name), examples)
    one_by_one, together = score_row_by_row(case), score_test_split(case, 8)
    assert set(one_by_one) == set(together)
    for column, values in one_by_one.items():
        assert len(values) == case.features.facts["num_examples"]["test"]
        np.testing.assert_allclose(together[column], values, atol=1e-5)
    assert len(np.unique(np.round(next(iter(one_by_one.values())), 3), axis=0)) > 5


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_a_batch_that_does_not_fit_into_the_memory_is_scored_in_parts(
    name: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_candidate(tmp_path, request.getfixturevalue(name), CLASSIFICATION if name == "bert" else GENERATION)
    whole, given_back = score_test_split(case, 8), list[int]()
    model, test, padding = load(case), read_split(case.features.folder, "test"), case.features.facts["pad_token_id"]
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: given_back.append(1))

    model.register_forward_hook(run_out_beyond(3), with_kwargs=True)
    parts = score(model, test, find_kind(case.examples), padding, batch_size=8, title="testing")
    assert given_back
    for column, values in whole.items():
        np.testing.assert_allclose(parts[column], values, atol=1e-5)


def test_a_model_that_does_not_fit_onto_the_gpu_is_scored_on_the_cpu(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    case = make_candidate(tmp_path, bert, CLASSIFICATION)
    expected, model = score_test_split(case, 8), load(case)
    to = model.to

    def move(device: Any) -> Any:
        if torch.device(device).type != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return to(device)

    monkeypatch.setattr(model, "to", move)
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda **_: torch.device("cuda"))
    test, kind = read_split(case.features.folder, "test"), find_kind(case.examples)
    found = score(model, test, kind, case.features.facts["pad_token_id"], batch_size=8, title="testing")
    np.testing.assert_array_equal(found["logits"], expected["logits"])
    assert [record.message for record in caplog.records if "does not fit" in record.message] == [
        "the model does not fit into the memory of cuda, and computes on the CPU"
    ]


def test_a_scored_model_gives_the_gpu_back(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_candidate(tmp_path, bert, CLASSIFICATION)
    model, calls = load(case), list[str]()
    monkeypatch.setattr(model, "to", lambda device: calls.append(str(device)))
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: calls.append("empty"))
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda **_: torch.device("cuda"))
    test, padding = read_split(case.features.folder, "test"), case.features.facts["pad_token_id"]
    score(model, test, find_kind(case.examples), padding, batch_size=8, title="testing")
    assert calls == ["cuda", "cpu", "empty"]


def test_a_diverged_model_is_named_as_one_and_not_scored(bert: Path, tmp_path: Path) -> None:
    case = make_candidate(tmp_path, bert, CLASSIFICATION)
    case.replace_weights(float("nan"))
    with pytest.raises(TunesmithError, match=r"30 of 30 examples have logits that are not finite .* diverged"):
        score_test_split(case, 8)
