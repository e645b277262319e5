import gzip
import json
import logging
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data.chunked import ChunkedRows
from tunesmith.data.fetch import fetch
from tunesmith.data.snapshot import derive_snapshot, snapshot, take_snapshot
from tunesmith.data.sources import DataConfig, StreamingConfig
from tunesmith.errors import DataError
from tunesmith.kinds.text_classification import TextClassification
from tunesmith.kinds.text_generation import TextGeneration
from tunesmith.store.derivation import describe_difference
from tunesmith.store.folder import FolderStore

REVIEWS = TextClassification(kind="text-classification", text="text", label="label")
STORIES = TextGeneration(kind="text-generation", text="text")

ROWS = [
    {"text": 'good, "very"\ngood', "label": "pos", "stars": 5, "share": 0.5, "seen": True, "note": None},
    {"text": "bad é", "label": "neg", "stars": 1, "share": 1.0, "seen": False, "note": "x"},
    {"text": "so-so", "label": "neg", "stars": None, "share": 1e-7, "seen": True, "note": ""},
]


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path / "store")


@pytest.fixture
def config(tmp_path):
    """A data section as a recipe in `tmp_path` would give it, with one source."""

    def build(*files, transforms=(), contract=None, **options):
        section = {"sources": [{"files": files, **options}], "transforms": transforms, "contract": contract}
        return DataConfig.model_validate_json(json.dumps(section), context={"folder": tmp_path})

    return build


def derive(data, examples, store):
    return derive_snapshot(fetch(data, store), data, examples, store)


def take(data, examples, store):
    """The key, the facts and all rows of a snapshot that is not published."""
    taken = take_snapshot(fetch(data, store), data, examples, store)
    return taken.rows.key, taken.facts, taken.rows.read()


def write_csv(path, rows):
    """As an ordinary program writes it, with `\\N` for null."""

    def field(value):
        text = r"\N" if value is None else json.dumps(value) if isinstance(value, bool) else str(value)
        return '"' + text.replace('"', '""') + '"'

    lines = [",".join(rows[0]), *(",".join(field(row[name]) for name in rows[0]) for row in rows)]
    path.write_text("\r\n".join(lines), encoding="utf-8", newline="")


def write_all(folder, rows):
    """The same rows in every format; gives the data sections that read them."""
    write_csv(folder / "rows.csv", rows)
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    lines = "".join(json.dumps(dict(reversed(row.items()))) + "\n" for row in rows)
    (folder / "other.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (folder / "list.json").write_text(json.dumps({"data": rows}))
    with pa.OSFile(str(folder / "rows.arrow"), "wb") as file:
        table = pa.Table.from_pylist(rows)
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    sources = [
        {"files": ["rows.csv"], "null_values": [r"\N"]},
        {"files": ["rows.parquet"]},
        {"files": ["other.jsonl.gz"]},
        {"files": ["list.json"], "field": "data"},
        {"files": ["rows.arrow"]},
    ]
    sections = [json.dumps({"sources": [source]}) for source in sources]
    return [DataConfig.model_validate_json(section, context={"folder": folder}) for section in sections]


def test_the_same_rows_have_one_key_in_every_format_and_at_every_path(tmp_path, store):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    sections = write_all(tmp_path / "a", ROWS) + write_all(tmp_path / "b", ROWS)
    assert len({take(section, REVIEWS, store)[0] for section in sections}) == 1


@pytest.mark.parametrize(
    ("column", "value"), [("text", "bad e"), ("stars", 2), ("share", 0.25), ("seen", True), ("note", None)]
)
def test_one_changed_cell_is_another_key(tmp_path, column, value, store):
    keys = []
    for rows in (ROWS, [ROWS[0], {**ROWS[1], column: value}, ROWS[2]]):
        keys += [take(section, REVIEWS, store)[0] for section in write_all(tmp_path, rows)]
    assert len(set(keys)) == 2
    assert len(set(keys[:5])) == 1


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8).filter(lambda text: text != r"\N")
values = {
    "label": st.one_of(st.none(), texts),
    "number": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
    "share": st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
    "seen": st.one_of(st.none(), st.booleans()),
}
tables = st.lists(st.fixed_dictionaries({"text": texts.map(lambda text: f"t{text}"), **values}), min_size=1, max_size=5)


