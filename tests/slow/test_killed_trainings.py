"""Every engine, full and LoRA, killed in every way for real."""

from __future__ import annotations

import pytest

from killable_training import Trainings, assert_same, kill_in_every_way
from tiny_features import write_features
from tiny_models import make_bert

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("engine", ["loop", "trainer"])
def test_a_training_that_was_killed_in_every_way_ends_with_the_same_weights(engine, lora, tmp_path):
    base = make_bert(tmp_path / "bert", [f"w{number}" for number in range(60)])
    for name in ("features", "whole", "killed"):
        (tmp_path / name).mkdir()
    features = write_features(tmp_path / "features", base, labels=("bad", "good"))
    whole = Trainings(tmp_path / "whole", features, base, lora=lora, engine=engine).here()
    trainings = Trainings(tmp_path / "killed", features, base, lora=lora, engine=engine)
    kill_in_every_way(trainings)
    assert_same(trainings.here(), whole)
