import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data import contents, segments
from tunesmith.data.files import SourceFile
from tunesmith.data.segments import Resume, Segment, SegmentSizes, Unit, count_line_ends, cut_segments
from tunesmith.errors import DataError

SMALL = SegmentSizes(minimum=40, mean=120, maximum=400, unit_bytes=0, longest_unit=900)
FILE = SourceFile(Path("a.txt"), "text", "a.txt", "a.txt", "a.txt")


def cut(text, unit=Unit.LINE, sizes=SMALL, *, chunk=1 << 20, resume=None):
    """The segments of a text that is read some bytes at a time."""
    begin = 0 if resume is None else resume.end
    chunks = iter([text[start : start + chunk] for start in range(begin, len(text), chunk)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "decode_contents", lambda file, encoding, start=0: chunks)
        return [*cut_segments(FILE, "utf-8", unit, sizes, resume)]


def write_lines(num_lines, seed=0, words=8):
    generator = random.Random(seed)
    return [
        " ".join(str(generator.randrange(1000)) for _ in range(generator.randrange(1, words))) for _ in range(num_lines)
    ]


texts = st.lists(
    st.sampled_from([b"a", b"bc\xc3\xa9", b"\n", b"\r\n", b"\r", b'"', b"\t", b"some words ", b"\n\n"])
).map(b"".join)


@settings(deadline=None)
@given(texts, st.sampled_from(Unit), st.integers(1, 50), st.integers(1, 20), st.integers(1, 60))
def test_segments_are_the_text_whatever_it_is_and_however_it_is_read(text, unit, chunk, minimum, mean):
    sizes = SegmentSizes(minimum=minimum, mean=mean, maximum=30 + minimum, unit_bytes=5, longest_unit=10_000)
    found = cut(text, unit, sizes)
    assert b"".join(segment.data for segment in found) == text
    assert [segment.is_last for segment in found] == [False] * (len(found) - 1) + [True] * bool(found)
    assert all(segment.data.endswith(b"\n") for segment in found[:-1])
    line = 1
    for segment in found:
        assert segment.first_line == line
        line += count_line_ends(segment.data)
    assert cut(text, unit, sizes, chunk=chunk) == found
    for number, segment in enumerate(found):
        assert segment.end == sum(len(before.data) for before in found[: number + 1])
        resume = Resume(segment.end, segment.next_line, None)
        assert cut(text, unit, sizes, resume=resume) == found[number + 1 :]


@pytest.mark.parametrize("unit", Unit)
def test_lines_that_are_put_in_change_the_segments_around_them_alone(unit):
    lines = [line + ("\n" if index % 4 == 0 else "") for index, line in enumerate(write_lines(3000))]
    before = {segment.data for segment in cut("\n".join(lines).encode(), unit)}
    for place in (0, 100, 1500, 2999):
        changed = [*lines[:place], "put in", *lines[place:]]
        after = {segment.data for segment in cut("\n".join(changed).encode(), unit)}
        assert len(after - before) <= 3
        assert len(before) > 100


def test_segments_have_the_sizes_that_they_should():
    found = cut("\n".join(write_lines(20_000)).encode())
    sizes = [len(segment.data) for segment in found[:-1]]
    assert min(sizes) >= SMALL.minimum
    assert max(sizes) <= SMALL.maximum
    assert 100 < sum(sizes) / len(sizes) < 220


def test_empty_lines_decide_no_cut():
    text = b"\n" * 390 + b"words\n"
    assert len(cut(text)) == 1


def test_a_record_that_goes_over_lines_is_not_cut():
    rows = [f'{line},"{line}\n\nmore ""{line}""\n"' for line in write_lines(500)]
    found = cut("\n".join(rows).encode() + b"\n", Unit.RECORD)
    assert len(found) > 20
    assert all(segment.data.count(b'"') % 2 == 0 for segment in found)


def test_quotes_that_are_none_cost_a_cut_at_most():
    rows = write_lines(2000)
    rows[700] = 'an inch is 1" long'
    found = cut("\n".join(rows).encode(), Unit.RECORD)
    plain = {segment.data for segment in cut("\n".join(rows).encode())}
    assert len({segment.data for segment in found} - plain) <= 10


def test_a_paragraph_is_not_cut():
    paragraphs = ["\n".join(write_lines(3, seed)) for seed in range(300)]
    found = cut("\n \t\n".join(paragraphs).encode(), Unit.PARAGRAPH)
    assert len(found) > 20
    assert all(segment.data.endswith(b"\n \t\n") for segment in found[:-1])


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        (b"a\n" * 450 + b"b" * 901 + b"\nc\n", Unit.LINE, r"a\.txt:451: a line of more than .*\"bbb.*Cut the line"),
        (b"a\n" + b"b" * 5000, Unit.LINE, r"a\.txt:2: a line of more than"),
        (b"a\n" + b"b" * 5000, Unit.RECORD, r"a\.txt:2: a line of more than"),
        (b"a\r" * 3000, Unit.LINE, r"a\.txt:1: a line of more .*lone CR here: write them with LF"),
        (b"\n\n" + b"a\n" * 500, Unit.PARAGRAPH, r"a\.txt:3: a paragraph of more than"),
    ],
)
def test_a_line_without_end_is_refused_with_its_number(text, unit, expected):
    for chunk in (7, 1 << 20):
        with pytest.raises(DataError, match=expected):
            cut(text, unit, chunk=chunk)


def test_lines_can_be_taken_from_the_front():
    segment = Segment(b"a\r\nb\rc\nd", 5, is_last=True)
    assert [segment.without_lines(n).data for n in range(5)] == [b"a\r\nb\rc\nd", b"b\rc\nd", b"c\nd", b"d", b""]
    assert segment.without_lines(2).first_line == 7


def test_the_encoding_of_a_file_does_not_move_its_cuts(tmp_path, monkeypatch):
    monkeypatch.setattr(contents, "CHUNK_BYTES", 999)
    text = "\n".join(f"é {line}" for line in write_lines(500))
    found = []
    for encoding in ("utf-8", "utf-16", "latin-1"):
        path = tmp_path / f"{encoding}.txt"
        path.write_bytes(text.encode(encoding))
        file = SourceFile(path, "text", "a.txt", "a.txt", "a.txt")
        found.append([*cut_segments(file, encoding, Unit.LINE, SMALL)])
    assert found[0] == found[1] == found[2]
