"""What is set for libraries, and what the user has set."""

from __future__ import annotations

from pathlib import Path

import pytest

from killable_training import Trainings
from tiny_features import write_features
from tiny_models import make_bert
from tunesmith.environment import MLFLOW_ENVIRONMENT, compose_training_environment, fill_environment


def test_what_is_open_is_filled_in_and_what_is_set_stays():
    environ = {"DO_NOT_TRACK": "no"}
    fill_environment(environ)
    assert environ.pop("DO_NOT_TRACK") == "no"
    assert environ.keys() == {*MLFLOW_ENVIRONMENT, "GOMP_SPINCOUNT"} - {"DO_NOT_TRACK"}


@pytest.mark.parametrize("name", ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"])
def test_who_says_how_threads_wait_is_obeyed(name):
    for environ in ({name: "7"}, compose_training_environment({name: "7"})):
        fill_environment(environ)
        assert [key for key in environ if key in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")] == [name]
        assert environ[name] == "7"


def test_a_training_process_keeps_its_memory_and_shares_the_cores(tmp_path):
    base = make_bert(tmp_path / "bert", [f"w{number}" for number in range(60)])
    (tmp_path / "features").mkdir()
    features = write_features(tmp_path / "features", base, labels=("bad", "good"))
    trainings = Trainings(tmp_path / "trainings", features, base)
    caller = trainings.start()
    worker = trainings.wait_for_checkpoint()
    entries = Path(f"/proc/{worker}/environ").read_text().split("\0")
    environ = dict(entry.partition("=")[::2] for entry in entries if entry)
    caller.kill()
    caller.communicate()
    assert environ["GOMP_SPINCOUNT"] == "2000"
    assert environ["MALLOC_TOP_PAD_"] == str(1 << 28)
