"""What imports cost: `--help` imports nothing heavy, checking a recipe no framework, training what it trains with."""

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


def test_the_loop_imports_no_library_of_others_beside_torch_and_accelerate():
    """Peft alone would bring transformers' models and all that it quantizes with: longer than torch itself takes."""
    found = imported_by("import tunesmith.training.worker, tunesmith.training.loop, tunesmith.training.trained")
    assert found & HEAVY == {"torch", "accelerate"}


def test_a_heavy_import_would_be_noticed():
    assert "datasets" in imported_by("import datasets") & HEAVY
