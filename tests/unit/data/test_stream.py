import json
import os

import pyarrow as pa
import pytest
from datasets import IterableDataset
from hypothesis import given, settings
from hypothesis import strategies as st

from streamed import KilledStream, Streamed, write_large
from tunesmith.data.fetch import fetch
from tunesmith.data.partition import SPLITS, cut_fractions
from tunesmith.data.rows import as_fractions, hash_rows
from tunesmith.data.shuffling import Share
from tunesmith.data.snapshot import take_snapshot
from tunesmith.data.split import divide
from tunesmith.data.split_config import SplitConfig
from tunesmith.data.stream import StreamDescription
from tunesmith.errors import DataError
from tunesmith.store.folder import FolderStore


def write_rows(path, first, number, **more):
    numbers = range(first, first + number)
    rows = [{"id": row, "text": f"text {row}", **{name: make(row) for name, make in more.items()}} for row in numbers]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def small_spans(monkeypatch):
    monkeypatch.setattr("tunesmith.data.spans.SPAN_BYTES", 300)


@pytest.fixture
def streamed(tmp_path, small_spans):
    write_rows(tmp_path / "a.jsonl", 0, 200)
    write_rows(tmp_path / "b.jsonl", 200, 200)
    return Streamed(tmp_path)


def test_a_stream_gives_the_rows_that_a_snapshot_has_on_the_sides_where_the_split_stage_puts_them(
    tmp_path, small_spans
):
    csv_rows = "".join(f"{row},text {row % 150},{row / 2}\n" for row in range(200))
    (tmp_path / "a.csv").write_text(f"id,text,n\n{csv_rows}")
    write_rows(tmp_path / "b.jsonl", 1000, 150, n=lambda row: row)
    streamed = Streamed(
        tmp_path,
        {"files": ["a.csv"], "name": "a", "weight": 2.5},
        {"files": ["b.jsonl"], "name": "b", "weight": 0.5},
        transforms=[
            {"map": {"text": ["strip", "lower"]}},
            {"filter": {"column": "id", "none_of": [7]}},
            {"derive": {"into": "both", "template": "{n} {text}"}},
            {"sample": {"fraction": 0.8}},
        ],
        contract={"columns": {"id": {"type": "whole", "max": 1120}}, "max_quarantined_fraction": 0.5},
    )
    data, store = streamed.data, FolderStore(tmp_path / "store")
    snapshot = take_snapshot(fetch(data, store), data, streamed.config.examples, store)
    divided = divide(snapshot.rows, SplitConfig(), streamed.config.examples, data.weights, store.chunks)
    for split, rows in divided.splits.items():
        expected = rows.read().drop_columns(["row_id"])
        found = pa.concat_tables(streamed.open(split=split, shuffle_buffer=30))
        assert found.schema.equals(expected.schema)
        assert sorted(map(repr, found.to_pylist())) == sorted(map(repr, expected.to_pylist()))


@pytest.mark.parametrize("shuffle_buffer", [None, 1, 50, 1000])
def test_every_row_comes_once_an_epoch_on_its_side(streamed, shuffle_buffer):
    found = {split: streamed.rows(split=split, shuffle_buffer=shuffle_buffer) for split in SPLITS}
    assert sorted(row["id"] for rows in found.values() for row in rows) == list(range(400))
    texts = pa.table({"text": [f"text {row}" for row in range(400)]})
    fractions = as_fractions(hash_rows(texts, ["text"], purpose="tunesmith split", num_bytes=8))
    codes = cut_fractions(fractions, 0.1, 0.1)
    for code, split in enumerate(SPLITS):
        assert sorted(row["id"] for row in found[split]) == [row for row in range(400) if codes[row] == code]


