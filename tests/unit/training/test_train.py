"""Real training processes: how they end, and what is left for the next one. Each takes some seconds to start."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import pytest

from killable_training import CLASSIFICATION, Told, Trainings, assert_same, kill_in_every_way
from tiny_models import make_mixtral
from tunesmith.errors import ModelError, TrainingError, UserError
from tunesmith.kinds.text_generation import TextGeneration
from tunesmith.modeling.config import LoraConfig, ModelConfig
from tunesmith.store import folder
from tunesmith.store.folder import FolderStore
from tunesmith.store.sealed import seal
from tunesmith.training import launcher
from tunesmith.training.config import TrainConfig
from tunesmith.training.job import Job
from tunesmith.training.lock import hold
from tunesmith.training.ranks import start_ranks
from tunesmith.training.train import derive_train, discard_leftovers, train

GENERATION = TextGeneration(kind="text-generation", text="text")


@pytest.mark.timeout(600)  # six processes that import torch: 40 s on an idle machine
def test_a_training_that_was_killed_in_every_way_ends_with_the_same_weights_and_tells_each_row(
    tmp_path, features, bert
):
    told, told_at_the_end = Told(), Told()
    (tmp_path / "whole").mkdir()
    undisturbed = Trainings(tmp_path / "whole", features, bert)
    whole = undisturbed.here(told)
    assert told.calls == [("started", whole.key, None), ("ended", "FINISHED")]
    assert told.rows_seen == [json.loads(line) for line in (whole.folder / "metrics.jsonl").read_text().splitlines()]
    assert undisturbed.here(told).is_cached
    assert len(told.calls) == 2
    assert not undisturbed.work.exists()

    (tmp_path / "killed").mkdir()
    trainings = Trainings(tmp_path / "killed", features, bert)
    kill_in_every_way(trainings)
    step = trainings.newest_step()
    ref = trainings.here(told_at_the_end)
    assert_same(ref, whole)
    assert ref.facts["resumed_from_step"] == step
    assert told_at_the_end.calls == [("started", ref.key, step), ("ended", "FINISHED")]
    assert told_at_the_end.rows_seen == told.rows_seen
    assert not trainings.work.exists()


def test_of_two_that_want_the_same_candidate_one_trains_it_and_the_other_waits_until_it_is_there(
    tmp_path, features, bert, monkeypatch
):
    def seal_slowly(*arguments):
        time.sleep(1.0)
        seal(*arguments)

    monkeypatch.setattr(folder, "seal", seal_slowly)
    trainings, told, refs = Trainings(tmp_path, features, bert), Told(), []
    threads = [threading.Thread(target=lambda: refs.append(trainings.here(told))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = refs
    assert_same(second, first)
    assert told.calls == [("started", first.key, None), ("ended", "FINISHED")]
    assert not trainings.work.exists()


def test_what_another_attempt_has_left_is_deleted_unless_a_process_is_at_it(tmp_path, features, bert):
    trainings = Trainings(tmp_path, features, bert, max_steps=2, num_epochs=1)
    ref = trainings.here()
    left = trainings.store.work_folder(ref.kind, ref.key) / "checkpoints"
    left.mkdir()
    with hold(trainings.work):
        discard_leftovers(ref, trainings.store)
        assert left.exists()
    discard_leftovers(ref, trainings.store)
    assert not trainings.work.exists()
    discard_leftovers(ref, trainings.store)
    assert not trainings.work.exists()


def test_what_can_be_refused_before_anything_is_loaded_is_told_at_once(tmp_path, features, bert):
    model = ModelConfig(base=str(bert), lora=LoraConfig(target_modules=("qury",)))
    config = TrainConfig(per_device_train_batch_size=64, class_weights={"god": 2.0})
    with pytest.raises(UserError, match=r"(?s)'qury'.*Did you mean 'query'.*'god'.*Did you mean good.*has 58") as told:
        derive_train(features, CLASSIFICATION, model, config, FolderStore(tmp_path))
    assert str(told.value).count("\n") == 2


def test_what_cannot_be_made_of_a_mixture_of_experts_is_told_at_once(tmp_path, blocks):
    base = make_mixtral(tmp_path / "mixtral", ["once upon a time"])
    for options, message in (
        ({"lora": LoraConfig(lora_dropout=0.1)}, r"^model\.lora: .*lora_dropout != 0\. Change"),
        ({"lora": LoraConfig(), "quantization": "nf4"}, r"^model\.quantization: .*mixture of experts"),
    ):
        model = ModelConfig(base=str(base), **options)
        with pytest.raises(ModelError, match=message):
            derive_train(blocks, GENERATION, model, TrainConfig(), FolderStore(tmp_path))


def test_a_user_s_mistake_that_the_process_meets_comes_back_as_such(tmp_path, features, bert):
    model = ModelConfig(base=str(bert), lora=LoraConfig(target_modules=("word_embeddings",)))
    with pytest.raises(ModelError, match=r"no linear layer 'word_embeddings'.*Its linear layers: dense, key"):
        train(features, CLASSIFICATION, model, TrainConfig(), FolderStore(tmp_path))


def test_how_much_is_trained_is_said_and_kept(tmp_path, features, bert, caplog):
    caplog.set_level("INFO", logger="tunesmith")
    model = ModelConfig(base=str(bert), lora=LoraConfig(r=2, target_modules=("query",)))
    ref = train(features, CLASSIFICATION, model, TrainConfig(num_epochs=30, precision="fp32"), FolderStore(tmp_path))
    total, trained = ref.facts["num_parameters"], ref.facts["num_trainable_parameters"]
    assert 0 < trained < total / 5
    assert f"train: on cpu in fp32, {trained:,} ({trained / total:.2%}) of {total:,} weights" in caplog.text
    assert (
        "batches packed (the model computes without padding, its last layer for the first tokens alone)" in caplog.text
    )
    assert ref.facts["batching"] == "packed"
    assert 0 < ref.facts["padding_fraction"] < 0.1  # what a pack is filled up with
    model = ModelConfig(base=str(bert))
    ref = train(features, CLASSIFICATION, model, TrainConfig(num_epochs=30, precision="fp32"), FolderStore(tmp_path))
    total = ref.facts["num_parameters"]
    assert f"all of {total:,} weights but the embeddings of 91 tokens that never come" in caplog.text


def test_a_crash_is_told_by_its_last_line_and_the_path_of_the_log(tmp_path, features, bert):
    broken = features.model_copy(update={"uri": str(tmp_path / "nowhere")})
    with pytest.raises(TrainingError, match=r"exit code 1: FileNotFoundError.*nowhere.*worker\.log"):
        train(broken, CLASSIFICATION, ModelConfig(base=str(bert)), TrainConfig(), FolderStore(tmp_path))


def test_the_last_rows_of_a_training_that_fails_are_told_for_they_say_why(tmp_path, features, bert, monkeypatch):
    row, told = {"step": 7, "metrics": {"train/loss": 9e9}}, Told()
    error = {"type": "TrainingError", "message": "step 8: the loss is nan"}

    def fail_at_once(command, *others):
        job = Job.model_validate_json(Path(command[-1]).read_bytes())
        files = {str(job.spool): json.dumps(row) + "\n", str(job.error): json.dumps(error)}
        script = f"[open(path, 'w').write(text) for path, text in {files!r}.items()]; exit(1)"
        return start_ranks([sys.executable, "-c", script], *others)

    monkeypatch.setattr(launcher, "start_ranks", fail_at_once)
    with pytest.raises(TrainingError, match="step 8"):
        Trainings(tmp_path, features, bert).here(told)
    assert told.rows_seen == [row]
    assert told.calls[-1] == ("ended", "FAILED")


def test_the_checkpoint_interval_is_not_in_the_key_and_the_engine_s_code_is(tmp_path, features, bert):
    def derive(**changes):
        config = TrainConfig(**changes)
        return derive_train(features, CLASSIFICATION, ModelConfig(base=str(bert)), config, FolderStore(tmp_path))

    assert derive(save_steps=3).key == derive().key
    assert derive(logging_steps=3).key != derive().key
    code = derive().ingredients["code"]
    assert "tunesmith.training.loop" in code
    assert "tunesmith.kinds.text_classification" in code
    for other in ("training.trainer", "training.launcher", "training.progress", "kinds.text_generation"):
        assert f"tunesmith.{other}" not in code
    assert "peft" not in derive().ingredients["libraries"]
