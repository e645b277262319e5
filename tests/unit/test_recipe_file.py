import time

import pytest

from tunesmith.recipe_file import MAX_FILE_BYTES, apply_override, read_recipe_text


def read(text):
    root, mistakes = read_recipe_text(text.encode())
    return (None if root is None else root.plain()), mistakes


def mistakes_of(text):
    return [(mistake.line, mistake.place, mistake.message) for mistake in read(text)[1]]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-5", 5e-5),
        ("1.0e-4", 1e-4),
        (".5", 0.5),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("-3", -3),
        ("no", "no"),
        ("off", "off"),
        ("true", True),
        ("", None),
        ("~", None),
        ("1_000", "1_000"),
        ("2026-01-31", "2026-01-31"),
        ("12:30", "12:30"),
        ("'5'", "5"),
        ('""', ""),
        ("[a, 1, null]", ["a", 1, None]),
        ("{b: {c: []}}", {"b": {"c": []}}),
    ],
)
def test_values_are_read_as_yaml_1_2_has_them(text, value):
    assert read(f"a: {text}\n") == ({"a": value}, [])


def test_a_byte_order_mark_is_dropped():
    root, _ = read_recipe_text(b"\xef\xbb\xbfa: 1\n")
    assert root.plain() == {"a": 1}


def test_every_value_knows_its_line():
    root, _ = read_recipe_text(b"# a comment\na: 1\nb:\n  - x\n  - c: 2\n    d: 3\n")
    lines = {".".join(map(str, place)): node.line for place, node in root.walk()}
    assert lines == {"": 2, "a": 2, "b": 3, "b.0": 4, "b.1": 5, "b.1.c": 5, "b.1.d": 6}


def test_a_key_given_twice_is_reported_where_it_stands_again():
    value, mistakes = read("a: 1\nb:\n  c: 1\n  c: 2\na: 2\n")
    assert value == {"a": 1, "b": {"c": 1}}
    assert [(mistake.line, mistake.place) for mistake in mistakes] == [(4, "b.c"), (5, "a")]
    assert "first on line 3" in mistakes[0].message


def test_both_halves_of_a_section_given_twice_are_read_on():
    value, mistakes = read("a: {b: 1}\na: {c: 2}\n")
    assert value == {"a": {"b": 1, "c": 2}}
    assert len(mistakes) == 1


def test_tabs_in_the_indentation_are_reported_once_and_read_as_spaces():
    value, mistakes = read("a:\n\tb: 1\n\tc:\n\t\t- d\ne:\n  f: 2\n")
    assert value == {"a": {"b": 1, "c": ["d"]}, "e": {"f": 2}}
    assert [(mistake.line, mistake.message) for mistake in mistakes] == [
        (2, "is indented with a tab (3 lines are, down to line 4); use spaces")
    ]


def test_a_tab_amid_spaces_counts_as_one_level():
    value, mistakes = read("a:\n    b: 1\n\tc: 2\n")
    assert value == {"a": {"b": 1, "c": 2}}
    assert [mistake.line for mistake in mistakes] == [3]


@pytest.mark.parametrize("text", ["a:\t1\n", "a: 1\n\t# a comment\n", "a: 1\t\n", "a: 1 \t# a comment\n\t\n"])
def test_a_tab_that_indents_nothing_is_no_mistake(text):
    assert read(text) == ({"a": 1}, [])


def test_a_tab_inside_a_value_is_kept():
    assert read("a: 'x\ty'\nb: |\n  c\n  \td\n") == ({"a": "x\ty", "b": "c\n\td\n"}, [])


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: b: c\n", 1, ["column 5", "indentation", "quote a value"]),
        ("a: 1\nb 2\nc: 3\n", 3, ["has no ':'"]),
        ("a: @x\n", 1, ["column 4", "put the value in quotes"]),
        ("a:\n   b: 1\n  c: 2\n", 3, ["indentation does not match"]),
        ("a: 1\nb: 'x\nc: 1\n", 2, ["never closed"]),
        ("a: [1, 2\nb: 3\n", 2, ["lacks a comma"]),
        ('a: "\\q"\n', 1, ["single quotes"]),
        ("a: 1\nb: \x01\n", 2, ["control character"]),
    ],
)
def test_broken_yaml_is_explained_with_line_and_column(text, line, words):
    value, mistakes = read(text)
    assert value is None
    assert [mistake.line for mistake in mistakes] == [line]
    assert all(word in mistakes[0].message for word in words), mistakes[0].message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("- a\n- b\n", "a list of 2 at the top"),
        ("reviews\n", "holds reviews at the top"),
    ],
)
def test_what_is_no_mapping_is_refused(text, words):
    value, mistakes = read(text)
    assert value is None
    assert words in mistakes[0].message