def test_each_epoch_has_an_order_of_its_own(streamed):
    stream = streamed.open(shuffle_buffer=50)
    epochs = [[row for table in stream for row in table["id"].to_pylist()] for _ in range(3)]
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert len({tuple(sorted(epoch)) for epoch in epochs}) == 1


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=4),
    st.none() | st.integers(1, 150),
    st.integers(1, 40),
    st.integers(1, 3),
    st.integers(0, 2**64 - 1),
    st.data(),
)
def test_a_stream_that_was_stopped_anywhere_goes_on_as_if_it_had_not(
    tmp_path_factory, sizes, buffer, batch_rows, world_size, seed, data
):
    folder = tmp_path_factory.mktemp("any")
    for index, size in enumerate(sizes):
        write_rows(folder / f"{index}.jsonl", sum(sizes[:index]), size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tunesmith.data.spans.SPAN_BYTES", data.draw(st.integers(60, 600)))
        streamed = Streamed(folder)
        description = streamed.describe()
    seen = []
    for rank in range(world_size):
        order = {"shuffle_buffer": buffer, "seed": seed, "share": Share(rank, world_size)}
        stream, whole, states = streamed.open(description, batch_rows, **order), [], []
        states.append(json.dumps(stream.state()))
        for _ in range(2):
            for table in stream:
                whole.append(table["id"].to_pylist())
                states.append(json.dumps(stream.state()))
        stop = data.draw(st.integers(0, len(whole)))
        resumed = streamed.open(description, batch_rows, **order)
        resumed.resume(json.loads(states[stop]))
        rest = [table["id"].to_pylist() for _ in range(2) for table in resumed if resumed.state()["epoch"] < 2]
        assert rest[: len(whole) - stop] == whole[stop:]
        seen += [row for rows in whole for row in rows]
    ids = {row["id"] for row in streamed.rows(description)}
    assert sorted(seen) == sorted([*ids, *ids])


def test_processes_that_share_a_stream_read_every_row_once(streamed):
    description = streamed.describe()
    shares = [streamed.rows(description, shuffle_buffer=20, share=Share(rank, 3)) for rank in range(3)]
    assert sorted(row["id"] for rows in shares for row in rows) == [row["id"] for row in streamed.rows(description)]
    assert all(80 < len(rows) < 140 for rows in shares)


def test_a_stream_that_is_killed_three_times_gives_the_rows_of_one_that_is_not(tmp_path):
    large = write_large(tmp_path / "large.jsonl", 20 * 2**20)
    streams = []
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        os.link(large, tmp_path / name / large.name)
        streams.append(KilledStream(Streamed(tmp_path / name, sampled=500), shuffle_buffer=500, seed=7))
    whole, killed = streams
    expected, facts = whole.finish()
    for share in (0.2, 0.5, 0.9):
        killed.kill_at(share * whole.log.stat().st_size)
    assert killed.finish()[0] == expected
    rows = whole.log.read_text().split()
    assert len(rows) == len(set(rows)) == facts["num_rows"]


def test_transforms_and_the_contract_are_applied_and_refused_rows_are_kept_once(tmp_path, small_spans):
    write_rows(tmp_path / "a.jsonl", 0, 300, label=lambda row: "odd" if row % 10 == 3 else ["a", "b"][row % 2])
    streamed = Streamed(
        tmp_path,
        transforms=[{"filter": {"column": "text", "none_of": ["text 0"]}}, {"rename": {"label": "class"}}],
        contract={"columns": {"class": {"type": "text", "allowed": ["a", "b"]}}, "max_quarantined_fraction": 0.2},
    )
    stream = streamed.open(shuffle_buffer=40, batch_rows=10)
    rows = []
    for table in stream:
        rows += table.to_pylist()
        if len(rows) > 100:
            break
    state = stream.state()
    resumed = streamed.open(shuffle_buffer=40, batch_rows=10)
    resumed.resume(state)
    rows += [row for _ in range(2) for table in resumed for row in table.to_pylist()]
    assert {row["class"] for row in rows} == {"a", "b"}
    kept = pa.concat_tables(resumed.refused()).to_pylist()
    assert [row["line"] for row in kept] == list(range(4, 301, 10))
    assert kept[0]["file"] == "a.jsonl"
    assert kept[0]["reasons"] == 'class: "odd" is not among a, b'
    assert json.loads(kept[0]["row"]) == {"id": 3, "text": "text 3", "class": "odd"}


def test_counts_of_refused_rows_go_on_after_a_resume(tmp_path, small_spans):
    write_rows(tmp_path / "a.jsonl", 0, 300)
    contract = {"columns": {"id": {"type": "whole", "max": 200}}, "max_quarantined_fraction": 0.2}
    streamed = Streamed(tmp_path, contract=contract)
    stream = streamed.open(batch_rows=10)
    tables = iter(stream)
    states = [stream.state() for _ in range(15) if next(tables)]
    resumed = streamed.open(batch_rows=10)
    resumed.resume(states[-1])
    message = r"refuses 99 of the first 300 rows of the stream, 33.00% .* allows 20.00%. They are kept .*quarantine"
    for unfinished in (tables, resumed):
        with pytest.raises(DataError, match=message):
            list(unfinished)


def test_a_contract_that_allows_no_refused_row_stops_at_the_first_with_a_table(tmp_path):
    write_rows(tmp_path / "a.jsonl", 0, 50)
    streamed = Streamed(tmp_path, contract={"columns": {"id": {"type": "whole", "max": 48}}})
    with pytest.raises(DataError, match=r"(?s)refuses 1 of the first 50 rows.*a.jsonl:50 +49"):
        streamed.rows()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"transforms": [{"take": 3}]}, r"data.transforms\[0\] take: .*Use `sample` with `fraction`, or set train"),
        ({"transforms": [{"drop_duplicates": ["text"]}]}, "drop_duplicates: looks at all rows"),
        ({"transforms": [{"sample": {"num_rows": 3}}]}, "sample.num_rows: .*Use `sample` with `fraction`"),
        ({"transforms": [{"shuffle": {}}]}, "shuffle: .*data.streaming.shuffle_buffer shuffles"),
        ({"contract": {"columns": {"id": {"type": "whole", "unique": True}}}}, "columns.id.unique: looks at all rows"),
        ({"contract": {"columns": {"name": {"type": "text"}}}}, "contract: column 'name' is not there"),
        ({"transforms": [{"rename": {"id": "row_id"}}]}, r"a.jsonl:1: the name 'row_id' is taken"),
        ({"split": SplitConfig(stratify="id")}, "split.stratify: not with data.streaming"),
    ],
)
def test_what_looks_at_all_rows_is_refused_with_what_to_do_instead(section, message, tmp_path):
    write_rows(tmp_path / "a.jsonl", 0, 20)
    with pytest.raises(DataError, match=message):
        Streamed(tmp_path, **section).describe()