@given(tables)
@settings(max_examples=30, deadline=None)
def test_any_rows_have_one_key_in_every_format(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("rows")
    sections, store = write_all(folder, rows), FolderStore(folder / "store")
    assert len({take(section, STORIES, store)[0] for section in sections}) == 1


def test_the_rows_are_published_under_their_content_and_found_again(tmp_path, store):
    sections = write_all(tmp_path, ROWS)
    refs = [snapshot(fetch(section, store), section, REVIEWS, store) for section in sections]
    assert {ref.key for ref in refs} == {take(sections[0], REVIEWS, store)[0]}
    assert len(list((tmp_path / "store/artifacts/snapshot").iterdir())) == 1
    assert ChunkedRows.open(refs[0].folder).read().to_pylist()[1] == dict(sorted(ROWS[1].items()))
    assert refs[0].facts == {
        "num_rows": 3,
        "rows_in": 3,
        "dropped": {},
        "steps": [{"step": "read", "rows_in": 3, "rows_out": 3, "dropped": {}}],
        "quarantine": {"key": None, "num_rows": 0, "reasons": {}},
        "assumed": refs[0].facts["assumed"],
        "label_columns": ["label"],
        "columns": {
            "label": "string", "note": "string", "seen": "bool", "share": "double", "stars": "int64", "text": "string",
        },
        "digest": refs[0].facts["digest"],
        "files": [{"name": "rows.csv", "rows": 3}],
    }  # fmt: skip
    assert refs[0].facts["digest"].startswith(refs[0].key)
    assert len(refs[0].facts["digest"]) == 64
    assert refs[1].facts["files"] == [{"name": "rows.parquet", "rows": 3}]
    assert snapshot(fetch(sections[2], store), sections[2], REVIEWS, store).is_cached


def test_every_row_is_accounted_for(tmp_path, config, store, caplog):
    (tmp_path / "a.csv").write_text("text,label\na,1\n\na,1\n,2\nb,2\nc,1\n")
    data = config(
        "a.csv",
        null_values=[""],
        transforms=[{"drop_duplicates": ["text"]}, {"drop_null": ["text"]}, {"take": 2}],
    )
    with caplog.at_level(logging.INFO, "tunesmith"):
        _, facts, table = take(data, REVIEWS, store)
    assert table["text"].to_pylist() == ["a", "b"]
    assert facts["dropped"] == {"duplicate text": 1, "no text": 1, "beyond the first 2": 1, "blank line": 1}
    assert facts["rows_in"] == 6 == facts["num_rows"] + sum(facts["dropped"].values())
    assert caplog.messages[-1:] == [
        "snapshot: 6 rows read from 1 file, 2 kept, "
        "dropped: 1 blank line, 1 duplicate text, 1 no text, 1 beyond the first 2"
    ]


def test_the_derivation_is_the_same_at_another_path_and_says_what_changed(tmp_path, config, store):
    (tmp_path / "a.csv").write_text("text,label\na,1\nb,2\n")
    before = derive(config("a.csv"), REVIEWS, store)
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(tmp_path / "a.csv", tmp_path / "elsewhere")
    assert derive(config("elsewhere/a.csv"), REVIEWS, store).key == before.key
    (tmp_path / "a.csv").write_text("text,label\na,1\nb,3\n")
    edited = derive(config("a.csv"), REVIEWS, store)
    assert describe_difference(before.ingredients, edited.ingredients) == ["a.csv changed"]
    option = derive(config("elsewhere/a.csv", null_values=["b"]), REVIEWS, store)
    assert describe_difference(before.ingredients, option.ingredients) == ["data.sources.0.null_values: [] -> ['b']"]


def test_the_order_of_files_of_one_name_counts(tmp_path, config, store):
    for folder, text in (("a", "one"), ("b", "two")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "rows.csv").write_text(f"text,label\n{text},{text}\n")
    orders = config("a/rows.csv", "b/rows.csv"), config("b/rows.csv", "a/rows.csv")
    assert len({derive(data, REVIEWS, store).key for data in orders}) == 2
    assert len({take(data, REVIEWS, store)[0] for data in orders}) == 2


def test_an_edited_function_is_another_derivation(tmp_path, config, store):
    (tmp_path / "a.csv").write_text("text,label\na,1\nb,2\n")
    data = config("a.csv", transforms=[{"function": {"path": "cleaning:fix"}}])
    (tmp_path / "cleaning.py").write_text("def fix(row): return row")
    before = derive(data, REVIEWS, store)
    (tmp_path / "cleaning.py").write_text("def fix(row): return {**row, 'text': row['text'] * 2}")
    after = derive(data, REVIEWS, store)
    assert describe_difference(before.ingredients, after.ingredients) == ["function cleaning:fix changed"]
    assert take(data, REVIEWS, store)[2]["text"].to_pylist() == ["aa", "bb"]


def test_lists_may_be_left_out_or_turned_into_text(tmp_path, config, store):
    (tmp_path / "a.jsonl").write_text('{"text": "a", "words": ["a", "b"]}\n{"text": "b", "words": ["c"]}\n')
    with pytest.raises(DataError, match=r"a\.jsonl:1: column 'words' holds a list"):
        take(config("a.jsonl"), STORIES, store)
    left = take(config("a.jsonl", transforms=[{"select_columns": ["text"]}]), STORIES, store)[2]
    assert left.column_names == ["text"]
    (tmp_path / "joining.py").write_text("def join(row): return {'text': ' '.join(row['words'])}")
    joined = take(config("a.jsonl", transforms=[{"function": {"path": "joining:join"}}]), STORIES, store)[2]
    assert joined.to_pydict() == {"text": ["a b", "c"]}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            ['{"text": "a", "label": 1}', '{"text": "b", "label": "x"}'],
            r"mixes types .*a\.jsonl:1: 1; text in a\.jsonl:2",
        ),
        (['{"text": "a"}', '{"text": "b", "label": 9223372036854775808}'], r"a\.jsonl:2: column 'label'.*64 bits"),
        (['{"text": "a", "label": 1, "row_id": 7}'], r"a\.jsonl: the name 'row_id' is taken.*rename"),
        (['{"text": "a", "label": 1}', '{"text": "b"}'], r"a\.jsonl:2: no value in column 'label'"),
        (['{"text": 1, "label": 1}', '{"text": 2, "label": 2}'], r"a\.jsonl:1: column 'text' holds whole numbers"),
        (['{"text": "a", "label": 1}'], "single class"),
        (['{"txt": "a", "label": 1}'], "'text'.*columns present: 'label', 'txt'.*'txt'"),
    ],
)
def test_rows_that_cannot_be_used_are_refused_with_their_line(tmp_path, config, store, lines, expected):
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match=expected):
        take(config("a.jsonl"), REVIEWS, store)


