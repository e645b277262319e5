"""Names: no drawers, no module that hides a dependency, modules of a readable size, one public flow a file."""

import ast
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = [ROOT / name for name in ("src/tunesmith", "flows", "tasks")]
DRAWERS = {"utils", "helpers", "common", "misc"}
MAX_LINES = 400


def modules(folders=CODE) -> list[Path]:
    found = {path.resolve() for folder in folders for path in folder.rglob("*.py")}
    return sorted(path for path in found if path.name != "__init__.py")


def find_misnamed(paths: list[Path]) -> list[Path]:
    return [path for path in paths if path.stem in DRAWERS]


def find_hiding(paths: list[Path]) -> list[Path]:
    """Modules that would hide a dependency or the standard library if their folder came onto sys.path.

    The metric modules bear the metrics' own names; no folder of theirs is ever imported from.
    """
    taken = set(packages_distributions()) | set(sys.stdlib_module_names)
    return [path for path in paths if path.stem in taken and "metrics" not in path.parts]


def find_long(paths: list[Path]) -> list[Path]:
    return [path for path in paths if len(path.read_text().splitlines()) > MAX_LINES]


def public_flows(path: Path) -> list[str]:
    tree = ast.parse(path.read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [f.name for f in functions if any("flow" in ast.unparse(decorator) for decorator in f.decorator_list)]


def test_there_are_no_drawers(tmp_path):
    assert find_misnamed(modules()) == []
    planted = tmp_path / "utils.py"
    assert find_misnamed([planted]) == [planted]


def test_top_level_folders_hide_no_dependency(tmp_path):
    top_level = [path for path in modules() if path.parent.name in ("flows", "tasks")]
    assert find_hiding([path for path in top_level if path.parent.name == "flows"]) == []
    planted = tmp_path / "mlflow.py"
    assert find_hiding([planted]) == [planted]


def test_modules_are_of_a_readable_size(tmp_path):
    assert find_long(modules()) == []
    planted = tmp_path / "long.py"
    planted.write_text("\n" * (MAX_LINES + 1))
    assert find_long([planted]) == [planted]


def test_a_flow_file_has_one_public_flow_of_its_name(tmp_path):
    for path in modules([ROOT / "flows"]):
        assert public_flows(path) == [path.stem]
    planted = tmp_path / "two.py"
    planted.write_text("@flow\ndef one(): ...\n@flow(name='x')\ndef two(): ...\n")
    assert public_flows(planted) == ["one", "two"]
