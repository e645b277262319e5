"""The summary of a run: what happened, in numbers, for a terminal, for `--json` and for a page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict

from tunesmith.evaluation.intervals import Interval
from tunesmith.export.formats import FormatReport
from tunesmith.store.ref import Ref


class StageSummary(BaseModel):
    """How one stage went."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    name: str
    """The stage, such as `train`."""
    key: str
    """The key of its artifact."""
    is_cached: bool
    """Whether the artifact was found instead of computed."""
    reason: str
    """Why it was computed; empty when it was found."""
    seconds: float
    """How long it took, the look-up included."""


class DataStep(BaseModel):
    """What a step did to the rows."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    step: str
    """Reading, a transform or the contract."""
    rows_in: int
    """Rows that came to it."""
    rows_out: int
    """Rows that went on."""
    dropped: dict[str, int]
    """Rows that did not, by reason."""


class RunSummary(BaseModel):
    """All that a person wants to know of a run."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    name: str
    """The recipe's name."""
    tracking_uri: str
    """MLflow's store, without user and password."""
    rows_in: int
    """Rows read from the sources."""
    dropped: dict[str, int]
    """Rows dropped, by reason."""
    data_steps: tuple[DataStep, ...]
    """What became of the rows, step by step."""
    quarantined: dict[str, int]
    """Rows in quarantine, by reason; a row may have several."""
    num_quarantined: int
    """Rows in quarantine."""
    quarantine_key: str | None
    """The key of the artifact that holds them; None where there are none."""
    left_out: dict[str, int]
    """Rows that are in no split, by reason."""
    leakage: dict[str, Any]
    """Rows of different splits that are nearly the same, as the split stage found them."""
    drift_warnings: tuple[str, ...]
    """How the rows differ from those of earlier runs, where a person should look."""
    num_rows: dict[str, int]
    """Rows of each split."""
    num_truncated: dict[str, int]
    """Examples of each split that were longer than `max_length`, and cut."""
    lost_row_fraction: dict[str, float]
    """Share of each split's rows that were cut or left out, being too long."""
    lost_token_fraction: dict[str, float]
    """Share of each split's tokens that were lost so."""
    asked_start: str
    """What the recipe wants training to begin from: `base`, or `champion`, once there is one."""
    start_version: int | None
    """The registered version whose weights training began from; None for the base model."""
    num_new_rows: int | None
    """Rows of the train split that the model had not been trained on before; None of a stream."""
    num_old_rows: int | None
    """Rows of the train split that it had."""
    num_replayed_rows: int | None
    """How many of these it was trained on again."""
    num_steps: int
    """Optimizer steps of the training."""
    num_epochs: float
    """Epochs of the training."""
    stopped_early: bool
    """Whether the training ended because the validation loss fell no more."""
    kept_step: int | None
    """The step of the lowest validation loss, whose model the candidate is; None where it is that of the last step."""
    weights_sha256: str
    """The sha256 of the trained weights, or of the adapter."""
    resumed_from_step: int | None
    """The checkpoint from which the training went on; None when it was never interrupted."""
    examples_per_second: float
    """The training's speed."""
    train_loss: float | None
    """The last training loss."""
    validation_loss: float | None
    """The validation loss of the candidate."""
    num_test_examples: int
    """Test examples that the metrics are over."""
    metrics: dict[str, float]
    """The candidate's metrics."""
    intervals: dict[str, Interval]
    """Where each metric may be, with a confidence of 95 %, on all that the test examples stand for."""
    headline_metrics: tuple[str, ...]
    """Those that a person sees at once, the primary one first."""
    slices: tuple[dict[str, Any], ...]
    """The parts of the test rows that the recipe names, each with its examples, metrics and intervals."""
    baseline_name: str
    """What the candidate is compared with."""
    baseline_metrics: dict[str, float]
    """The baseline's metrics."""
    primary_metric: str
    """The metric that the decision rests on."""
    greater_is_better: bool
    """The better direction of the primary metric."""
    calibration: dict[str, Any] | None
    """How sure the candidate is, and how often it is right; None for a kind without probabilities of labels."""
    merging: dict[str, Any] | None
    """For an adapter on a quantized base model: what merging it costs, as the export stage measured it."""
    formats: dict[str, FormatReport]
    """The formats of the candidate, each compared with the judged model; one that is too far off is not shipped."""
    verdict: str
    """PROMOTE, HOLD, REJECT or NEED-DATA."""
    reasons: tuple[str, ...]
    """Why, a sentence a reason."""
    approval: str | None
    """What a person said to a promotion, or that nobody did; None where nobody has to be asked."""
    model_name: str
    """The registered model."""
    version: str
    """The version of the registered model that is this candidate."""
    aliases: tuple[str, ...]
    """The aliases of that version."""
    mlflow_run_id: str
    """The MLflow run of the candidate."""
    model_uri: str
    """Where MLflow serves the model from."""
    experiment: str
    """The MLflow experiment."""
    report_uri: str | None
    """Where the HTML report is; None of a version that was registered before there were any."""
    stages: tuple[StageSummary, ...]
    """The stages, in the order in which they ran."""
    seconds: float
    """The stages' times, added up."""