def test_the_line_of_a_refused_row_is_right_after_transforms(tmp_path, config, store):
    (tmp_path / "a.csv").write_text('text,label\n"a\n2",1\na,1\nb,\nc,2\n')
    transforms = [{"drop_duplicates": ["label"]}, {"shuffle": {"seed": 3}}]
    with pytest.raises(DataError, match=r"a\.csv:5: no value in column 'label'"):
        take(config("a.csv", null_values=[""], transforms=transforms), REVIEWS, store)


def test_a_missing_file_is_refused_before_anything_is_read(config, store):
    with pytest.raises(DataError, match="no such file"):
        derive(config("a.csv"), REVIEWS, store)


def write_numbered(path, numbers):
    path.write_text("text,label\n" + "".join(f"text {number} of many,{number % 2}\n" for number in numbers))


def files_of(ref):
    return {path.name: path.read_bytes() for path in ref.folder.iterdir() if path.name != "manifest.json"}


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: [*rows, *range(90_000, 90_300)],
        lambda rows: [*rows[:15_000], 90_000, *rows[15_000:]],
        lambda rows: [*rows[:15_000], *rows[15_001:]],
        lambda rows: [*rows[:15_000], 90_000, *rows[15_001:]],
    ],
    ids=["appended", "inserted", "deleted", "changed"],
)
def test_a_small_change_reads_and_writes_little_and_gives_the_bytes_of_a_full_run(tmp_path, store, config, change):
    rows = list(range(30_000))
    write_numbered(tmp_path / "a.csv", rows)
    data = config("a.csv", transforms=[{"map": {"text": ["strip"]}}])
    snapshot(fetch(data, store), data, REVIEWS, store)
    before = {path for path in (tmp_path / "store/chunks").rglob("*") if path.suffix != ".json"}
    write_numbered(tmp_path / "a.csv", change(rows))
    ref = snapshot(fetch(data, store), data, REVIEWS, store)
    made = [path for path in (tmp_path / "store/chunks").rglob("*.parquet") if path not in before]
    assert 0 < sum(pq.read_metadata(path).num_rows for path in made) < 12_000
    full = FolderStore(tmp_path / "other")
    assert files_of(snapshot(fetch(data, full), data, REVIEWS, full)) == files_of(ref)


