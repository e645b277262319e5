"""`tunesmith promote`, `rollback`, `models` and `gate replay`, on a real registry."""

from __future__ import annotations

import json
import shutil

import pyarrow.parquet as pq
import pytest

from made_predictions import make_predictions
from tunesmith.cli.main import main
from tunesmith.evaluation.decide import DECISION_FILE, OURS
from tunesmith.tracking.client import mlflow_client


@pytest.fixture
def three(candidates, tracking, monkeypatch, tmp_path):
    """Three candidates, the last of which is worse; the home is where the commands look."""
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.uri)
    made = [candidates.make(*what) for what in (("first", 0.7), ("second", 0.8), ("third", 0.75))]
    for candidate in made:
        candidate.register()
    return made


def call(capsys, *arguments):
    """The exit code, and what was printed: the document with --json, else the text; for an error what stderr says."""
    code = main(list(arguments))
    printed = capsys.readouterr()
    text = printed.out if code == 0 else printed.err
    return code, json.loads(printed.out) if "--json" in arguments else text


def test_a_person_promotes_rolls_back_and_reads_the_history(three, capsys):
    assert call(capsys, "rollback", "sentiment", "--because", "too slow") == (
        0, "sentiment: the champion is version 1; it was version 2\n",
    )  # fmt: skip
    code, text = call(capsys, "promote", "models:/sentiment@candidate")
    assert (code, text) == (
        0, "sentiment: the champion is version 3; it was version 1. `tunesmith rollback sentiment` goes to version 1\n",
    )  # fmt: skip
    code, text = call(capsys, "models", "show", "sentiment")
    assert code == 0
    assert "sentiment  3        champion  REJECT   accuracy 0.7500" in text
    assert "4. 20" in text
    assert "promote: version 3 after version 1, trained on data 0123456789ab" in text
    assert "rollback: version 1 after version 2" in text
    assert "   too slow\n" in text
    code, document = call(capsys, "models", "show", "models:/sentiment", "--json")
    assert [change["version"] for change in document["history"]] == [1, 2, 1, 3]
    assert [version["version"] for version in document["versions"]] == [3, 2, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rollback", "other"], "no model is registered as 'other'. Registered: sentiment."),
        (["promote", "sentiment"], "Write models:/<name>@<alias> or models:/<name>/<version>"),
        (["promote", "models:/sentiment/2"], "sentiment: version 2 is the champion already"),
        (["promote", "models:/sentiment/9"], "no such version. Versions: 3, 2, 1"),
        (["models", "show", "other"], "no model is registered as 'other'"),
        (["gate", "replay", "f" * 32], "no decision of this key in the store"),
    ],
)
def test_what_is_not_there_is_told_and_nothing_changes(three, tracking, capsys, arguments, message):
    code, text = call(capsys, *arguments)
    assert (code, message in text) == (2, True)
    with mlflow_client(tracking) as client:
        assert int(client.get_registered_model("sentiment").aliases["champion"]) == 2


def test_a_decision_replays_from_the_store_from_a_version_and_from_what_mlflow_has(three, tracking, capsys, tmp_path):
    decision = three[2].decide()
    for named in (decision.key, "models:/sentiment/3", str(decision.folder), str(decision.folder / DECISION_FILE)):
        code, text = call(capsys, "gate", "replay", named)
        assert code == 0
        assert text.startswith("REJECT again: the same to the last bit\n  accuracy 0.7500 against 0.8000")
    with mlflow_client(tracking) as client:
        run = client.get_model_version("sentiment", "3").run_id
        fetched = client.download_artifacts(run, "decision", str(tmp_path))
    code, document = call(capsys, "gate", "replay", fetched, "--json")
    assert (code, document["again"], document["differences"]) == (0, decision.facts, [])


def test_a_decision_whose_predictions_were_changed_does_not_replay(three, capsys, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(three[2].decide().folder, folder, ignore=shutil.ignore_patterns("manifest.json"))
    pq.write_table(make_predictions(0.95), folder / OURS)
    code, text = call(capsys, "gate", "replay", str(folder))
    assert code == 4
    assert "the decision does not follow from its predictions" in text
    code, document = call(capsys, "gate", "replay", str(folder), "--json")
    assert (code, bool(document["differences"])) == (4, True)
    (folder / OURS).unlink()
    code, text = call(capsys, "gate", "replay", str(folder))
    assert (code, "lacks candidate.parquet" in text) == (2, True)
    (folder / DECISION_FILE).write_text("{}")
    code, text = call(capsys, "gate", "replay", str(folder))
    assert (code, "is not a decision that this version" in text) == (2, True)


def test_models_in_the_wrong_place_names_the_store_that_it_looked_in_and_makes_none(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code, text = call(capsys, "models")
    assert (code, text) == (0, f"no model is registered in sqlite:///{tmp_path}/elsewhere/mlflow.db\n")
    code, text = call(capsys, "approve", "models:/sentiment/3")
    assert (code, "MLFLOW_TRACKING_URI names another store" in text) == (2, True)
    assert not (tmp_path / "elsewhere").exists()