def test_a_value_that_the_first_rows_did_not_promise_stops_the_stream_with_its_place(tmp_path):
    write_rows(tmp_path / "a.jsonl", 0, 50, n=lambda row: row if row < 30 else "many")
    message = r'a.jsonl:31: column \'n\' holds "many", but whole numbers in the first 20 rows .*contract.columns.n'
    with pytest.raises(DataError, match=message):
        Streamed(tmp_path, sampled=20).rows()


def test_first_rows_that_mix_types_are_refused_with_a_place_of_each(tmp_path):
    write_rows(tmp_path / "a.jsonl", 0, 30, n=lambda row: row if row < 20 else "many")
    with pytest.raises(DataError, match=r"column 'n' mixes types \(whole number in a.jsonl:1: 0; text in a.jsonl:21"):
        Streamed(tmp_path).describe()


def test_a_column_that_the_first_rows_do_not_have_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a", "id": 1}\n' * 5 + '{"text": "a", "ld": 1}\n')
    with pytest.raises(DataError, match=r"a.jsonl:6: column 'ld' holds 1, but no value in the first 5 rows"):
        Streamed(tmp_path, sampled=5).rows()
    rows = Streamed(tmp_path, sampled=5, transforms=[{"select_columns": ["text"]}])
    assert rows.rows(split="train") + rows.rows(split="validation") + rows.rows(split="test") == [{"text": "a"}] * 6
    (tmp_path / "a.jsonl").write_text('{"text": "a", "id": 1}\n' * 5)
    (tmp_path / "b.jsonl").write_text('{"text": "a", "ids": 1}\n')
    with pytest.raises(DataError, match=r"b.jsonl:1: column 'ids' is in none of the first 5 rows.* Did you mean id?"):
        Streamed(tmp_path, sampled=5).rows()


def test_the_contract_decides_types_and_what_does_not_fit_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("id,text\n007,1\n8,2\nx,3\n9,four\n" + "10,5\n" * 6)
    contract = {"columns": {"id": {"type": "text"}, "n": {"type": "whole"}}, "max_quarantined_fraction": 0.5}
    streamed = Streamed(
        tmp_path,
        {"files": ["*.csv"]},
        sampled=2,
        transforms=[{"rename": {"text": "n"}}, {"derive": {"into": "text", "template": "{id}"}}],
        contract=contract,
    )
    rows = [row for split in SPLITS for row in streamed.rows(split=split)]
    assert sorted(row["id"] for row in rows) == ["007", *["10"] * 6, "8", "x"]
    assert {type(row["n"]) for row in rows} == {int}
    assert [table["line"].to_pylist() for table in streamed.open().refused()] == [[5]]