def test_a_file_that_was_read_before_is_not_opened_again(tmp_path, store, config):
    write_numbered(tmp_path / "a.csv", range(1000))
    data = config("a.csv")
    fetched = fetch(data, store)
    before = take_snapshot(fetched, data, REVIEWS, store)
    (tmp_path / "a.csv").unlink()
    assert take_snapshot(fetched, data, REVIEWS, store).rows.digest == before.rows.digest


def test_damaged_chunks_are_made_again_from_what_they_came_from(tmp_path, store, config):
    write_numbered(tmp_path / "a.csv", range(3000))
    data = config("a.csv", transforms=[{"map": {"text": ["strip"]}}])
    key, _, rows = take(data, REVIEWS, store)
    for path in (tmp_path / "store/chunks").rglob("*"):
        if path.is_file() and path.suffix != ".json":
            path.write_bytes(b"damaged")
    again = take(data, REVIEWS, store)
    assert (again[0], again[2].equals(rows)) == (key, True)
    assert list((tmp_path / "store/damaged").iterdir())


def test_rows_of_several_sources_say_where_they_come_from(tmp_path, store):
    write_numbered(tmp_path / "a.csv", range(3))
    (tmp_path / "b.jsonl").write_text('{"text": "other", "label": 1}\n')
    sources = [{"files": ["a.csv"], "name": "shop"}, {"files": ["b.jsonl"], "name": "web", "weight": 2.0}]
    data = DataConfig.model_validate_json(json.dumps({"sources": sources}), context={"folder": tmp_path})
    _, facts, rows = take(data, REVIEWS, store)
    assert rows["source_name"].to_pylist() == ["shop"] * 3 + ["web"]
    assert facts["files"] == [{"name": "a.csv", "rows": 3}, {"name": "b.jsonl", "rows": 1}]
    assert data.weights == {"shop": 1.0, "web": 2.0}


def test_a_file_that_moves_to_another_source_is_of_that_source(tmp_path, store):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.jsonl").write_text(
            f'{{"text": "{name}", "label": 1}}\n{{"text": "{name}2", "label": 0}}\n'
        )
    found = []
    for files in (["a.jsonl", "b.jsonl"], ["c.jsonl"]), (["a.jsonl"], ["b.jsonl", "c.jsonl"]):
        sources = [{"files": names, "name": name} for names, name in zip(files, ("train", "test"), strict=True)]
        data = DataConfig.model_validate_json(json.dumps({"sources": sources}), context={"folder": tmp_path})
        ref = snapshot(fetch(data, store), data, REVIEWS, store)
        found.append(ChunkedRows.open(ref.folder).read()["source_name"].to_pylist())
    assert found == [["train"] * 4 + ["test"] * 2, ["train"] * 2 + ["test"] * 4]


CONTRACT = {"columns": {"label": {"type": "whole", "allowed": [0, 1]}}, "max_quarantined_fraction": 0.5}


