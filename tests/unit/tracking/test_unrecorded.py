"""Notes on what MLflow does not have yet."""

from __future__ import annotations

import pytest

from tunesmith.errors import CallError, ModelError, TunesmithError
from tunesmith.tracking.unrecorded import completing_record, forget_note, list_unrecorded, note_rows


@pytest.fixture
def first(candidates):
    first = candidates.make("first", 0.8)
    first.record = first.record.model_copy(update={"command": "tunesmith run recipe.yaml"})
    return first


def completing(first, notes):
    return completing_record(notes, first.candidate, first.exported, first.record, first.tracking)


def test_a_record_that_is_completed_leaves_no_note(first, tmp_path):
    note_rows(tmp_path, first.record, first.tracking, first.candidate.key, 3)
    with completing(first, tmp_path):
        assert len(list_unrecorded(tmp_path)) == 1  # a kill would find it
    assert list_unrecorded(tmp_path) == []


def test_a_record_that_is_not_leaves_a_note_of_what_is_missing_where_it_lies_and_what_to_call(first, tmp_path):
    note_rows(tmp_path, first.record, first.tracking, first.candidate.key, 3)
    with pytest.raises(TunesmithError) as caught, completing(first, tmp_path):
        raise TunesmithError("the server is away.")
    (note,) = list_unrecorded(tmp_path)
    assert (note.num_rows, note.num_files) == (3, 2)
    assert note.num_bytes == sum(path.stat().st_size for path in (first.exported.folder / "model").rglob("*.*"))
    assert note.folders == (first.candidate.uri, first.exported.uri)
    assert str(caught.value) == (
        f"the server is away.\nNot in MLflow yet: candidate {first.candidate.key[:8]} of sentiment: 3 rows of metrics, "
        f"2 files of the model (0.0 MB), its version, kept in {first.candidate.uri} and {first.exported.uri}; "
        "to upload it, while data, recipe and code are as they were: tunesmith run recipe.yaml; "
        f"to let it be: tunesmith models forget {first.candidate.key[:8]}"
    )
    assert caught.value.exit_code == 4


def test_the_next_attempt_does_not_forget_the_rows(first, tmp_path):
    note_rows(tmp_path, first.record, first.tracking, first.candidate.key, 3)
    for _ in range(2):
        with pytest.raises(TunesmithError), completing(first, tmp_path):
            raise TunesmithError("the server is away.")
    assert [note.num_rows for note in list_unrecorded(tmp_path)] == [3]


def test_a_mistake_of_the_user_stays_one(first, tmp_path):
    with pytest.raises(ModelError, match=r"^no such model$"), completing(first, tmp_path):
        raise ModelError("no such model")


def test_a_note_that_nobody_wants_is_dropped_by_the_beginning_of_its_key(first, tmp_path):
    for key in ("ab12", "ab34"):
        note_rows(tmp_path, first.record, first.tracking, key, 3)
    for wrong, what in (("ab", "more than one candidate of that key"), ("cd", "no candidate of that key")):
        with pytest.raises(CallError, match=f"{what} waits to be uploaded; there are ab12, ab34"):
            forget_note(tmp_path, wrong)
    assert forget_note(tmp_path, "ab1").candidate_key == "ab12"
    assert [note.candidate_key for note in list_unrecorded(tmp_path)] == ["ab34"]


def test_a_damaged_note_hides_no_other(first, tmp_path):
    (tmp_path / "a.json").write_text("{")
    note_rows(tmp_path, first.record, first.tracking, first.candidate.key, 1)
    assert len(list_unrecorded(tmp_path)) == 1
