import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data import reading, segments
from tunesmith.data.fetch import fetch
from tunesmith.data.files import SourceFile
from tunesmith.data.parts import load_part
from tunesmith.data.reading import read_parts
from tunesmith.data.segments import SegmentSizes
from tunesmith.data.sources import DataConfig
from tunesmith.errors import DataError
from tunesmith.store.folder import FolderStore

TINY = SegmentSizes(minimum=20, mean=60, maximum=200, unit_bytes=1, longest_unit=1000)


@pytest.fixture(autouse=True)
def tiny_segments(monkeypatch):
    monkeypatch.setattr(reading.map_segments, "__defaults__", (TINY, None))


def read(folder, store, *files, **options):
    section = json.dumps({"sources": [{"files": files, **options}]})
    data = DataConfig.model_validate_json(section, context={"folder": folder})
    found = [SourceFile.from_json(file) for file in fetch(data, store).facts["files"]]
    result = read_parts(found, data, store.chunks)
    loaded = [load_part(part, store.chunks) for part in result.parts]
    rows = [row for rows in loaded for row in rows.table.to_pylist()]
    places = [rows.origins(number) for rows in loaded for number in range(rows.table.num_rows)]
    return [*zip(rows, places, strict=True)], result


def test_parts_are_the_rows_of_the_file_with_their_lines(tmp_path):
    lines = ["text,label", *(f"row {number},{number % 2}" for number in range(100))]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    rows, result = read(tmp_path, FolderStore(tmp_path / "store"), "a.csv")
    assert rows == [({"text": f"row {n}", "label": str(n % 2)}, f"a.csv:{n + 2}") for n in range(100)]
    assert len(result.parts) > 5


def watch(monkeypatch):
    read_lines = []
    parse = reading.parse_segment
    monkeypatch.setattr(
        reading, "parse_segment", lambda segment, *rest: read_lines.append(segment.first_line) or parse(segment, *rest)
    )
    return read_lines


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_of_a_file_that_has_grown_only_what_is_new_is_cut_and_read(tmp_path, monkeypatch, mark):
    store = FolderStore(tmp_path / "store")
    lines = [f"row {number},{number % 2}" for number in range(300)]
    (tmp_path / "a.csv").write_bytes(mark + "\n".join(["text,label", *lines[:290], ""]).encode())
    read(tmp_path, store, "a.csv")
    (tmp_path / "a.csv").write_bytes(mark + "\n".join(["text,label", *lines, ""]).encode())
    cut = []
    find_cuts = segments._find_cuts
    monkeypatch.setattr(segments, "_find_cuts", lambda text, *r, **k: cut.append(len(text)) or find_cuts(text, *r, **k))
    read_lines = watch(monkeypatch)
    rows, _ = read(tmp_path, store, "a.csv")
    assert [row["text"] for row, _ in rows] == [f"row {number}" for number in range(300)]
    assert rows[-1][1] == "a.csv:301"
    assert min(read_lines) > 270
    assert sum(cut) < 500


def test_a_changed_beginning_is_noticed(tmp_path):
    store = FolderStore(tmp_path / "store")
    lines = [f"row {number},{number % 2}" for number in range(300)]
    for changed in (None, 3, 150, 298):
        kept = [line if number != changed else "new,1" for number, line in enumerate(lines)]
        (tmp_path / "a.csv").write_text("\n".join(["text,label", *kept, *["more,0"] * (changed or 0)]))
        rows, _ = read(tmp_path, store, "a.csv")
        assert [row["text"] for row, _ in rows[:300]] == [line.partition(",")[0] for line in kept]


@given(
    st.lists(st.sampled_from(['a,"b\nc"', "d,e", '"f""g",h', "", "i,jjjjjjjjjjjjjjjjjjjj"]), min_size=1, max_size=60),
    st.lists(st.sampled_from(["k,l", '"m\n",n']), min_size=1, max_size=10),
)
@settings(max_examples=60, deadline=None)
def test_reading_what_was_appended_gives_what_reading_all_gives(tmp_path_factory, before, after):
    folder = tmp_path_factory.mktemp("rows")
    known, new = FolderStore(folder / "known"), FolderStore(folder / "new")
    (folder / "a.csv").write_text("\n".join(["x,y", "first,row", *before]))
    read(folder, known, "a.csv")
    (folder / "a.csv").write_text("\n".join(["x,y", "first,row", *before, *after]))
    appended, whole = read(folder, known, "a.csv"), read(folder, new, "a.csv")
    assert appended[0] == whole[0]
    assert [part.key for part in appended[1].parts] == [part.key for part in whole[1].parts]
    assert appended[1].num_blank == whole[1].num_blank


def test_the_same_rows_elsewhere_are_not_read_again(tmp_path, monkeypatch):
    store = FolderStore(tmp_path / "store")
    text = "\n".join(["text,label", *(f"row {number},{number % 2}" for number in range(100))])
    (tmp_path / "a.csv").write_text(text)
    read(tmp_path, store, "a.csv")
    (tmp_path / "b.csv").write_text(text + "\n")
    read_lines = watch(monkeypatch)
    _, result = read(tmp_path, store, "b.csv")
    assert len(read_lines) <= 1 < len(result.parts)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"a.csv": "x,y\n1,2\n", "b.csv": "x,z\n1,2\n"},
            r"b\.csv: other columns than .*a\.csv \(x, y\): it lacks y and has z",
        ),
        ({"a.jsonl": "{}\n{}\n"}, r"a\.jsonl:1: the rows have no keys at all"),
        ({"a.csv": "x,y\n"}, r"a\.csv: the file has no rows below its header"),
    ],
)
def test_files_that_cannot_be_read_together_are_refused(tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=expected):
        read(tmp_path, FolderStore(tmp_path / "store"), *files)


def test_keys_that_json_rows_leave_out_are_null_and_types_of_all_blocks_mix(tmp_path):
    rows = [{"a": number} if number % 2 else {"b": "x"} for number in range(40)]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    found, _ = read(tmp_path, FolderStore(tmp_path / "store"), "a.jsonl")
    assert [{k: v for k, v in row.items() if v is not None} for row, _ in found] == rows