def test_a_row_that_breaks_the_contract_is_in_quarantine_and_the_rest_is_typed_without_it(tmp_path, store, config):
    (tmp_path / "a.csv").write_text("text,label\na,1\nb,none\nc,0\nd,7\n")
    _, facts, rows = take(config("a.csv", contract=CONTRACT), REVIEWS, store)
    assert rows.to_pydict() == {"label": [1, 0], "text": ["a", "c"]}
    assert facts["dropped"] == {"quarantined": 2}
    assert facts["quarantine"]["num_rows"] == 2
    kept = pq.read_table(store.root / "artifacts/quarantine" / facts["quarantine"]["key"] / "rows.parquet")
    assert kept.select(["file", "line", "row"]).to_pylist() == [
        {"file": "a.csv", "line": 3, "row": '{"text": "b", "label": "none"}'},
        {"file": "a.csv", "line": 5, "row": '{"text": "d", "label": "7"}'},
    ]


def test_too_many_breaches_stop_the_run_with_a_table_and_lose_nothing(tmp_path, store, config):
    (tmp_path / "a.csv").write_text("text,label\na,1\nb,none\nc,0\nd,7\ne,8\n")
    with pytest.raises(DataError, match=r"3 of 5 rows .*break it.*\n.*\n.*a\.csv:3"):
        take(config("a.csv", contract=CONTRACT), REVIEWS, store)
    [kept] = (store.root / "artifacts/quarantine").iterdir()
    assert pq.read_table(kept / "rows.parquet").num_rows == 3


def test_what_the_contract_calls_text_stays_as_it_is_written(tmp_path, store, config):
    (tmp_path / "a.csv").write_text("text,label,price\na,1,1.50\nb,0,2.00\n")
    contract = {"columns": {"price": {"type": "text"}}}
    assert take(config("a.csv", contract=contract), REVIEWS, store)[2]["price"].to_pylist() == ["1.50", "2.00"]
    assert take(config("a.csv"), REVIEWS, store)[2]["price"].to_pylist() == [1.5, 2.0]


@pytest.mark.parametrize(
    "steps",
    [
        [{"rename": {"msg": "price"}}],
        [{"rename": {"msg": "a"}}, {"map": {"a": ["strip"]}}, {"shuffle": {"seed": 1}}, {"rename": {"a": "price"}}],
        [{"map": {"msg": ["strip"]}}, {"rename": {"msg": "price"}}, {"filter": {"column": "price", "is_null": False}}],
    ],
)
@pytest.mark.parametrize("streaming", [None, {"sample_rows": 10}])
def test_it_does_so_by_each_name_that_the_column_has_before(tmp_path, store, config, steps, streaming):
    (tmp_path / "a.csv").write_text("text,label,msg\na,1,1.50\nb,0,2.00\n")
    if streaming is not None:
        steps = [step for step in steps if "shuffle" not in step]
    data = config("a.csv", transforms=steps, contract={"columns": {"price": {"type": "text"}}})
    data = data.model_copy(update={"streaming": streaming and StreamingConfig(**streaming)})
    assert sorted(take(data, REVIEWS, store)[2]["price"].to_pylist()) == ["1.50", "2.00"]


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "", "c "]), st.sampled_from("0123")), min_size=4, max_size=30),
    st.sampled_from([[], [{"drop_duplicates": ["text"]}], [{"filter": {"column": "text", "is_empty": False}}]]),
)
@settings(max_examples=40, deadline=None)
def test_every_row_that_comes_in_is_kept_dropped_for_a_reason_or_in_quarantine(tmp_path_factory, rows, transforms):
    folder = tmp_path_factory.mktemp("rows")
    store = FolderStore(folder / "store")
    (folder / "a.csv").write_text("text,label\n" + "".join(f'"{text}",{label}\n' for text, label in rows))
    section = {
        "sources": [{"files": ["a.csv"]}],
        "transforms": transforms,
        "contract": {"columns": {"label": {"type": "whole", "max": 1}}, "max_quarantined_fraction": 0.99},
    }
    data = DataConfig.model_validate_json(json.dumps(section), context={"folder": folder})
    try:
        _, facts, kept = take(data, REVIEWS, store)
    except DataError:
        return  # nothing left, or a single class
    assert facts["rows_in"] == len(rows) == facts["num_rows"] + sum(facts["dropped"].values())
    assert kept.num_rows == facts["num_rows"]
    assert facts["dropped"].get("quarantined", 0) == facts["quarantine"]["num_rows"]
