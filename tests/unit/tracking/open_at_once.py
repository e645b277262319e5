"""Four forks of this process open a database that is not there, and the run of one candidate in it, at once."""

from __future__ import annotations

import json
import os
import sqlite3
import sys

import mlflow.store.tracking.sqlalchemy_store  # noqa: F401  (imported once, for all forks)

from tunesmith.tracking.candidate_run import open_run
from tunesmith.tracking.client import mlflow_client
from tunesmith.tracking.config import TrackingConfig
from tunesmith.tracking.record import RecipeRecord

tracking = TrackingConfig(uri=f"sqlite:///{sys.argv[1]}", experiment="sentiment")
record = RecipeRecord(name="sentiment", recipe={"train": {"num_epochs": 1}}, recipe_text="")


def open_it() -> None:
    """What a process does that trains the candidate."""
    with mlflow_client(tracking) as client:
        open_run(client, tracking, record, "candidate", None)


children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        open_it()
        os._exit(0)
    children.append(child)
exit_codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
with sqlite3.connect(sys.argv[1]) as connection:
    (experiments,) = connection.execute("SELECT count(*) FROM experiments WHERE name = 'sentiment'").fetchone()
    (runs,) = connection.execute("SELECT count(*) FROM runs").fetchone()
print(json.dumps({"exit_codes": exit_codes, "experiments": experiments, "runs": runs}))
