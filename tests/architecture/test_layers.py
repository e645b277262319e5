"""Imports run one way, and each vendor has one door; a planted violation of each contract is caught."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

VIOLATIONS = {
    "the library imports a task": ("src/tunesmith/data/split.py", "import tunesmith.tasks.data"),
    "a task imports a flow": ("tasks/data.py", "import tunesmith.flows.finetune"),
    "the library imports Prefect": ("src/tunesmith/training/train.py", "import prefect"),
    "evaluation imports MLflow": ("src/tunesmith/evaluation/evaluate.py", "def f():\n    import mlflow"),
    "the worker reaches MLflow": ("src/tunesmith/training/worker.py", "import tunesmith.tracking.registry"),
    "a section imports a stage": ("src/tunesmith/section.py", "import tunesmith.store.keys"),
    "a stage other than the store opens S3": ("src/tunesmith/data/snapshot.py", "import s3fs"),
}


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root / "src")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in ("src", "flows", "tasks", "deployments"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_layers_hold():
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_a_planted_violation_is_caught(copy, violation):
    file, line = VIOLATIONS[violation]
    path = copy / file
    path.write_text(path.read_text() + f"\n{line}\n")
    done = lint(copy)
    assert done.returncode == 1, done.stdout
    assert "BROKEN" in done.stdout