def test_rows_of_several_sources_are_named_and_weighed(tmp_path):
    write_rows(tmp_path / "a.jsonl", 0, 100)
    write_rows(tmp_path / "b.jsonl", 100, 100)
    sources = [{"files": ["a.jsonl"], "name": "a", "weight": 3}, {"files": ["b.jsonl"], "name": "b", "weight": 0.5}]
    streamed = Streamed(tmp_path, *sources)
    rows = [row["source_name"] for row in streamed.rows(shuffle_buffer=10)]
    plain = [row["id"] for row in Streamed(tmp_path).rows()]
    assert rows.count("a") == 3 * sum(row < 100 for row in plain)
    assert 20 < rows.count("b") < 60


def test_weights_want_the_name_of_each_row_s_source_in_a_stream_too(tmp_path):
    write_rows(tmp_path / "a.jsonl", 0, 100)
    write_rows(tmp_path / "b.jsonl", 100, 100)
    sources = [{"files": ["a.jsonl"], "name": "a", "weight": 3}, {"files": ["b.jsonl"], "name": "b"}]
    streamed = Streamed(tmp_path, *sources, transforms=[{"select_columns": ["text"]}])
    with pytest.raises(DataError, match=r"transforms have dropped the column 'source_name'\. Keep it"):
        streamed.rows()


def test_a_file_that_has_changed_is_named_and_one_that_was_only_touched_is_not(streamed):
    description = streamed.describe()
    (streamed.folder / "a.jsonl").touch()
    assert streamed.rows(description)
    (streamed.folder / "b.jsonl").write_text('{"id": 1, "text": "other"}\n')
    with pytest.raises(DataError, match=r"b.jsonl: the file has changed since the stream was described: its sha256"):
        streamed.open(description)


def test_a_file_that_changes_while_it_is_streamed_is_named(streamed):
    tables = iter(streamed.open())
    next(tables)
    (streamed.folder / "b.jsonl").write_text('{"id": 1, "text": "other"}\n')
    with pytest.raises(DataError, match=r"b.jsonl: the file has changed"):
        list(tables)


@pytest.mark.parametrize("other", [{"seed": 1}, {"shuffle_buffer": 9}, {"split": "test"}, {"share": Share(0, 2)}])
def test_a_state_of_another_order_is_refused(streamed, other):
    state = json.loads(json.dumps(streamed.open(shuffle_buffer=5).state()))
    with pytest.raises(DataError, match=f"taken with another {next(iter(other))}"):
        streamed.open(**{"shuffle_buffer": 5, **other}).resume(state)


def test_a_state_of_other_rows_is_refused(streamed):
    state = streamed.open().state()
    write_rows(streamed.folder / "c.jsonl", 0, 3)
    with pytest.raises(DataError, match="taken with another recipe or other files"):
        streamed.open().resume(state)


def test_a_description_goes_through_a_file_and_is_named_by_what_the_rows_are(streamed, tmp_path):
    description = streamed.describe()
    description.write(tmp_path / "stream.json")
    assert StreamDescription.read(tmp_path / "stream.json", streamed.files) == description
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        (streamed.folder / name).rename(moved / name)
    assert Streamed(moved).describe().key == description.key


def test_a_state_is_small(streamed):
    stream = streamed.open(shuffle_buffer=100)
    for _ in stream:
        assert len(json.dumps(stream.state())) < 400


def test_the_shuffle_buffer_of_datasets_does_not_resume_exactly():
    """Why we have our own; the day this fails, an upgrade has mended it."""

    def build():
        return IterableDataset.from_generator(lambda: ({"id": row} for row in range(200))).shuffle(42, buffer_size=20)

    whole, dataset = [row["id"] for row in build()], build()
    rows = iter(dataset)
    for _ in range(100):
        next(rows)
    resumed = build()
    resumed.load_state_dict(dataset.state_dict())
    assert [row["id"] for row in resumed] != whole[100:]
