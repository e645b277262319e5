import gzip
import json
import logging
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data.rows import read_rows
from tunesmith.data.snapshot import derive_snapshot, read_snapshot, snapshot
from tunesmith.data.sources import DataConfig
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
    return [
        DataConfig(files=(str(folder / "rows.csv"),), null_values=(r"\N",)),
        DataConfig(files=(str(folder / "rows.parquet"),)),
        DataConfig(files=(str(folder / "other.jsonl.gz"),)),
        DataConfig(files=(str(folder / "list.json"),), field="data"),
    ]


def test_the_same_rows_have_one_key_in_every_format_and_at_every_path(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    sections = write_all(tmp_path / "a", ROWS) + write_all(tmp_path / "b", ROWS)
    assert len({read_snapshot(section, REVIEWS)[0] for section in sections}) == 1


@pytest.mark.parametrize(
    ("column", "value"), [("text", "bad e"), ("stars", 2), ("share", 0.25), ("seen", True), ("note", None)]
)
def test_one_changed_cell_is_another_key(tmp_path, column, value):
    keys = []
    for rows in (ROWS, [ROWS[0], {**ROWS[1], column: value}, ROWS[2]]):
        keys += [read_snapshot(section, REVIEWS)[0] for section in write_all(tmp_path, rows)]
    assert len(set(keys)) == 2
    assert len(set(keys[:4])) == 1


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
    sections = write_all(tmp_path_factory.mktemp("rows"), rows)
    assert len({read_snapshot(section, STORIES)[0] for section in sections}) == 1


def test_the_rows_are_published_under_their_content_and_found_again(tmp_path):
    sections = write_all(tmp_path, ROWS)
    store = FolderStore(tmp_path / "store")
    refs = [snapshot(section, REVIEWS, store) for section in sections]
    assert {ref.key for ref in refs} == {read_snapshot(sections[0], REVIEWS)[0]}
    assert len(list((tmp_path / "store/artifacts/snapshot").iterdir())) == 1
    assert read_rows(refs[0].folder / "rows.parquet").to_pylist()[1] == dict(sorted(ROWS[1].items()))
    assert refs[0].facts == {
        "num_rows": 3,
        "rows_in": 3,
        "dropped": {},
        "columns": {
            "label": "string", "note": "string", "seen": "bool", "share": "double", "stars": "int64", "text": "string",
        },
        "digest": refs[0].facts["digest"],
        "files": [{"name": "rows.csv", "rows": 3}],
    }  # fmt: skip
    assert refs[0].facts["digest"].startswith(refs[0].key)
    assert len(refs[0].facts["digest"]) == 64
    assert refs[1].facts["files"] == [{"name": "rows.parquet", "rows": 3}]
    assert snapshot(sections[2], REVIEWS, store).is_cached


def test_every_row_is_accounted_for(tmp_path, config, caplog):
    (tmp_path / "a.csv").write_text("text,label\na,1\n\na,1\n,2\nb,2\nc,1\n")
    data = config(
        "a.csv",
        null_values=[""],
        transforms=[{"drop_duplicates": ["text"]}, {"drop_null": ["text"]}, {"select": {"first": 2}}],
    )
    with caplog.at_level(logging.INFO, "tunesmith"):
        _, facts, table = read_snapshot(data, REVIEWS)
    assert table["text"].to_pylist() == ["a", "b"]
    assert facts["dropped"] == {"duplicate text": 1, "no text": 1, "beyond the first 2": 1, "blank line": 1}
    assert facts["rows_in"] == 6 == facts["num_rows"] + sum(facts["dropped"].values())
    assert caplog.messages == [
        "snapshot: 6 rows read from 1 file, 2 kept, "
        "dropped: 1 duplicate text, 1 no text, 1 beyond the first 2, 1 blank line"
    ]


def test_the_derivation_is_the_same_at_another_path_and_says_what_changed(tmp_path, config):
    (tmp_path / "a.csv").write_text("text,label\na,1\nb,2\n")
    before = derive_snapshot(config("a.csv"), REVIEWS)
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(tmp_path / "a.csv", tmp_path / "elsewhere")
    assert derive_snapshot(config("elsewhere/a.csv"), REVIEWS).key == before.key
    (tmp_path / "a.csv").write_text("text,label\na,1\nb,3\n")
    edited = derive_snapshot(config("a.csv"), REVIEWS)
    assert describe_difference(before.ingredients, edited.ingredients) == ["a.csv changed"]
    option = derive_snapshot(config("elsewhere/a.csv", null_values=["b"]), REVIEWS)
    assert describe_difference(before.ingredients, option.ingredients) == ["data.null_values: [] -> ['b']"]


def test_the_order_of_files_of_one_name_counts(tmp_path, config):
    for folder, text in (("a", "one"), ("b", "two")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "rows.csv").write_text(f"text,label\n{text},{text}\n")
    orders = config("a/rows.csv", "b/rows.csv"), config("b/rows.csv", "a/rows.csv")
    assert len({derive_snapshot(data, REVIEWS).key for data in orders}) == 2
    assert len({read_snapshot(data, REVIEWS)[0] for data in orders}) == 2


def test_an_edited_function_is_another_derivation(tmp_path, config):
    (tmp_path / "a.csv").write_text("text,label\na,1\nb,2\n")
    data = config("a.csv", transforms=[{"function": {"path": "cleaning:fix"}}])
    (tmp_path / "cleaning.py").write_text("def fix(row): return row")
    before = derive_snapshot(data, REVIEWS)
    (tmp_path / "cleaning.py").write_text("def fix(row): return {**row, 'text': row['text'] * 2}")
    after = derive_snapshot(data, REVIEWS)
    assert describe_difference(before.ingredients, after.ingredients) == ["function cleaning:fix changed"]
    assert read_snapshot(data, REVIEWS)[2]["text"].to_pylist() == ["aa", "bb"]


def test_lists_may_be_left_out_or_turned_into_text(tmp_path, config):
    (tmp_path / "a.jsonl").write_text('{"text": "a", "words": ["a", "b"]}\n{"text": "b", "words": ["c"]}\n')
    with pytest.raises(DataError, match=r"a\.jsonl:1: column 'words' holds a list"):
        read_snapshot(config("a.jsonl"), STORIES)
    left = read_snapshot(config("a.jsonl", transforms=[{"select": {"columns": ["text"]}}]), STORIES)[2]
    assert left.column_names == ["text"]
    (tmp_path / "joining.py").write_text("def join(row): return {'text': ' '.join(row['words'])}")
    joined = read_snapshot(config("a.jsonl", transforms=[{"function": {"path": "joining:join"}}]), STORIES)[2]
    assert joined.to_pydict() == {"text": ["a b", "c"]}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            ['{"text": "a", "label": 1}', '{"text": "b", "label": "x"}'],
            r"mixes types .*a\.jsonl:1: 1; text in a\.jsonl:2",
        ),
        (['{"text": "a"}', '{"text": "b", "label": 9223372036854775808}'], r"a\.jsonl:2: column 'label'.*64 bits"),
        (['{"text": "a", "label": 1, "row_id": 7}'], r"a\.jsonl:1: the name 'row_id' is taken.*rename"),
        (['{"text": "a", "label": 1}', '{"text": "b"}'], r"a\.jsonl:2: no value in column 'label'"),
        (['{"text": 1, "label": 1}', '{"text": 2, "label": 2}'], r"a\.jsonl:1: column 'text' holds whole numbers"),
        (['{"text": "a", "label": 1}'], "single class"),
        (['{"txt": "a", "label": 1}'], "'text'.*columns present: 'label', 'txt'.*'txt'"),
    ],
)
def test_rows_that_cannot_be_used_are_refused_with_their_line(tmp_path, config, lines, expected):
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match=expected):
        read_snapshot(config("a.jsonl"), REVIEWS)


def test_the_line_of_a_refused_row_is_right_after_transforms(tmp_path, config):
    (tmp_path / "a.csv").write_text('text,label\n"a\n2",1\na,1\nb,\nc,2\n')
    transforms = [{"drop_duplicates": ["label"]}, {"shuffle": {"seed": 3}}]
    with pytest.raises(DataError, match=r"a\.csv:5: no value in column 'label'"):
        read_snapshot(config("a.csv", null_values=[""], transforms=transforms), REVIEWS)


def test_a_missing_file_is_refused_before_anything_is_read(config):
    with pytest.raises(DataError, match="no such file"):
        derive_snapshot(config("a.csv"), REVIEWS)
