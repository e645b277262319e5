"""Which of our modules shape a stage."""

import ast
import shutil
from pathlib import Path

import pytest

from tunesmith.store.code import PACKAGE_ROOT, _imported_names, code_identity

ENCODE = ["tunesmith.features.encode", "tunesmith.kinds.text_classification"]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    root = tmp_path / "tunesmith"
    shutil.copytree(PACKAGE_ROOT, root, ignore=shutil.ignore_patterns("__pycache__", "flows", "tasks", "deployments"))
    return root


def edit(path: Path) -> None:
    path.write_text(path.read_text() + "\n# edited\n")


def test_an_edited_helper_changes_the_stages_that_reach_it(package):
    before = code_identity(ENCODE, package_root=package)
    edit(package / "kinds" / "checks.py")
    after = code_identity(ENCODE, package_root=package)
    assert {name for name in before if before[name] != after[name]} == {"tunesmith.kinds.checks"}


def test_an_unrelated_edit_changes_nothing(package):
    before = code_identity(ENCODE, package_root=package)
    edit(package / "training" / "loop.py")
    edit(package / "kinds" / "text_generation.py")
    assert code_identity(ENCODE, package_root=package) == before


def test_imports_inside_functions_and_relative_imports_count(tmp_path):
    package = tmp_path / "tunesmith"
    (package / "a").mkdir(parents=True)
    for name, text in {
        "__init__": "",
        "late": "",
        "a/__init__": "",
        "a/near": "from .. import late",
        "a/root": "import json\ndef f():\n    from tunesmith.a import near\n    from . import other",
        "a/other": "",
        "a/unused": "",
    }.items():
        (package / f"{name}.py").write_text(text)
    assert list(code_identity(["tunesmith.a.root"], package_root=package)) == [
        "tunesmith",
        "tunesmith.a",
        "tunesmith.a.near",
        "tunesmith.a.other",
        "tunesmith.a.root",
        "tunesmith.late",
    ]


def test_a_root_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(ModuleNotFoundError, match=r"tunesmith\.nowhere"):
        code_identity(["tunesmith.nowhere"])


def test_every_import_of_ours_is_found_as_the_parser_finds_it():
    for path in PACKAGE_ROOT.rglob("*.py"):
        source = path.read_bytes()
        parsed = {
            name
            for node in ast.walk(ast.parse(source))
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for name in _imported_names(ast.unparse(node).encode(), "tunesmith.x")
        }
        assert {*_imported_names(source, "tunesmith.x")} >= parsed, path
