"""`tunesmith gate replay`: the verdict again, from the stored predictions."""

from __future__ import annotations

from pathlib import Path

import click

from tunesmith.cli.output import FAILED, Output, json_option, pass_output
from tunesmith.cli.registry_option import find_tracking
from tunesmith.cli.store_option import open_named_store, store_option
from tunesmith.errors import CallError

REGISTERED = "models:/"


@click.command(short_help="Decide again from what a decision rested on, and compare.")
@click.argument("decision")
@store_option
@json_option
@pass_output
def command(output: Output, decision: str, store: str | None) -> int:
    """Decide again from what DECISION rested on, with no network, and compare with what was decided.

    DECISION is a folder with decision.json and the predictions, as MLflow has it in the run of a candidate; the key of
    a decision in the store; or a version such as models:/reviews/3.
    """
    from tunesmith.evaluation.replay import replay

    found = replay(_find_folder(decision, store))
    same = "the same to the last bit" if found.is_same else "NOT what was decided"
    lines = [f"{found.again.verdict} again: {same}", *(f"  {reason}" for reason in found.again.reasons)]
    lines += [f"  {difference}" for difference in found.differences]
    output.show(found.model_dump(mode="json"), "\n".join(lines))
    if found.problem is None:
        return 0
    output.note(f"error: {found.problem}")
    return FAILED


def _find_folder(decision: str, store_uri: str | None) -> Path:
    path = Path(decision)
    if path.exists():
        if store_uri is not None:
            raise CallError("--store has no effect on a decision that is named by its folder; leave it out.")
        return path if path.is_dir() else path.parent
    key = _find_key(decision) if decision.startswith(REGISTERED) else decision
    folder = open_named_store(store_uri).find_folder("decide", key)
    if folder is None:
        raise CallError(
            f"{decision}: there is no such folder, and no decision of this key in the store. The run of the candidate "
            "in MLflow has the folder `decision`: download it, and name that."
        )
    return folder


def _find_key(model: str) -> str:
    from tunesmith.store.keys import compute_key
    from tunesmith.tracking.registry import find_named

    version = find_named(model, find_tracking())
    if version.decision is None:
        raise CallError(f"{model}: nobody decided on this version; it was not registered by Tunesmith.")
    return compute_key(version.decision)
