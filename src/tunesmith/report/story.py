"""What the HTML report and the model card tell: the artifacts of one candidate, its version and its errors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from tunesmith.evaluation.error_analysis import ErrorTables
from tunesmith.evaluation.gate import Decision
from tunesmith.store.ref import Facts, Ref
from tunesmith.tracking.lineage import MODEL, find_served_part

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Story:
    """One candidate from its rows to its version.

    Attributes:
        name: The recipe's name.
        snapshot: The rows.
        splits: Which of them train, validate and test.
        candidate: The train artifact.
        report: The evaluate artifact.
        decision: The decide artifact.
        exported: The export artifact.
        base: The base model, as the recipe names it; empty where that is not known.
        recipe_text: The recipe's file.
        command: What runs it again; empty where that is not known.
        git_commit: The commit of the working directory, where it is in a git repository.
        version: The facts of the registered version.
        metric_rows: The rows of metrics.jsonl.
        errors: Where the candidate is wrong.
    """

    name: str
    snapshot: Ref
    splits: Ref
    candidate: Ref
    report: Ref
    decision: Ref
    exported: Ref
    base: str
    recipe_text: str
    command: str
    git_commit: str | None
    version: Facts
    metric_rows: Sequence[Mapping[str, Any]]
    errors: ErrorTables

    @property
    def decided(self) -> Decision:
        """The decision's document."""
        return Decision.read(self.decision.facts)

    @property
    def hub_base(self) -> str | None:
        """The base model's name on the Hub, such as `org/name`; None of any other, which says nothing elsewhere."""
        return self.base if HUB_NAME.fullmatch(self.base) else None

    @property
    def is_whole(self) -> bool:
        """Whether the version holds all weights, and not an adapter alone."""
        return find_served_part(self.exported.facts["files"]) == MODEL

    @property
    def stages(self) -> tuple[Ref, ...]:
        """The artifacts that the version rests on, in the order of the stages."""
        return self.snapshot, self.splits, self.candidate, self.report, self.decision, self.exported


def describe_rows(story: Story) -> list[tuple[str, str]]:
    """The rows and what became of them: a name and a value each."""
    facts, quarantine = story.snapshot.facts, story.snapshot.facts.get("quarantine", {})
    dropped, left_out = facts.get("dropped", {}), story.splits.facts.get("left_out", {})
    found = [("sha256 of the rows", str(facts["digest"])), ("rows", f"{facts['num_rows']:,}")]
    found += [(f"{split} rows", f"{count:,}") for split, count in story.splits.facts.get("num_rows", {}).items()]
    found += [("rows dropped", f"{sum(dropped.values()):,}")]
    found += [("rows in quarantine", f"{quarantine.get('num_rows', 0):,}")]
    found += [("rows in no split", f"{sum(left_out.values()):,}")]
    return [*found, ("leakage between the splits", _describe_leakage(story.splits.facts.get("leakage", {})))]


def describe_training(story: Story) -> list[tuple[str, str]]:
    """The training in numbers: a name and a value each, those that are known."""
    facts = story.candidate.facts
    wanted = {
        "optimizer steps": ("num_steps", ",.0f"),
        "epochs": ("num_epochs", ".3g"),
        "seconds": ("training_seconds", ",.1f"),
        "examples a second": ("examples_per_second", ",.1f"),
        "weights": ("num_parameters", ",.0f"),
        "weights that were trained": ("num_trainable_parameters", ",.0f"),
        "last train loss": ("train_loss", ".4f"),
        "validation loss": ("validation_loss", ".4f"),
    }
    found = [("base model", story.hub_base or PurePath(story.base).name)] if story.base else []
    return found + [
        (name, f"{facts[key]:{form}}") for name, (key, form) in wanted.items() if facts.get(key) is not None
    ]


def describe_lineage(story: Story) -> list[tuple[str, str]]:
    """From the rows to the version: a name and a value each."""
    version = story.version
    return [
        ("data", f"sha256 {story.snapshot.facts['digest']}"),
        ("code", f"git commit {story.git_commit}" if story.git_commit else "not in a git repository"),
        ("MLflow run", f"{version['mlflow_run_id']} in experiment {version['experiment']}"),
        ("version", f"{version['model_uri']}"),
        *((f"{ref.kind} artifact", ref.key) for ref in story.stages),
    ]


def find_limits(story: Story) -> list[str]:
    """What a reader must not take the numbers for, a sentence each."""
    facts = story.report.facts
    found = [
        f"The metrics are of {facts['num_examples']:,} test examples of the same source as the training rows; on rows "
        "of another kind the model may do worse.",
    ]
    if (leaked := story.splits.facts.get("leakage", {})) and not leaked.get("is_checked"):
        found.append("It was not checked whether test rows are nearly the same as training rows.")
    if story.errors.classes is not None:
        rare = [row["label"] for row in story.errors.classes.to_pylist() if row["support"] < MIN_SUPPORT]
        if rare:
            found.append(f"{len(rare)} labels have fewer than {MIN_SUPPORT} test rows: their numbers say little.")
    if not story.is_whole:
        found.append("The version is an adapter alone: it answers on the very base model that it was trained on.")
    if story.decided.champion is None:
        found.append("There was no champion to compare with when it was decided.")
    return found


MIN_SUPPORT = 20
"""Test rows below which a number of a class or of a slice is said to rest on few."""


def _describe_leakage(leakage: Mapping[str, Any]) -> str:
    if not leakage.get("is_checked"):
        return "not checked"
    parts = [
        f"{item['num_into']:,} rows of {item['into']} have their like in {item['from']}" for item in leakage["between"]
    ]
    return f"{'; '.join(parts) or 'none'} (similarity {leakage['threshold']} or more)"
