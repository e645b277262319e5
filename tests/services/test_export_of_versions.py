"""`tunesmith export` of versions that are registered on a real MLflow server."""

import dataclasses
import json
import shutil

import pytest

from judged_candidate import CLASSIFICATION, LORA, make_candidate
from mlflow_server import MlflowServer
from tiny_models import WORDS, make_bert
from tracked_candidate import TrackedCandidate
from tunesmith.cli.main import main
from tunesmith.export.config import ExportConfig
from tunesmith.export.export import export
from tunesmith.tracking.config import TrackingConfig

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """The folder of everything: version 1 is a whole model, version 2 an adapter without its base model."""
    folder = tmp_path_factory.mktemp("versions")
    server = MlflowServer(folder / "mlflow")
    server.start()
    try:
        base = make_bert(folder / "bert", WORDS)
        server.wait_until_up()
        tracking = TrackingConfig(uri=server.uri, experiment="sentiment")
        for name, lora, accuracy in (("whole", None, 0.8), ("alone", LORA, 0.9)):
            case = make_candidate(folder / name, base, CLASSIFICATION, lora=lora)
            exported = export(*case.exported, ExportConfig(merged=lora is None), case.store)
            made = TrackedCandidate.make(folder / "made", tracking, name, accuracy)
            dataclasses.replace(made, exported=exported).register()
        yield folder, server
    finally:
        server.kill()


@pytest.fixture
def call(registered, tmp_path, monkeypatch):
    """The command, from a home that has none of the files; the store with the examples is named."""
    folder, server = registered
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)

    def export_version(model, name):
        arguments = ["--format", "safetensors", "--out", str(tmp_path / "out"), "--store", str(folder / name / "store")]
        return main(["export", model, *arguments, "--json"])

    return export_version


def test_a_whole_model_is_made_of_a_version_that_is_an_adapter_alone(call, tmp_path, capsys):
    assert call("models:/sentiment@champion", "alone") == 0
    assert json.loads(capsys.readouterr().out)["report"]["agreement"] == 1.0
    names = {path.name for path in (tmp_path / "out" / "safetensors").iterdir()}
    assert "model.safetensors" in names
    assert "adapter_config.json" not in names


def test_a_damaged_version_is_refused_and_not_compared_with_itself(registered, call, tmp_path, capsys):
    (run,) = [path for path in (registered[0] / "mlflow" / "artifacts").rglob("model") if path.is_dir()]
    weights, aside = run / "model.safetensors", tmp_path / "aside"
    shutil.copyfile(weights, aside)
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    try:
        assert call("models:/sentiment/1", "whole") == 2
        assert "its model cannot be used, it is not what was registered" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    finally:
        shutil.copyfile(aside, weights)
