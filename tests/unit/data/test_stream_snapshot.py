"""The snapshot of a stream: an index of all of it, and a sample."""

from __future__ import annotations

import json

import pytest

from tunesmith.data import stream_snapshot
from tunesmith.data.chunked import ChunkedRows, compose
from tunesmith.data.fetch import fetch
from tunesmith.data.files import SourceFile
from tunesmith.data.snapshot import derive_snapshot, snapshot, take_snapshot
from tunesmith.data.sources import DataConfig
from tunesmith.data.split import split
from tunesmith.data.split_config import SplitConfig
from tunesmith.data.stream import RowStream, StreamOrder
from tunesmith.data.stream_rows import StreamConfig
from tunesmith.data.stream_snapshot import STREAM, open_description
from tunesmith.errors import DataError
from tunesmith.kinds.text_classification import TextClassification
from tunesmith.store.folder import FolderStore

EXAMPLES = TextClassification(kind="text-classification", text="text", label="label", labels=("bad", "good"))


class Project:
    """A file of rows in a folder, and a store."""

    def __init__(self, folder):
        self.folder, self.store = folder, FolderStore(folder / "store")

    def write(self, num_rows, name="rows.jsonl"):
        rows = [{"text": f"row {number}", "label": ("bad", "good")[number % 2]} for number in range(num_rows)]
        (self.folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {row["text"] for row in rows}

    def data(self, sample_rows=None, name="rows.jsonl", shuffle_buffer=100, **options):
        streaming = {"sample_rows": sample_rows, "shuffle_buffer": shuffle_buffer}
        section = {"sources": [{"files": [name]}], **options} | ({"streaming": streaming} if sample_rows else {})
        return DataConfig.model_validate_json(json.dumps(section), context={"folder": self.folder})

    def snapshot(self, data):
        return snapshot(fetch(data, self.store), data, EXAMPLES, self.store)


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def read_texts(rows):
    return rows.read(["text"])["text"].to_pylist()


def test_the_snapshot_of_a_stream_is_a_bounded_sample_out_of_all_of_it_and_an_index(project):
    texts = project.write(20_000)
    data = project.data(500)
    ref = project.snapshot(data)
    found = read_texts(ChunkedRows.open(ref.folder))
    assert len(found) == len(set(found)) == ref.facts["num_rows"] == 500
    assert set(found) < texts
    places = [int(text.split()[1]) for text in found]
    assert max(places) - min(places) > 1000
    assert ref.facts["streaming"]["num_lines"] == 20_000
    assert str(project.folder) not in (ref.folder / STREAM).read_text()
    assert (ref.folder / "profile.json").exists()


def test_a_stream_that_is_smaller_than_the_sample_is_in_it_whole(project):
    texts = project.write(300)
    ref = project.snapshot(project.data(1000))
    assert sorted(read_texts(ChunkedRows.open(ref.folder))) == sorted(texts)
    assert ref.facts["rows_in"] == 300
    assert ref.facts["dropped"] == {}


def split_in_two(batch):
    rows = [row for row in range(len(batch["text"])) for _ in range(2)]
    return {"_row": rows, **{name: [values[row] for row in rows] for name, values in batch.items()}}


def test_each_transform_of_a_stream_is_booked_with_its_reasons_as_without_a_stream(project):
    lines = [{"text": "x" * (number % 7), "label": ("bad", "good", None)[number % 3]} for number in range(2100)]
    (project.folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    transforms = [
        {"rename": {"label": "sentiment"}},
        {"filter": {"column": "text", "characters": {"min": 2}}},
        {"function": {"path": f"{__name__}:split_in_two", "batched": True}},
        {"drop_null": ["sentiment"]},
        {"rename": {"sentiment": "label"}},
    ]
    streamed = project.snapshot(project.data(10_000, transforms=transforms)).facts
    whole = project.snapshot(project.data(transforms=transforms)).facts
    assert streamed["steps"][1:-2] == whole["steps"][1:]
    assert streamed["dropped"] == whole["dropped"] == {"text shorter than 2 characters": 600, "no sentiment": 1000}
    assert streamed["steps"][-2:] == [
        {"step": "contract", "rows_in": 2000, "rows_out": 2000, "dropped": {}},
        {"step": "sample", "rows_in": 2000, "rows_out": 2000, "dropped": {}},
    ]


def test_the_same_stream_is_found_again_wherever_its_files_lie_and_another_buffer_is_no_other_snapshot(project):
    project.write(3000)
    ref = project.snapshot(project.data(200))
    assert project.snapshot(project.data(200)).is_cached
    assert project.snapshot(project.data(200, shuffle_buffer=7)).is_cached
    (project.folder / "rows.jsonl").rename(project.folder / "others.jsonl")
    assert project.snapshot(project.data(200, name="others.jsonl")).key == ref.key
    assert project.snapshot(project.data(201, name="others.jsonl")).key != ref.key


def test_a_row_beyond_the_sample_is_another_snapshot(project):
    project.write(3000)
    ref = project.snapshot(project.data(200))
    with (project.folder / "rows.jsonl").open("a") as file:
        file.write(json.dumps({"text": "one more", "label": "bad"}) + "\n")
    assert project.snapshot(project.data(200)).key != ref.key


def test_a_file_that_moves_to_another_source_is_of_that_source(project):
    for name in ("a.jsonl", "b.jsonl", "c.jsonl"):
        project.write(10, name)
    found, streams = [], []
    for files in (["a.jsonl", "b.jsonl"], ["c.jsonl"]), (["a.jsonl"], ["b.jsonl", "c.jsonl"]):
        sources = [{"files": names, "name": name} for names, name in zip(files, ("train", "test"), strict=True)]
        ref = project.snapshot(project.data(100, sources=sources))
        found.append(ChunkedRows.open(ref.folder).read()["source_name"].to_pylist().count("train"))
        streams.append(ref.facts["streaming"]["key"])
    assert found == [20, 10]
    assert len({*streams}) == 2


def test_chunks_are_cut_out_of_the_sample_without_a_copy_of_it(project, monkeypatch, count_allocated):
    project.write(30_000)
    allocated, taken = [], []

    def watch(hashes, schema, gather, cache):
        def watched(places):
            allocated.append(count_allocated(lambda: taken.append(gather(places))))
            return taken[-1]

        return compose(hashes, schema, watched, cache)

    monkeypatch.setattr(stream_snapshot, "compose", watch)
    project.snapshot(project.data(30_000))
    assert len(taken) > 3
    assert sum(allocated) < sum(table.nbytes for table in taken) / 100


def test_what_would_be_taken_has_the_key_of_what_is_published(project):
    project.write(3000)
    data = project.data(200)
    fetched = fetch(data, project.store)
    assert take_snapshot(fetched, data, EXAMPLES, project.store).key == project.snapshot(data).key


def test_a_recipe_without_streaming_keeps_its_ingredients(project):
    project.write(30)
    data = project.data()
    derived = derive_snapshot(fetch(data, project.store), data, EXAMPLES, project.store)
    assert "streaming" not in derived.ingredients["config"]["data"]
    assert not [module for module in derived.ingredients["code"] if "stream" in module]
    assert project.snapshot(data).facts.keys().isdisjoint({"streaming"})


def test_the_split_of_a_sample_puts_its_rows_where_the_stream_puts_them(project):
    project.write(4000)
    data, config = project.data(1000), SplitConfig(seed=3)
    ref = project.snapshot(data)
    splits = split(ref, config, EXAMPLES, data.weights, project.store)
    fetched = [SourceFile.from_json(file) for file in fetch(data, project.store).facts["files"]]
    streamed = StreamConfig(data, EXAMPLES, config)
    description = open_description(ref.folder, fetched, streamed)
    for name in ("train", "validation", "test"):
        rows = RowStream(description, streamed, StreamOrder(split=name), project.folder / "quarantine")
        texts = {text for table in rows for text in table["text"].to_pylist()}
        assert set(read_texts(ChunkedRows.open(splits.folder, name))) <= texts


def test_rows_of_the_sample_that_break_the_contract_are_in_quarantine_or_stop_it(project):
    project.write(100)
    with (project.folder / "rows.jsonl").open("a") as file:
        file.write(json.dumps({"text": "x" * 50, "label": "bad"}) + "\n")
    contract = {
        "columns": {"text": {"type": "text", "max_length": 20}, "label": {"type": "text"}},
        "max_quarantined_fraction": 0.02,
    }
    facts = project.snapshot(project.data(1000, contract=contract)).facts
    assert facts["quarantine"]["num_rows"] == facts["dropped"]["quarantined"] == 1
    assert facts["num_rows"] == 100
    with pytest.raises(DataError, match=r"contract: 1 of 101 rows"):
        project.snapshot(project.data(1000, contract=contract | {"max_quarantined_fraction": 0.0}))
