"""The wheel holds the whole product under one import name, and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

NEEDED = {
    "tunesmith/recipe.py",
    "tunesmith/py.typed",
    "tunesmith/flows/finetune.py",
    "tunesmith/tasks/training.py",
    "tunesmith/deployments/prefect.yaml",
    "tunesmith/deployments/recipes/movie_reviews/recipe.yaml",
    "tunesmith/deployments/recipes/movie_reviews/labels.py",
    "tunesmith/evaluation/metrics/accuracy/accuracy.py",
    "tunesmith/report/templates/report.html",
}


def find_faults(names: set[str]) -> list[str]:
    missing = [f"missing: {name}" for name in sorted(NEEDED - names)]
    tops = {name.split("/")[0] for name in names}
    foreign = [f"foreign: {top}" for top in sorted(tops) if top != "tunesmith" and not top.endswith(".dist-info")]
    return missing + foreign


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory) -> set[str]:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(source)], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*command, str(source)], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_whole_product_and_nothing_else(wheel_names):
    assert find_faults(wheel_names) == []


def test_a_missing_or_foreign_file_is_noticed(wheel_names):
    planted = (wheel_names - {"tunesmith/recipe.py"}) | {"flows/finetune.py"}
    assert find_faults(planted) == ["missing: tunesmith/recipe.py", "foreign: flows"]