def test_a_second_document_is_refused():
    assert [(line, "second document" in message) for line, _, message in mistakes_of("a: 1\n---\nb: 2\n")] == [
        (2, True)
    ]


def test_aliases_merge_keys_tags_and_keys_that_are_no_words_are_refused_each_at_its_line():
    text = "a: &x {b: 1}\nc: *x\nd:\n  <<: *x\ne: !!python/object:os.system ls\n? [f]\n: g\n"
    found = mistakes_of(text)
    assert [(line, place) for line, place, _ in found] == [(2, "c"), (4, "d"), (5, "e"), (6, "")]
    assert [word in found[number][2] for number, word in enumerate(["alias", "merge key", "tag", "as a key"])]


def test_a_list_that_holds_itself_ends():
    assert "alias" in mistakes_of("a: &a [*a]\n")[0][2]


@pytest.mark.parametrize("text", [".inf", "-.inf", ".nan", "1e999", "9" * 5000])
def test_a_number_that_is_not_finite_or_absurdly_long_is_no_number(text):
    _, mistakes = read(f"a: 1\nb: {text}\n")
    assert [(mistake.line, mistake.place) for mistake in mistakes] == [(2, "b")]
    assert len(mistakes[0].message) < 120


def test_a_file_that_is_not_utf_8_is_refused_with_its_line():
    assert read_recipe_text("a: 1\nb: café\n".encode("latin-1"))[1][0].line == 2


@pytest.mark.parametrize(
    "raw",
    [b"a: 1\n" * (MAX_FILE_BYTES // 5 + 1), b"a: [" + b"1," * 500_000 + b"]", b"a: " + b"[" * 100_000, b"{" * 100_000],
    ids=["too long", "too many values", "too deep", "too deep, mappings"],
)
def test_a_file_without_measure_is_refused_soon(raw):
    start = time.perf_counter()
    root, mistakes = read_recipe_text(raw)
    assert root is None
    assert len(mistakes) == 1
    assert time.perf_counter() - start < 20


def override(text, *overrides):
    root, _ = read_recipe_text(text.encode())
    found = [apply_override(root, item) for item in overrides]
    return root.plain(), [mistake for mistake in found if mistake is not None]


@pytest.mark.parametrize(
    ("item", "value"),
    [
        ("a.b=2", {"a": {"b": 2}, "c": ["x", {"d": 1}]}),
        ("a.e.f=no", {"a": {"b": 1, "e": {"f": "no"}}, "c": ["x", {"d": 1}]}),
        ("a=[1, 2]", {"a": [1, 2], "c": ["x", {"d": 1}]}),
        ("a.b=", {"a": {"b": None}, "c": ["x", {"d": 1}]}),
        ("a.b=k=v", {"a": {"b": "k=v"}, "c": ["x", {"d": 1}]}),
        ("c.0=y", {"a": {"b": 1}, "c": ["y", {"d": 1}]}),
        ("c.1.d=2", {"a": {"b": 1}, "c": ["x", {"d": 2}]}),
        ("c.2=z", {"a": {"b": 1}, "c": ["x", {"d": 1}, "z"]}),
        ("new=5e-5", {"a": {"b": 1}, "c": ["x", {"d": 1}], "new": 5e-5}),
    ],
)
def test_an_override_puts_a_yaml_value_at_its_place(item, value):
    assert override("a: {b: 1}\nc: [x, {d: 1}]\n", item) == (value, [])


@pytest.mark.parametrize(
    ("item", "place", "words"),
    [
        ("a.b", "--set a.b", "PLACE=VALUE"),
        ("=3", "--set =3", "PLACE=VALUE"),
        ("a..b=3", "--set a..b=3", "PLACE=VALUE"),
        ("a.b=[", "--set a.b", "cannot be read"),
        ("a.b=*x", "--set a.b", "alias"),
        ("a.b.c=1", "--set a.b.c", "a.b is 1 and has no 'c'"),
        ("c.5=1", "--set c.5", "a list of 2; '5' is no index"),
        ("c.x=1", "--set c.x", "'x' is no index"),
    ],
)
def test_an_override_that_cannot_be_used_is_a_mistake_of_its_own(item, place, words):
    value, mistakes = override("a: {b: 1}\nc: [x, {d: 1}]\n", item)
    assert value == {"a": {"b": 1}, "c": ["x", {"d": 1}]}
    assert [(mistake.line, mistake.place) for mistake in mistakes] == [(None, place)]
    assert words in mistakes[0].message


def test_an_override_fills_a_section_that_is_empty():
    assert override("a:\n", "a.b=1") == ({"a": {"b": 1}}, [])
