"""Every engine, full and LoRA, on features and on a stream: killed 30 times, anywhere, the weights are the same."""

from __future__ import annotations

import pytest

from chaos import MAPPED, STREAMED, Chaos, assert_unharmed, draw_kills
from killable_training import Trainings, assert_same, kill_in_every_way, stop_rank
from streamed_features import stream_features
from tiny_features import write_features
from tiny_models import make_bert

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

NUM_SIGKILLS, NUM_SIGTERMS = 20, 10


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("engine", ["loop", "trainer"])
@pytest.mark.parametrize("source", ["features", "stream"])
def test_a_training_that_is_killed_thirty_times_ends_with_the_same_weights_and_each_row_once(
    source, engine, lora, tmp_path, monkeypatch, capsys
):
    base = make_bert(tmp_path / "bert", [f"w{number}" for number in range(60)])
    (tmp_path / "data").mkdir()
    if source == "stream":
        made = stream_features(tmp_path / "data", base, monkeypatch)
        features, options = made.features, {"stream": made.stream, **STREAMED}
    else:
        features, options = write_features(tmp_path / "data", base, labels=("bad", "good")), MAPPED

    def make_trainings(name):
        return Trainings(tmp_path / name, features, base, lora=lora, engine=engine, **options)

    whole = make_trainings("whole").here()
    kills = draw_kills(f"{source} {engine} {lora}", NUM_SIGKILLS, NUM_SIGTERMS)
    chaos = Chaos(make_trainings)
    chaos.run(kills)
    with capsys.disabled():
        print(f"\n{source}, {engine}, {'lora' if lora else 'full'}: {chaos.summary()}")
    assert_unharmed(chaos, whole, kills)


@pytest.mark.parametrize("fsdp", [False, True], ids=["whole", "fsdp"])
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("engine", ["loop", "trainer"])
def test_three_processes_that_are_killed_in_every_way_end_with_the_same_weights(engine, lora, fsdp, tmp_path):
    base = make_bert(tmp_path / "bert", [f"w{number}" for number in range(60)])
    (tmp_path / "features").mkdir()
    features = write_features(tmp_path / "features", base, labels=("bad", "good"))
    # As many steps as one process takes in 5 epochs, with more validations and checkpoints among them.
    options = {"lora": lora, "engine": engine, "num_processes": 3, "num_epochs": 15, "fsdp": fsdp}
    whole = Trainings(tmp_path / "whole", features, base, **options).here()
    trainings = Trainings(tmp_path / "killed", features, base, **options)
    kill_in_every_way(trainings)
    stop_rank(trainings, 2)
    assert_same(trainings.here(), whole)
