"""The profile of the rows in the register stage, on a real MLflow store."""

from __future__ import annotations

import hashlib
import shutil

import pyarrow as pa
import pytest

from tunesmith.data.profile import PROFILE, merge_profiles, profile_part
from tunesmith.report.profile_page import ProfilePage
from tunesmith.store.derivation import Derivation, compose_ingredients
from tunesmith.store.folder import FolderStore
from tunesmith.tracking.client import mlflow_client


def add_snapshot(store, *labels, recipe="sentiment"):
    digest = hashlib.sha256(repr(labels).encode()).hexdigest()
    table = pa.table({"text": [f"a text {number}" for number in range(600)], "label": [*labels] * (600 // len(labels))})

    def build(folder):
        (folder / PROFILE).write_text(merge_profiles([profile_part(table)]).model_dump_json())
        columns = {"text": "string", "label": "string"}
        return {"digest": digest, "num_rows": 600, "columns": columns, "label_columns": ["label"]}

    ingredients = compose_ingredients(config={}, inputs={"file": digest}, code=())
    derivation = Derivation("snapshot", ingredients, build, address=lambda _: digest[:32])
    return FolderStore(store.root, recipe).ensure(derivation)


def load_table(tracking, ref, name):
    """A table as MLflow's own call reads it, which looks at one tracking server for the whole process."""
    import mlflow

    mlflow.set_tracking_uri(tracking.uri)
    try:
        return mlflow.MlflowClient().load_table(ref.facts["experiment_id"], name, [ref.facts["mlflow_run_id"]])
    finally:
        mlflow.set_tracking_uri(None)


@pytest.fixture
def make(candidates):
    def make_candidate(name, accuracy, *labels):
        candidate = candidates.make(name, accuracy)
        candidate.store = FolderStore(candidate.store.root, "sentiment")
        candidate.snapshot = add_snapshot(candidate.store, *labels)
        return candidate

    return make_candidate


def test_the_run_holds_the_profile_its_pictures_and_tables_that_mlflow_reads(make, tracking):
    ref = make("first", 0.8, "yes", "no").register()
    with mlflow_client(tracking) as client:
        run = client.get_run(ref.facts["mlflow_run_id"])
        names = {entry.path for entry in client.list_artifacts(run.info.run_id, "profile")}
    assert names == {
        f"profile/{name}"
        for name in ("profile.json", "profile.md", "columns.json", "drift.json", "classes.png", "lengths.png")
    }
    assert load_table(tracking, ref, "profile/columns.json")["column"].tolist() == ["text", "label"]
    assert load_table(tracking, ref, "profile/drift.json").empty
    assert ref.facts["drift_warnings"] == []


def test_a_new_label_is_told_against_the_last_snapshot_and_the_champions(make):
    first = make("first", 0.8, "yes", "no")
    first.register()
    add_snapshot(first.store, "yes", "perhaps")
    ref = make("second", 0.9, "yes", "maybe").register()
    told = [warning for warning in ref.facts["drift_warnings"] if "new value" in warning]
    assert told == [
        "Against the last snapshot: column 'label' has 1 new value: 'maybe' (300 rows).",
        "Against the champion's snapshot: column 'label' has 1 new value: 'maybe' (300 rows).",
    ]
    page = ProfilePage.read(ref.folder)
    assert page is not None
    assert "### Against the champion's snapshot: 600 rows, now 600" in page.markdown


def test_the_champion_is_the_one_that_the_decision_compared_with_also_when_all_is_registered_again(make, tracking):
    make("first", 0.8, "yes", "no").register()
    second = make("second", 0.9, "yes", "maybe")
    ref = second.register()
    assert ref.facts["aliases"] == ["champion"]
    shutil.rmtree(ref.folder)
    again = second.register()
    assert again.facts == ref.facts
    assert "Against the last snapshot, which is the champion's" in again.facts["drift_warnings"][0]
    with mlflow_client(tracking) as client:
        entries = client.list_artifacts(ref.facts["mlflow_run_id"], "profile")
    assert len(entries) == len({entry.path for entry in entries}) == 6
    assert len(load_table(tracking, ref, "profile/columns.json")) == 2


def test_a_snapshot_without_a_profile_is_registered_without_one(make):
    first = make("first", 0.8, "yes", "no")
    (first.snapshot.folder / PROFILE).unlink()
    ref = first.register()
    assert ref.facts["drift_warnings"] == []
    assert ProfilePage.read(ref.folder) is None
