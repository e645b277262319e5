import pyarrow as pa
import pytest

from made_rows import apply, lines_of, rows_of, values_of
from tunesmith.data.columns import CARRIED
from tunesmith.errors import DataError


@pytest.fixture
def call(tmp_path):
    """Calls a function of `cleaning.py` beside the recipe with rows."""

    def call_function(source, rows, **options):
        (tmp_path / "cleaning.py").write_text(source)
        return apply(rows, {"function": {"path": "cleaning:fix", **options}}, tmp_path)

    return call_function


def test_a_function_changes_adds_and_drops_rows(call):
    source = (
        "def fix(row):\n"
        "    if row['stars'] == 3:\n"
        "        return None\n"
        "    return {'text': ' '.join(row['words']), 'label': str(row['stars']), 'extra': [1]}\n"
    )
    left, dropped = call(source, rows_of(words=[["a", "b"], ["c"], ["d"]], stars=[1, 3, 5]))
    assert values_of(left) == {"text": ["a b", "d"], "label": ["1", "5"], "extra": [[1], [1]]}
    assert left.table["extra"].type == CARRIED
    assert dropped == {"function cleaning:fix": 1}
    assert lines_of(left) == [2, 4]


def test_text_stays_text_until_all_parts_are_known(call):
    left, _ = call("def fix(row): return row", rows_of(a=["1", "2"]))
    assert left.table["a"].type == pa.string()


def test_a_column_that_is_not_always_returned_is_null_there(call):
    source = "def fix(row): return {'a': 1} if row['a'] else {'b': 2}"
    assert values_of(call(source, rows_of(a=[1, 0]))[0]) == {"a": [1, None], "b": [None, 2]}
    batched = "def fix(batch): return {'a': [1]} if batch['a'][0] else {'b': [2]}"
    found = call(batched, rows_of(a=[1, 0]), batched=True, batch_size=1)[0]
    assert values_of(found) == {"a": [1, None], "b": [None, 2]}


@pytest.mark.parametrize("batched", [False, True])
def test_no_rows_need_no_call_and_have_no_columns_yet(call, batched):
    rows, dropped = call("def fix(row): raise ValueError", rows_of(a=[]), batched=batched)
    assert (rows.table.num_columns, rows.table.num_rows, lines_of(rows), dropped) == (0, 0, [], {})


def test_a_function_that_drops_all_rows_leaves_no_column(call):
    rows, dropped = call("def fix(row): return None", rows_of(a=[1, 2]))
    assert (rows.table.num_columns, lines_of(rows), dropped) == (0, [], {"function cleaning:fix": 2})


def test_a_batched_function_gets_and_returns_lists_of_at_most_a_batch(call):
    source = (
        "def fix(batch):\n"
        "    size = len(batch['a'])\n"
        "    return {'a': [text.upper() for text in batch['a']], 'size': [size] * size}\n"
    )
    rows, dropped = call(source, rows_of(a=[*"vwxyz"], b=[1, 2, 3, 4, 5]), batched=True, batch_size=2)
    assert values_of(rows) == {"a": [*"VWXYZ"], "size": [2, 2, 2, 2, 1]}
    assert dropped == {}
    assert lines_of(rows) == [2, 3, 4, 5, 6]


def test_a_batch_has_1000_rows_by_default(call):
    source = "def fix(batch): return {'size': [len(batch['a'])] * len(batch['a'])}"
    rows, _ = call(source, rows_of(a=[0] * 1001), batched=True)
    assert values_of(rows)["size"] == [1000] * 1000 + [1]


def test_a_batched_function_may_return_more_or_fewer_rows_that_say_where_they_are_from(call):
    source = (
        "def fix(batch):\n"
        "    pieces = [(row, piece) for row, text in enumerate(batch['text']) for piece in text.split('|') if piece]\n"
        "    labels = [batch['label'][row] for row, _ in pieces]\n"
        "    return {'piece': [piece for _, piece in pieces], 'label': labels, '_row': [row for row, _ in pieces]}\n"
    )
    rows = rows_of(text=["a|b", "", "c", "d|e|f"], label=[0, 1, 2, 3])
    left, dropped = call(source, rows, batched=True, batch_size=3)
    assert values_of(left) == {"piece": [*"abcdef"], "label": [0, 0, 2, 3, 3, 3]}
    assert lines_of(left) == [2, 2, 4, 5, 5, 5]
    assert dropped == {"function cleaning:fix": 1}


def test_a_batched_function_may_drop_whole_batches(call):
    source = "def fix(batch): return {'_row': [], 'b': []} if batch['a'][0] < 3 else {'b': batch['a']}"
    left, dropped = call(source, rows_of(a=[1, 2, 3]), batched=True, batch_size=1)
    assert values_of(left) == {"b": [3]}
    assert dropped == {"function cleaning:fix": 2}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "def fix(row):\n    return {'n': int(row['text'])}",
            r"^f:3: function cleaning:fix raised ValueError: invalid literal.*'b' \(cleaning\.py:2\)\. Correct",
        ),
        ("def fix(row): return row['txet']", r"^f:2: function cleaning:fix raised KeyError: 'txet'"),
        ("def fix(row): return [row]", r"^f:2: function cleaning:fix returned \[\{.*must return a dict"),
        ("def fix(row): return {1: 2}", "must return a dict with the columns' names as keys"),
        ("def fix(row): return {}", "must return a dict"),
        ("def fix(row): return {1, 2}", "must return a dict"),
    ],
)
def test_what_goes_wrong_in_a_function_is_told_with_its_row(call, source, expected):
    with pytest.raises(DataError, match=expected):
        call(source, rows_of(text=["1", "b"]))


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ("None", r"^f:2 to f:3: function cleaning:fix returned null\. A batched function must return"),
        ("[]", "must return a dict with the columns' names as keys and a list of values for each"),
        ("{}", "must return a dict"),
        ("{'_row': [0]}", "must return a dict"),
        ("{'a': 'xy'}", "must return a dict"),
        ("{1: [2, 3]}", "must return a dict"),
        ("{'a': [1, 2], 'b': [1]}", "lists of different lengths: 2 in 'a', 1 in 'b'"),
        ("{'a': [1]}", r"got 2 rows and returned 1\. To return more or fewer, add a list '_row'"),
        ("{'a': [1], '_row': [2]}", "returned 2 in '_row'; each must be a whole number from 0 to 1"),
        ("{'a': [1], '_row': [True]}", "returned true in '_row'"),
        ("{'a': [1], '_row': [-1]}", "returned -1 in '_row'"),
        ("{'a': [1], '_row': ['0']}", "returned \"0\" in '_row'"),
        ("{'a': [1, 2], '_row': [1, 0]}", "returned rows in another order: the numbers in '_row' must not go back"),
        ("1 / 0", r"raised ZeroDivisionError: division by zero \(cleaning\.py:1\)"),
    ],
)
def test_what_a_batched_function_must_not_return_is_told_with_its_rows(call, result, expected):
    with pytest.raises(DataError, match=expected):
        call(f"def fix(batch): return {result}", rows_of(a=[1, 2]), batched=True)


def test_a_column_that_would_hide_where_rows_are_from_is_refused(call):
    with pytest.raises(DataError, match=r"cannot get a column '_row'.* Rename the column before"):
        call("def fix(batch): return batch", rows_of(_row=[1, 0]), batched=True)
