"""The verdict, from what two models predicted."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from made_predictions import EXAMPLES, LABELS, make_predictions, no_slices
from tunesmith.errors import UserError
from tunesmith.evaluation.case import Baseline, Case, Champion, Contender
from tunesmith.evaluation.gate import Decision, make_decision
from tunesmith.evaluation.gate_config import GateConfig
from tunesmith.kinds.text_generation import TextGeneration

CHAMPION = Champion(version=3, key="champion")


def make_case(gate=None, champion=CHAMPION, metric="accuracy", greater_is_better=True, **changes) -> Case:
    case = Case(
        report="report",
        examples=EXAMPLES,
        labels=LABELS,
        primary_metric=metric,
        greater_is_better=greater_is_better,
        gate=gate or GateConfig(),
        candidate=Contender(key="candidate"),
        champion=champion,
        baseline=Baseline(name="majority class"),
    )
    return case.model_copy(update=changes)


def judge(ours, theirs, num_rows=400, **case) -> Decision:
    others = None if theirs is None else make_predictions(theirs, num_rows)
    return make_decision(make_case(**case), make_predictions(ours, num_rows), others, no_slices(num_rows))


@pytest.mark.parametrize(
    ("ours", "theirs", "case", "verdict", "reason"),
    [
        (0.83, 0.80, {}, "PROMOTE", "accuracy 0.8300 against 0.8000 of the champion (version 3) on 400 test examples, "
         "better by 0.0300 (95 % interval of the gain: "),
        (0.83, 0.80, {}, "PROMOTE", "): better (p = 0.00024 by McNemar's exact test)."),
        (0.80, 0.83, {}, "REJECT", "worse by 0.0300"),
        (0.80, 0.80, {}, "HOLD", "equal"),
        (0.81, 0.80, {}, "NEED-DATA", "With "),
        (0.83, 0.80, {"gate": GateConfig(min_gain=0.025)}, "HOLD",
         "not shown to be better by more than the 0.025 that the gate demands"),
        (0.83, 0.80, {"gate": GateConfig(min_gain=0.01)}, "PROMOTE",
         "better by more than the 0.01 that the gate demands"),
        (0.83, 0.80, {"gate": GateConfig(alpha=0.0001)}, "NEED-DATA", "not shown to be better (p = 0.00024"),
        (0.80, 0.81, {"gate": GateConfig(non_inferiority_margin=0.03)}, "PROMOTE", "worse by less than the 0.03"),
        (0.80, 0.83, {"gate": GateConfig(non_inferiority_margin=0.03)}, "HOLD", "not shown to be worse by less than"),
        (0.80, 0.88, {"gate": GateConfig(non_inferiority_margin=0.03)}, "REJECT", "it is worse"),
        (0.60, 0.50, {"champion": None}, "PROMOTE", "There is no champion yet; accuracy 0.6000 against 0.5000 of the "
         "baseline (majority class)"),
        (0.50, 0.50, {"champion": None}, "HOLD", "There is no champion yet; "),
        (0.40, None, {"champion": None, "gate": GateConfig(require_baseline=False)}, "PROMOTE", "accuracy is 0.4000."),
        (0.90, None, {"candidate": Contender(key="champion")}, "HOLD", "is the champion already (version 3)"),
        (0.90, None, {"champion": Champion(version=3, key="x", obstacle="it is for cats")}, "HOLD",
         "the champion (version 3) cannot be compared with it: it is for cats"),
    ],
)  # fmt: skip
def test_the_verdict_follows_from_the_predictions_and_says_why(ours, theirs, case, verdict, reason):
    decision = judge(ours, theirs, **case)
    assert decision.verdict == verdict
    assert reason in decision.reasons[0]


@pytest.mark.parametrize("num_rows", [5, 29])
def test_a_few_examples_show_nothing_whatever_they_say(num_rows):
    decision = judge(1.0, 0.0, num_rows=num_rows)
    assert decision.verdict == "NEED-DATA"
    assert f"{num_rows} test examples show nothing; gate.min_examples asks for 30" in decision.reasons[0]
    assert judge(1.0, 0.0, num_rows=num_rows, gate=GateConfig(min_examples=1)).verdict == "PROMOTE"


def test_a_few_examples_show_nothing_either_where_no_baseline_has_to_be_beaten():
    alone = {"champion": None, "gate": GateConfig(require_baseline=False)}
    few = judge(1.0, None, num_rows=3, **alone)
    assert few.verdict == "NEED-DATA"
    assert few.reasons[0] == (
        "There is no champion yet; the candidate's accuracy is 1.0000. 3 test examples show nothing; "
        "gate.min_examples asks for 30."
    )
    assert judge(1.0, None, num_rows=30, **alone).verdict == "PROMOTE"
    settled = Contender(key="candidate", version=1, promoted_by="decision")
    assert judge(1.0, None, num_rows=3, candidate=settled, **alone).verdict == "HOLD"


def test_a_loss_as_large_as_there_can_be_is_no_margin():
    with pytest.raises(UserError, match="no two shares differ by 2"):
        judge(0.05, 0.95, gate=GateConfig(non_inferiority_margin=2))


def test_the_examples_that_are_asked_for_would_show_the_gain():
    found = judge(0.81, 0.80).comparison
    assert found.num_needed > 400
    more = judge(0.81, 0.80, num_rows=int(found.num_needed * 1.1) // 100 * 100)
    assert more.verdict == "PROMOTE"


def test_a_model_whose_examples_are_others_is_not_compared():
    others = make_predictions(0.5, 400).set_column(0, "row_id", pa.array([f"{row}" for row in range(400)]))
    decision = make_decision(make_case(), make_predictions(0.9, 400), others, no_slices(400))
    assert (decision.verdict, decision.comparison) == ("HOLD", None)
    assert "makes other examples of the test rows" in decision.reasons[0]


def test_less_perplexity_is_better():
    def blocks(nll):
        names = [f"row+{number}" for number in range(60)]
        sizes = np.random.default_rng(0).integers(20, 40, 60)
        noise = np.random.default_rng(1).normal(0, 0.1, 60)
        return pa.table({"row_id": names, "nll": sizes * (nll + noise), "num_tokens": sizes, "num_correct": sizes // 2})

    generation = TextGeneration(kind="text-generation", text="story")
    case = make_case(metric="perplexity", greater_is_better=False, examples=generation, labels=())
    assert make_decision(case, blocks(2.0), blocks(2.1), no_slices(60)).verdict == "PROMOTE"
    assert make_decision(case, blocks(2.1), blocks(2.0), no_slices(60)).verdict == "REJECT"
    lower = make_decision(case, blocks(2.0), blocks(2.1), no_slices(60)).comparison
    assert lower.gain == pytest.approx(lower.other - lower.candidate)
    assert lower.gain > 0
    assert lower.method == "permutation test"


def test_whole_blocks_that_are_right_are_compared_as_right_answers_are():
    def blocks(num_right):
        names, sizes = [f"row+{number}" for number in range(60)], np.full(60, 20)
        right = np.where(np.arange(60) < num_right, 20, 19)
        return pa.table({"row_id": names, "nll": sizes * 2.0, "num_tokens": sizes, "num_correct": right})

    generation = TextGeneration(kind="text-generation", text="story")
    case = make_case(metric="sequence_accuracy", examples=generation, labels=())
    decision = make_decision(case, blocks(30), blocks(20), no_slices(60))
    found = decision.comparison
    assert (decision.verdict, found.method) == ("PROMOTE", "McNemar's exact test")
    assert (found.num_only_candidate, found.num_only_other, found.candidate) == (10, 0, 0.5)


def test_the_document_is_all_that_it_takes_to_decide_again():
    decision = judge(0.83, 0.80)
    document = decision.model_dump(mode="json")
    read = Decision.read(document)
    again = make_decision(read.case, make_predictions(0.83, 400), make_predictions(0.80, 400), no_slices(400))
    assert again.model_dump_json() == decision.model_dump_json()
    assert (document["candidate"]["value"], document["champion"]["value"]) == (0.83, 0.8)


def test_a_gate_that_demands_a_gain_and_allows_a_loss_is_refused():
    with pytest.raises(ValidationError, match=r"min_gain\s+0.01 demands a gain, non_inferiority_margin allows a loss"):
        GateConfig(min_gain=0.01, non_inferiority_margin=0.02)


@pytest.mark.parametrize("min_gain", [-0.1, float("nan"), float("inf")])
def test_a_gain_that_cannot_be_demanded_is_refused(min_gain):
    with pytest.raises(ValidationError):
        GateConfig(min_gain=min_gain)
