import json
import sys
from types import ModuleType

import pytest

from tunesmith.data.functions import FunctionOptions, function_digest, open_function
from tunesmith.errors import DataError


@pytest.fixture
def function(tmp_path):
    """Writes `cleaning.py` beside the recipe, and gives the options of a function in it."""

    def build(source, path="cleaning:fix"):
        (tmp_path / "cleaning.py").write_text(source)
        return FunctionOptions.model_validate_json(json.dumps({"path": path}), context={"folder": tmp_path})

    return build


def call(options, row):
    with open_function(options) as function:
        return function.call(row)


def test_a_function_beside_the_recipe_may_import_its_neighbours_even_late(tmp_path, function, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (tmp_path / "words.py").write_text("def upper(text): return text.upper()")
    (tmp_path / "late.py").write_text("MARK = '!'")
    options = function(
        "from words import upper\n"
        "def fix(row):\n"
        "    from late import MARK\n"
        "    return {'text': upper(row['text']) + MARK}\n"
    )
    before = set(sys.modules), list(sys.meta_path), list(sys.path)
    assert call(options, {"text": "a"}) == {"text": "A!"}
    assert (set(sys.modules), sys.meta_path, sys.path) == before
    assert not (tmp_path / "__pycache__").exists()


def test_a_function_may_lie_in_a_package_beside_the_recipe(tmp_path, function):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/__init__.py").write_text("")
    (tmp_path / "mine/words.py").write_text("MARK = '?'")
    (tmp_path / "mine/fixing.py").write_text("from .words import MARK\ndef fix(row): return {'text': MARK}")
    options = function("", path="mine.fixing:fix")
    assert call(options, {"text": "a"}) == {"text": "?"}
    before = function_digest(options)
    (tmp_path / "mine/words.py").write_text("MARK = '.'")
    assert call(options, {"text": "a"}) == {"text": "."}
    assert function_digest(options) != before


def test_an_installed_function_is_found_and_its_package_shapes_the_digest():
    copying, dumping = (FunctionOptions(path=path, folder="/") for path in ("copy:copy", "json.encoder:undefined"))
    assert call(copying, {"text": "a"}) == {"text": "a"}
    assert len({function_digest(copying), function_digest(dumping)}) == 2
    with pytest.raises(DataError, match=r"encoder\.py has no function 'undefined'"):
        call(dumping, {"text": "a"})


def test_the_digest_covers_the_neighbours_that_are_imported_and_nothing_else(tmp_path, function):
    (tmp_path / "words.py").write_text("A = 1")
    (tmp_path / "other.py").write_text("A = 1")
    options = function("import json\nimport words\ndef fix(row): return row")
    first = function_digest(options)
    (tmp_path / "other.py").write_text("A = 2")
    assert function_digest(options) == first
    (tmp_path / "words.py").write_text("A = 2")
    second = function_digest(options)
    assert second != first
    function("import json\nimport words\ndef fix(row): return None")
    assert function_digest(options) not in {first, second}


def test_the_digest_does_not_depend_on_the_folder(tmp_path, function):
    options = function("def fix(row): return row")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "cleaning.py").write_text("def fix(row): return row")
    assert function_digest(options) == function_digest(options.model_copy(update={"folder": str(elsewhere)}))


def test_an_edited_function_is_used_at_once(function, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    assert call(function("def fix(row): return {'n': 1}"), {}) == {"n": 1}
    assert call(function("def fix(row): return {'n': 2}"), {}) == {"n": 2}


def test_a_module_runs_once_for_each_version_of_its_source(tmp_path, function):
    (tmp_path / "words.py").write_text("COUNT = []")
    options = function("from words import COUNT\ndef fix(row):\n    COUNT.append(row)\n    return len(COUNT)")
    assert [call(options, {}), call(options, {}), call(options, {})] == [1, 2, 3]
    (tmp_path / "words.py").write_text("COUNT = [0]")
    assert call(options, {}) == 2
    assert "words" not in sys.modules


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def clean(row): return row", r"has no function 'fix' \(functions present: clean\)"),
        ("fix = 3", r"has no function 'fix' \(functions present: none\)"),
        ("import nowhere_at_all", r"importing cleaning raised ModuleNotFoundError: .* \(cleaning\.py:1\)"),
        ("1 / 0", r"importing cleaning raised ZeroDivisionError"),
        ("def fix(row)\n    return row", r"cleaning\.py:1: not Python: expected ':'"),
    ],
)
def test_what_cannot_be_imported_is_told_with_its_place(function, source, expected):
    with pytest.raises(DataError, match=expected):
        call(function(source), {})


def test_a_missing_module_is_answered_with_the_nearest(function):
    options = function("", path="cleanin:fix")
    with pytest.raises(
        DataError, match=r"there is no module cleanin in .* Did you mean cleaning\?.*put cleanin\.py there"
    ):
        function_digest(options)


def test_a_module_that_is_already_imported_under_the_name_is_not_used_and_stays(function, monkeypatch):
    other = ModuleType("cleaning")
    monkeypatch.setitem(sys.modules, "cleaning", other)
    assert call(function("def fix(row): return {'n': 1}"), {}) == {"n": 1}
    assert sys.modules["cleaning"] is other


def test_a_function_is_looked_for_beside_the_recipe(tmp_path):
    options = FunctionOptions.model_validate_json('{"path": "cleaning:fix"}', context={"folder": tmp_path})
    assert options.folder == str(tmp_path)
    assert "folder" not in options.key_fields()
