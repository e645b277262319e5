"""The folder of a registered model, which predicting uses."""

from __future__ import annotations

import pytest

from tunesmith.errors import CallError
from tunesmith.home import Home
from tunesmith.inference.models import find_model_folder
from tunesmith.store.keys import folder_digest


def test_a_versions_files_are_verified_and_a_damaged_copy_is_fetched_again(candidates, tracking, tmp_path):
    candidate = candidates.make("first", 0.7)
    digest = folder_digest(candidate.exported.folder / "model")
    candidate.exported = candidate.exported.model_copy(update={"facts": {"files": {"model": digest}}})
    candidate.register()
    arguments = (Home.locate({"TUNESMITH_HOME": str(tmp_path / "mine")}, tmp_path), tracking)
    folder = find_model_folder("models:/sentiment@champion", "model", *arguments)
    assert folder_digest(folder) == digest
    (folder / "config.json").unlink()
    (folder / "config.json").write_text("{}")
    assert find_model_folder("models:/sentiment/1", "model", *arguments) == folder
    assert folder_digest(folder) == digest
    with pytest.raises(CallError, match="has no onnx-int8; it has model"):
        find_model_folder("models:/sentiment/1", "onnx-int8", *arguments)
