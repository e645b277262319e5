"""The register stage: the record of a candidate made whole, and the candidate made a model version."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.data.earlier import find_earlier_profiles, find_truncation
from tunesmith.data.profile import read_profile
from tunesmith.evaluation.gate import Decision
from tunesmith.report.curve import draw_loss_png, read_metric_rows
from tunesmith.report.profile_page import FOLDER as PROFILE_FOLDER
from tunesmith.report.profile_page import write_profile
from tunesmith.report.report_files import analyze_decision, write_report
from tunesmith.report.story import Story
from tunesmith.store.derivation import Derivation, compose_ingredients
from tunesmith.store.folder import FolderStore
from tunesmith.store.keys import compute_key
from tunesmith.store.ref import Facts, Ref
from tunesmith.tracking.approval import Consent
from tunesmith.tracking.candidate_run import RowLog, log_final_metrics, open_run
from tunesmith.tracking.client import exclusive, mlflow_client
from tunesmith.tracking.config import RegistryConfig, TrackingConfig, registry_identity
from tunesmith.tracking.contents import (
    ensure_model_files,
    find_report_uri,
    log_dataset,
    log_decision,
    log_files,
    log_profile,
    log_report,
    log_training,
)
from tunesmith.tracking.lineage import find_served_part
from tunesmith.tracking.record import RecipeRecord
from tunesmith.tracking.registry import RegisteredVersion, find_version, read_version
from tunesmith.tracking.standing import find_aliases
from tunesmith.tracking.version_tags import describe_decision, describe_version
from tunesmith.tracking.versions import check_part, ensure_version, finish_promotion, promote

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

log = logging.getLogger(__name__)

VERSION_FILE = "version.json"
LOSS_CURVE = "loss.png"


def derive_register(
    candidate: Ref,
    report: Ref,
    decision: Ref,
    exported: Ref,
    snapshot: Ref,
    splits: Ref,
    record: RecipeRecord,
    registry: RegistryConfig,
    tracking: TrackingConfig,
    *,
    flow_run_id: str | None = None,
    store: FolderStore | None = None,
) -> Derivation:
    """Describe the registration of a candidate.

    Args:
        candidate: The train artifact.
        report: The evaluate artifact.
        decision: The decide artifact.
        exported: The export artifact.
        snapshot: The rows that it all came from.
        splits: The split artifact, for the texts of test rows; in no key of its own, as that of the report holds it.
        record: The recipe. It is in no key: what of it shapes the model is in the keys of the artifacts.
        registry: The registered model.
        tracking: Where MLflow is.
        flow_run_id: The Prefect flow run that asks, for a tag of the run.
        store: Where earlier snapshots are, which the rows are compared with; in no key, as nothing is derived of it.
    """
    refs = (candidate, report, decision, exported, snapshot, splits)
    sources = _Sources(*refs, record, registry, tracking, flow_run_id, store)
    inputs = {
        "candidate": candidate.key,
        "report": report.key,
        # A candidate that was promoted once is registered by that decision, whatever is asked of it later.
        "decision": decision.facts["candidate"]["promoted_by"] or decision.key,
        "export": exported.key,
        "data": snapshot.key,
        **_find_consent(candidate, decision, registry, tracking),
    }
    return Derivation(
        kind="register",
        ingredients=compose_ingredients(
            config={**registry_identity(registry, tracking), "experiment": {"name": tracking.experiment}},
            inputs=inputs,
            # What was registered stays so when this code changes: the version is a fact, not a result.
            code=(),
        ),
        build=sources.build,
        confirm=sources.is_registered,
    )


def _find_consent(candidate: Ref, decision: Ref, registry: RegistryConfig, tracking: TrackingConfig) -> dict[str, str]:
    """What a person was asked and said: with another answer it is another registration."""
    if not Consent.of(decision, None).is_needed:
        return {}
    version = find_version(candidate.key, registry, tracking)
    consent = Consent.of(decision, None if version is None else version.approval)
    return {} if consent.approval is None else {"approval": compute_key(consent.approval.model_dump())}


def register(
    candidate: Ref,
    report: Ref,
    decision: Ref,
    exported: Ref,
    snapshot: Ref,
    splits: Ref,
    record: RecipeRecord,
    registry: RegistryConfig,
    tracking: TrackingConfig,
    store: FolderStore,
    *,
    flow_run_id: str | None = None,
) -> Ref:
    """Make the candidate's run complete, its model a version, and carry the decision out: each exactly once.

    Returns:
        The version and its run; `is_late` says that the decision was PROMOTE, and another candidate became the champion
        before it could be carried out: then the candidate has to be judged again.

    Raises:
        TunesmithError: MLflow cannot be reached, or refuses what is asked of it.
    """
    return store.ensure(
        derive_register(
            candidate,
            report,
            decision,
            exported,
            snapshot,
            splits,
            record,
            registry,
            tracking,
            flow_run_id=flow_run_id,
            store=store,
        )
    )


@dataclass(frozen=True)
class _Sources:
    """What a registration is made of. `build` may be killed anywhere and started again."""

    candidate: Ref
    report: Ref
    decision: Ref
    exported: Ref
    snapshot: Ref
    splits: Ref
    record: RecipeRecord
    registry: RegistryConfig
    tracking: TrackingConfig
    flow_run_id: str | None
    store: FolderStore | None

    def is_registered(self, ref: Ref) -> bool:
        aliases = find_aliases(self.candidate.key, int(ref.facts["version"]), self.registry, self.tracking)
        return aliases is not None and [*aliases] == ref.facts["aliases"]

    def build(self, folder: Path) -> Facts:
        with mlflow_client(self.tracking) as client:
            check_part(client, self.registry, self.candidate.key, self.part)
            run = open_run(client, self.tracking, self.record, self.candidate.key, self.flow_run_id)
            self._log_metrics(client, run)
            log_dataset(client, run, self.record.name, self.snapshot)
            loss_curve = draw_loss_png(read_metric_rows(self.candidate.folder / "metrics.jsonl"))
            (folder / LOSS_CURVE).write_bytes(loss_curve)
            log_files(client, run, self.record, loss_curve, self.report, self.exported)
            if not self.is_settled:
                log_decision(client, run, self.decision)
            warnings = self._profile(client, folder)
            log_profile(client, run, folder / PROFILE_FOLDER)
            ensure_model_files(client, run, self.exported)
            log_training(client, run, self.candidate)
            with exclusive(self.tracking):
                version = self._register(client, run, folder)
            if run.info.status != "FINISHED":
                client.set_terminated(run.info.run_id)
        facts = {**self._facts(version, run), "drift_warnings": [*warnings]}
        (folder / VERSION_FILE).write_text(json.dumps(facts, indent=1), encoding="utf-8")
        log.info("register: %s%s", version.uri, "".join(f" @{alias}" for alias in version.aliases))
        return facts

    def _profile(self, client: MlflowClient, folder: Path) -> tuple[str, ...]:
        """Write the profile of the rows, and their drift against those of earlier runs; gives what it warns of."""
        profile = read_profile(self.snapshot.folder)
        if profile is None or self.store is None:
            return ()
        truncation = find_truncation(self.store, self.snapshot.key, self.candidate.key)
        earlier = find_earlier_profiles(self.store, self.snapshot.key, self._champion_digest(client))
        labels = self.snapshot.facts.get("label_columns", ())
        return write_profile(folder, profile.model_copy(update={"truncation": truncation}), earlier, labels)

    def _champion_digest(self, client: MlflowClient) -> str | None:
        """The rows behind the champion that the candidate was judged against: who is it later does not matter."""
        decision = self.decision.facts
        if self.is_settled:
            registered = read_version(client, self.registry, self.candidate.key)
            decision = {} if registered is None or registered.decision is None else registered.decision
        champion = decision.get("champion")
        if champion is None or champion["key"] is None:
            return None
        version = read_version(client, self.registry, champion["key"])
        return None if version is None else version.data_digest

    def _log_metrics(self, client: MlflowClient, run: Run) -> None:
        RowLog(run).write(client, read_metric_rows(self.candidate.folder / "metrics.jsonl"))
        facts = self.report.facts
        final = {f"test/{name}": value for name, value in facts["metrics"].items()}
        final |= {f"baseline/{name}": value for name, value in facts["baseline"]["metrics"].items()}
        for name in ("training_seconds", "examples_per_second", "num_parameters", "num_trainable_parameters"):
            if self.candidate.facts.get(name) is not None:
                final[f"training/{name}"] = self.candidate.facts[name]
        log_final_metrics(client, run, final, int(self.candidate.facts.get("num_steps", 0)))

    def _register(self, client: MlflowClient, run: Run, folder: Path) -> RegisteredVersion:
        tags = describe_version(self.record.name, self.snapshot, self.candidate, self.report, self.exported)
        if not self.is_settled:
            tags |= describe_decision(self.decision)
        version = ensure_version(client, self.registry, self.candidate.key, run, self.part, tags)
        if self.is_settled:
            return finish_promotion(client, self.registry, version)
        # Before it is promoted: once it is, its decision is settled, and the report of the last one that judged stays.
        self._tell(client, run, version, folder)
        consent = Consent.of(self.decision, version.approval)
        if self.decision.facts["verdict"] == "PROMOTE" and consent.is_given:
            version = promote(client, self.registry, version, self.decision.facts, self.decision.key, consent.text)
        return version

    def _tell(self, client: MlflowClient, run: Run, version: RegisteredVersion, folder: Path) -> None:
        """Write the report and the model card, which name the version, and the error tables; all go to the run, too."""
        story = Story(
            name=self.record.name,
            snapshot=self.snapshot,
            splits=self.splits,
            candidate=self.candidate,
            report=self.report,
            decision=self.decision,
            exported=self.exported,
            base=self.record.base,
            recipe_text=self.record.recipe_text,
            command=self.record.command,
            git_commit=self.record.git_commit,
            version=self._facts(version, run),
            metric_rows=read_metric_rows(self.candidate.folder / "metrics.jsonl"),
            errors=analyze_decision(self.decision, self.splits),
        )
        write_report(folder, story)
        log_report(client, run, folder)

    @property
    def part(self) -> str:
        """The folder of the export that the version is served from."""
        return find_served_part(self.exported.facts["files"])

    @property
    def is_settled(self) -> bool:
        """Whether the decision says no more than that the candidate is the champion, or was it once."""
        return Decision.read(self.decision.facts).is_settled

    def _facts(self, version: RegisteredVersion, run: Run) -> dict[str, object]:
        consent = Consent.of(self.decision, version.approval)
        is_promotion = self.decision.facts["verdict"] == "PROMOTE"
        return {
            "model_name": version.model_name,
            "version": version.version,
            "aliases": list(version.aliases),
            "consent": consent.facts,
            "is_late": is_promotion and consent.is_given and version.promoted_by != self.decision.key,
            "mlflow_run_id": run.info.run_id,
            "model_uri": version.uri,
            "experiment": self.tracking.experiment,
            "experiment_id": run.info.experiment_id,
            "report_uri": find_report_uri(self.tracking, run),
        }
