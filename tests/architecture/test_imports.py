"""What a command imports is what it costs: `--help` imports nothing heavy, and checking a recipe no framework."""

import subprocess
import sys

import pytest

HEAVY = {"prefect", "mlflow", "transformers", "datasets", "torch", "peft", "evaluate", "matplotlib", "accelerate"}


def imported_by(statement: str) -> set[str]:
    code = f"import sys\ntry:\n    {statement}\nexcept SystemExit: pass\nprint('|', *sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stderr.rpartition("|")[2].split()}


@pytest.mark.parametrize(
    "statement",
    [
        "from tunesmith.cli.main import main; main(['--help'])",
        "from tunesmith.cli.main import main; main(['run', '--help'])",
        "from tunesmith.cli.main import main; main(['plan', '--help'])",
        "import tunesmith.recipe",
        "import tunesmith.planning",
    ],
)
def test_a_light_command_imports_no_framework(statement):
    assert imported_by(statement) & HEAVY == set()


def test_help_does_not_even_import_pydantic_or_arrow():
    assert imported_by("from tunesmith.cli.main import main; main(['--help'])") & {"pydantic", "pyarrow"} == set()


def test_a_heavy_import_would_be_noticed():
    assert "datasets" in imported_by("import datasets") & HEAVY
