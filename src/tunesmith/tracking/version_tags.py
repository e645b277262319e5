"""What a version says of itself in its tags, besides the candidate that it is."""

from __future__ import annotations

import json

from tunesmith.evaluation.calibrate import find_temperature
from tunesmith.store.ref import Ref
from tunesmith.tracking.lineage import LINEAGE_TAG, START_TAG, Lineage, Training, describe_start
from tunesmith.tracking.registry import DECISION_TAG, METRICS_TAG


def describe_version(recipe: str, snapshot: Ref, candidate: Ref, report: Ref, exported: Ref) -> dict[str, str]:
    """The tags on the recipe, the data, the numbers, and what another training needs to go on from here.

    Args:
        recipe: The recipe's name.
        snapshot: The rows that it all came from.
        candidate: The train artifact.
        report: The evaluate artifact.
        exported: The export artifact.
    """
    facts, primary = report.facts, report.facts["primary_metric"]
    return {
        "tunesmith.recipe": recipe,
        "tunesmith.primary_metric": primary,
        "tunesmith.value": repr(float(facts["metrics"][primary])),
        METRICS_TAG: json.dumps(facts["metrics"]),
        "tunesmith.baseline": json.dumps(facts["baseline"]),
        "tunesmith.data_digest": str(snapshot.facts["digest"]),
        **_describe_lineage(candidate, report, exported),
    }


def describe_decision(decision: Ref) -> dict[str, str]:
    """The tags on the decision that judged the version last."""
    document = json.dumps(decision.facts, ensure_ascii=False)
    return {"tunesmith.verdict": decision.facts["verdict"], DECISION_TAG: document}


def _describe_lineage(candidate: Ref, report: Ref, exported: Ref) -> dict[str, str]:
    """Nothing where the start of the training was not recorded."""
    if "training" not in candidate.facts:
        return {}
    training = Training.model_validate(candidate.facts["training"])
    lineage = Lineage(
        training=training,
        export=exported.key,
        files=exported.facts["files"],
        temperature=find_temperature(report.facts),
    )
    return {LINEAGE_TAG: lineage.model_dump_json(), START_TAG: describe_start(training)}