def summarize_run(name: str, tracking_uri: str, refs: Iterable[Ref]) -> RunSummary:
    """Put a run's references together.

    Args:
        name: The recipe's name.
        tracking_uri: MLflow's store, without user and password.
        refs: The references of all stages, in the order in which they ran; each carries the facts of its stage.

    Raises:
        KeyError: A stage is missing, or a fact that its stage promises.
    """
    stages = tuple(refs)
    facts: dict[str, dict[str, Any]] = {ref.kind: ref.facts for ref in stages}
    start, train, report, version = facts["start"], facts["train"], facts["evaluate"], facts["register"]
    rows, quarantine, encoded = facts["snapshot"], facts["snapshot"]["quarantine"], facts["encode"]
    return RunSummary(
        name=name,
        tracking_uri=tracking_uri,
        rows_in=rows["rows_in"],
        dropped=rows["dropped"],
        data_steps=tuple(DataStep.model_validate(step) for step in rows["steps"]),
        quarantined=quarantine["reasons"],
        num_quarantined=quarantine["num_rows"],
        quarantine_key=quarantine["key"],
        left_out=facts["split"]["left_out"],
        leakage=facts["split"]["leakage"],
        drift_warnings=tuple(version.get("drift_warnings", ())),
        num_rows=facts["split"]["num_rows"],
        num_truncated=encoded["num_truncated"],
        lost_row_fraction=encoded["lost_row_fraction"],
        lost_token_fraction=encoded["lost_token_fraction"],
        asked_start=start["asked"],
        start_version=None if start["start"] is None else start["start"]["version"],
        num_new_rows=start.get("num_new_rows"),
        num_old_rows=start.get("num_old_rows"),
        num_replayed_rows=start.get("num_replayed_rows"),
        num_steps=train["num_steps"],
        num_epochs=train["num_epochs"],
        stopped_early=train["stopped_early"],
        kept_step=train["kept_step"],
        weights_sha256=train["weights_sha256"],
        resumed_from_step=train["resumed_from_step"],
        examples_per_second=train["examples_per_second"],
        train_loss=train["train_loss"],
        validation_loss=train["validation_loss"],
        num_test_examples=report["num_examples"],
        metrics=report["metrics"],
        intervals=report["intervals"],
        headline_metrics=tuple(name for name in report["headline_metrics"] if name in report["metrics"]),
        slices=tuple(report["slices"]),
        baseline_name=report["baseline"]["name"],
        baseline_metrics=report["baseline"]["metrics"],
        primary_metric=report["primary_metric"],
        greater_is_better=report["greater_is_better"],
        calibration=report["calibration"],
        merging=facts["export"].get("merging"),
        formats=facts["export"]["formats"],
        verdict=facts["decide"]["verdict"],
        reasons=tuple(facts["decide"]["reasons"]),
        approval=None if version.get("consent") is None else version["consent"]["text"],
        model_name=version["model_name"],
        version=str(version["version"]),
        aliases=tuple(version["aliases"]),
        mlflow_run_id=version["mlflow_run_id"],
        model_uri=version["model_uri"],
        experiment=version["experiment"],
        report_uri=version.get("report_uri"),
        stages=tuple(_summarize_stage(ref) for ref in stages),
        seconds=sum(ref.seconds for ref in stages),
    )


def describe_steps(summary: RunSummary) -> str:
    """How long the training was, such as `200 steps (0.787 epochs)`, and which of its models the candidate is."""
    epochs = "1 epoch" if summary.num_epochs == 1 else f"{summary.num_epochs:.3g} epochs"
    end = ", stopped early" if summary.stopped_early else ""
    kept = "" if summary.kept_step is None else f", kept the model of step {summary.kept_step:,}, the best one"
    return f"{summary.num_steps:,} steps ({epochs}){end}{kept}"


def describe_start(summary: RunSummary) -> str:
    """What training began from, and which rows it was about; empty where the recipe asks for the base model."""
    if summary.start_version is None:
        return "" if summary.asked_start == "base" else "from the base model"
    return (
        f"from version {summary.start_version}, {summary.num_new_rows:,} new rows, {summary.num_replayed_rows:,} of "
        f"{summary.num_old_rows:,} old rows replayed"
    )


def describe_merging(summary: RunSummary) -> str | None:
    """What merging a quantized training's adapter costs, in a sentence; None where there is nothing to say."""
    if summary.merging is None:
        return None
    loss, original = summary.merging["loss"], summary.merging["original_base_loss"]
    return (
        f"the adapter is merged into the base model as it was quantized: test loss {loss:.4f}; "
        f"into the original it would be {original:.4f} ({original - loss:+.4f})"
    )


def _summarize_stage(ref: Ref) -> StageSummary:
    return StageSummary(name=ref.kind, key=ref.key, is_cached=ref.is_cached, reason=ref.reason, seconds=ref.seconds)
