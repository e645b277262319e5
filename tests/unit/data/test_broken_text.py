"""Text that is not Unicode, in rows that the contract refuses."""

import json

import pyarrow.parquet as pq
import pytest

from streamed import Streamed
from tunesmith.data.fetch import fetch
from tunesmith.data.partition import SPLITS
from tunesmith.data.snapshot import take_snapshot
from tunesmith.data.sources import DataConfig
from tunesmith.errors import DataError
from tunesmith.kinds.text_generation import TextGeneration
from tunesmith.store.folder import FolderStore

STORIES = TextGeneration(kind="text-generation", text="text")
ROWS = [{"text": "bad \ud800"}, {"text": "good é"}, {"text": "better é"}]


def contract(fraction):
    return {"columns": {"text": {"type": "text"}}, "max_quarantined_fraction": fraction}


@pytest.fixture
def take(tmp_path):
    """The quarantine and the texts of a snapshot of `ROWS`."""
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    def take_rows(fraction, streaming):
        section = {"sources": [{"files": ["a.jsonl"]}], "contract": contract(fraction)}
        section |= {"streaming": {"sample_rows": 100}} if streaming else {}
        data = DataConfig.model_validate_json(json.dumps(section), context={"folder": tmp_path})
        store = FolderStore(tmp_path / "store")
        taken = take_snapshot(fetch(data, store), data, STORIES, store)
        folder = store.root / "artifacts/quarantine" / taken.facts["quarantine"]["key"]
        return pq.read_table(folder / "rows.parquet"), sorted(taken.rows.read()["text"].to_pylist())

    return take_rows


@pytest.mark.parametrize("streaming", [False, True])
def test_a_row_with_half_a_character_is_in_quarantine_and_can_be_read_back(take, streaming):
    refused, kept = take(0.5, streaming)
    assert kept == ["better é", "good é"]
    assert [json.loads(row) for row in refused["row"].to_pylist()] == ROWS[:1]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_row_with_half_a_character_can_be_shown(take, streaming):
    with pytest.raises(DataError, match=r'text: not text +a\.jsonl:1 +"bad \\ud800"') as caught:
        take(0.0, streaming)
    str(caught.value).encode()


def test_a_stream_that_trains_keeps_it_too(tmp_path, take):
    streamed = Streamed(tmp_path, contract=contract(0.5))
    assert len([row for split in SPLITS for row in streamed.rows(split=split)]) == 2
    [refused] = streamed.open().refused()
    assert json.loads(refused["row"][0].as_py()) == ROWS[0]
