"""The main flow: from data to a registered model."""

from __future__ import annotations

import logging
import os
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow

from tunesmith.environment import fill_environment
from tunesmith.export.export import check_start
from tunesmith.home import Home
from tunesmith.provenance import record_recipe
from tunesmith.recipe import Recipe
from tunesmith.report.summary import RunSummary, summarize_run
from tunesmith.store.config import open_store
from tunesmith.tasks.approval import awaits_approval, wait_for_approval
from tunesmith.tasks.data import fetch, snapshot, split
from tunesmith.tasks.evaluation import decide, evaluate, slice_rows
from tunesmith.tasks.export import export
from tunesmith.tasks.features import encode
from tunesmith.tasks.preemption import reschedule_when_preempted
from tunesmith.tasks.report import publish_summary
from tunesmith.tasks.tracking import close_unfinished, register
from tunesmith.tasks.training import start, train
from tunesmith.tracking.unrecorded import completing_record
from tunesmith.training.train import StreamInput, discard_leftovers

MAX_JUDGEMENTS = 3
"""How often a candidate is judged when, each time, another one has become the champion before it could be promoted."""


def close_candidate_run(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Close what a failed, crashed or cancelled flow run left open in MLflow."""
    recipe = Recipe.load(flow_run.parameters["recipe"], flow_run.parameters.get("overrides", ()))
    close_unfinished(recipe.tracking, str(flow_run.id), has_failed=state.is_failed())


@flow(
    name="finetune",
    on_failure=[close_candidate_run],
    on_crashed=[close_candidate_run],
    on_cancellation=[close_candidate_run],
)
@reschedule_when_preempted
def finetune(recipe: str, overrides: tuple[str, ...] = ()) -> RunSummary:
    """Fine-tune on the newest data, compare with the champion, register the result and promote what is better.

    Args:
        recipe: Path of the recipe's file, read when the run starts.
        overrides: Changes to it, such as `train.num_epochs=2`.
    """
    logging.getLogger("tunesmith").setLevel(logging.INFO)  # Prefect's extra loggers come without a level
    fill_environment(os.environ)
    home = Home.locate(os.environ, Path.cwd())
    notes, usual_uri = home.unrecorded_folder, home.find_tracking_uri(os.environ)
    wanted = Recipe.load(recipe, overrides)
    record = record_recipe(wanted, Path(recipe), overrides)
    fetched = fetch(wanted.data, wanted.store)
    rows = snapshot(fetched, wanted.data, wanted.examples, wanted.store)
    splits = split(rows, wanted.split, wanted.examples, wanted.data.weights, wanted.store)
    slices = slice_rows(splits, wanted.evaluate, wanted.gate, wanted.store)
    features = encode(splits, wanted.examples, wanted.model, wanted.tokenize, wanted.store)
    stream = StreamInput(rows, fetched, wanted.data, wanted.split)
    beginning = start(
        rows, splits, features, wanted.examples, wanted.model, wanted.registry, wanted.tracking, wanted.store
    )
    check_start(beginning, wanted.export)
    candidate = train(
        features,
        wanted.examples,
        wanted.model,
        wanted.train,
        wanted.tracking,
        record,
        stream,
        beginning,
        wanted.store,
        notes,
    )
    discard_leftovers(candidate, open_store(wanted.store))  # where it is Cached, the task has not
    report = evaluate(candidate, splits, slices, features, wanted.examples, wanted.model, wanted.evaluate, wanted.store)
    exported = export(candidate, features, report, wanted.examples, wanted.model, wanted.export, wanted.store)
    with completing_record(notes, candidate, exported, record, wanted.tracking):  # from here on, MLflow is needed
        for _ in range(MAX_JUDGEMENTS):
            decision = decide(
                report,
                splits,
                exported,
                wanted.examples,
                wanted.evaluate,
                wanted.gate,
                wanted.registry,
                wanted.tracking,
                wanted.store,
            )
            registering = partial(
                register,
                candidate,
                report,
                decision,
                exported,
                rows,
                splits,
                record,
                wanted.registry,
                wanted.tracking,
                wanted.store,
            )
            version = registering()
            if awaits_approval(version):
                wait_for_approval(version, decision, wanted.gate, wanted.tracking, usual_uri)
                version = registering()
            if not version.facts["is_late"]:
                break
    stages = [rows, splits, slices, features, beginning, candidate, report, exported, decision, version]
    summary = summarize_run(wanted.name, wanted.tracking.public_uri(), stages)
    publish_summary(summary, version, return_state=True)  # what is registered does not fail for want of a page
    return summary
