from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from tiny_models import copy_without_dropout, make_mixtral
from tunesmith.errors import Preempted, TrainingError
from tunesmith.modeling.config import LoraConfig
from tunesmith.store.sealed import read_manifest
from tunesmith.training import checkpoints
from tunesmith.training.checkpoints import Checkpoints
from tunesmith.training.reporter import Reporter

ENGINES = pytest.mark.parametrize("engine", ["loop", "trainer"])


class Killed(BaseException):
    """As sudden as SIGKILL: nothing in the engines handles it."""


def die(*_):
    raise Killed


def killed_after(step):
    class KilledReporter(Reporter):
        def advance(self, at, epoch, num_examples):
            super().advance(at, epoch, num_examples)
            if at == step:
                raise Killed

    return KilledReporter


def killed_in(phase, occurrence=1):
    class KilledReporter(Reporter):
        left = occurrence

        def enter(self, now):
            super().enter(now)
            self.left -= now == phase
            if self.left == 0:
                raise Killed

    return KilledReporter


def stopped_after(step):
    class StoppedReporter(Reporter):
        def advance(self, at, epoch, num_examples):
            super().advance(at, epoch, num_examples)
            if at == step:
                self.stop()

    return StoppedReporter


def result(job):
    return read_manifest(job.result).header["facts"]["weights_sha256"], (job.result / "metrics.jsonl").read_bytes()


def rows(job):
    return [json.loads(line) for line in (job.result / "metrics.jsonl").read_text().splitlines()]


def step_of(folder):
    return None if folder is None else int(folder.name.removeprefix("step-"))


@ENGINES
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="full"),
        pytest.param({"lora": True}, id="lora"),
        pytest.param({"generation": True}, id="generation"),
        pytest.param({"lora": True, "quantization": "nf4"}, id="qlora"),
        pytest.param(
            {"lora": True, "quantization": "nf4", "generation": True, "precision": "bf16", "batching": "packed"},
            id="qlora, bf16, packed",
        ),
        pytest.param({"lora": True, "generation": True, "gradient_accumulation_steps": 2}, id="accumulation"),
        pytest.param({"precision": "bf16", "batching": "grouped"}, id="bf16, grouped"),
        pytest.param({"label_smoothing": 0.1, "class_weights": "balanced", "optimizer": "adafactor"}, id="weighted"),
    ],
)
def test_a_training_killed_again_and_again_ends_with_the_same_weights_and_rows(
    engine, options, tmp_path, make_job, train_here, monkeypatch
):
    whole = make_job(tmp_path / "whole", engine=engine, **options)
    train_here(whole)

    job = make_job(tmp_path / "killed", engine=engine, **options)
    last = 30 if options.get("gradient_accumulation_steps", 1) == 1 else 16
    with pytest.raises(Killed):  # before any checkpoint
        train_here(job, killed_after(2))
    with pytest.raises(Killed):  # after the checkpoint of step 4, between two rows
        train_here(job, killed_after(5))
    assert step_of(Checkpoints(job.work).find_newest()) == 4
    with monkeypatch.context() as patch:  # inside a save
        patch.setattr(checkpoints, "seal", die)
        with pytest.raises(Killed):
            train_here(job)
    with pytest.raises(Preempted):  # SIGTERM
        train_here(job, stopped_after(7))
    assert step_of(Checkpoints(job.work).find_newest()) == 7
    with pytest.raises(Killed):  # in the validation that ends an epoch
        train_here(job, killed_in("validating"))
    with pytest.raises(Killed):  # in the last epoch
        train_here(job, killed_after(last - 1))
    with pytest.raises(Killed):  # in the last validation
        train_here(job, killed_in("validating"))
    train_here(job)
    assert result(job) == result(whole)
    assert rows(job)[-1]["step"] == last
    assert read_manifest(job.result).header["facts"]["resumed_from_step"] is not None


@ENGINES
def test_sigterm_at_the_last_step_of_an_epoch_loses_nothing(engine, tmp_path, make_job, train_here):
    whole = make_job(tmp_path / "whole", engine=engine)
    train_here(whole)
    job = make_job(tmp_path / "stopped", engine=engine)
    with pytest.raises(Preempted):
        train_here(job, stopped_after(15))
    train_here(job)
    assert result(job) == result(whole)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient_accumulation_steps": 4},
        {"generation": True, "gradient_accumulation_steps": 2},
        {"lr_scheduler_type": "constant", "weight_decay": 0.5, "max_grad_norm": 0.1, "max_steps": 7},
        {"lr_scheduler_type": "cosine", "warmup_fraction": 0.0, "batching": "padded", "seed": 3},
        {"optimizer": "sgd", "label_smoothing": 0.1, "class_weights": {"bad": 2.0}, "gradient_accumulation_steps": 3},
        {"optimizer": "adafactor", "load_best_model_at_end": True, "lr_scheduler_type": "cosine"},
        {"num_epochs": 4, "logging_steps": 1, "precision": "fp32"},
    ],
)
def test_both_engines_train_the_same_weights_where_there_is_no_dropout(
    options, tmp_path, make_job, train_here, bert, llama
):
    jobs = [make_job(tmp_path / engine, engine=engine, **options) for engine in ("loop", "trainer")]
    for job in jobs:
        base = copy_without_dropout(job.base, tmp_path / f"{job.train.engine}-base")
        train_here(job.model_copy(update={"base": base}))
    loop, trainer = (load_file(job.result / "model" / "model.safetensors") for job in jobs)
    assert max(np.abs(loop[name] - trainer[name]).max() for name in loop) < 1e-6
    assert [row["step"] for row in rows(jobs[0])] == [row["step"] for row in rows(jobs[1])]
    for ours, theirs in zip(rows(jobs[0]), rows(jobs[1]), strict=True):
        assert ours["metrics"] == pytest.approx(theirs["metrics"], rel=1e-4)
    if options.get("logging_steps") == 1:
        losses = [[row["metrics"]["train/loss"] for row in rows(job) if "train/loss" in row["metrics"]] for job in jobs]
        assert len(losses[0]) == 60
        assert np.abs(np.subtract(*losses)).max() < 1e-6


@pytest.mark.parametrize("options", [{}, {"lora": True}, {"generation": True, "gradient_accumulation_steps": 2}])
def test_both_engines_drop_out_the_same_elements(options, tmp_path, make_job, train_here):
    jobs = [
        make_job(tmp_path / engine, engine=engine, precision="fp32", num_epochs=3, logging_steps=1, **options)
        for engine in ("loop", "trainer")
    ]
    for job in jobs:
        base = copy_with_dropout(job.base, tmp_path / f"{job.train.engine}-base")
        train_here(job.model_copy(update={"base": base}))
    for ours, theirs in zip(*map(rows, jobs), strict=True):
        assert ours["step"] == theirs["step"]
        losses = [{name: value for name, value in row["metrics"].items() if "loss" in name} for row in (ours, theirs)]
        assert losses[0] == pytest.approx(losses[1], abs=1e-6, rel=0)


def copy_with_dropout(base, target):
    """BERT has some; of Llama only the attention can have."""
    shutil.copytree(base, target)
    config = json.loads((base / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, "attention_dropout": 0.1}))
    return target


@ENGINES
@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("keeps", [True, False])
def test_nothing_is_kept_for_generation_while_training_and_the_model_is_saved_as_it_came(
    engine, lora, keeps, tmp_path, make_job, train_here, monkeypatch
):
    from tunesmith.training.prepared import prepare

    models, used = [], []

    class WatchingReporter(Reporter):
        def advance(self, at, epoch, num_examples):
            super().advance(at, epoch, num_examples)
            used.append(models[-1].config.use_cache)
            if at == 4 and len(used) == 4:
                raise Killed

    def prepare_and_remember(job):
        prepared = prepare(job)
        models.append(prepared.model)
        return prepared

    monkeypatch.setattr(f"tunesmith.training.{engine}.prepare", prepare_and_remember)
    job = make_job(tmp_path / "work", engine=engine, generation=True, lora=lora, max_steps=6, save_steps=2)
    base = shutil.copytree(job.base, tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "use_cache": keeps}))
    job = job.model_copy(update={"base": base})
    with pytest.raises(Killed):
        train_here(job, WatchingReporter)
    assert models[-1].config.use_cache is keeps
    train_here(job, WatchingReporter)
    assert not any(used)
    assert models[-1].config.use_cache is keeps
    if not lora:
        assert json.loads((job.result / "model" / "config.json").read_text())["use_cache"] is keeps


@ENGINES
def test_every_option_has_an_effect(engine, tmp_path, make_job, train_here):
    changes = {
        "max_steps": 11,
        "num_epochs": 1,
        "per_device_train_batch_size": 5,
        "gradient_accumulation_steps": 2,
        "num_processes": 3,  # here it does the parts of all
        "max_micro_batch_tokens": 12,
        "learning_rate": 2e-3,
        "weight_decay": 0.5,
        "optimizer": "adafactor",
        "warmup_fraction": 0.5,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.01,
        "label_smoothing": 0.2,
        "class_weights": {"good": 3.0},
        "precision": "bf16",
        "batching": "grouped",
        "seed": 1,
        "logging_steps": 7,
    }
    outcomes = set()
    for number, change in enumerate([{}, *({name: value} for name, value in changes.items())]):
        options = {"num_epochs": 2, "save_steps": 100, "precision": "fp32", **change}
        job = make_job(tmp_path / str(number), engine=engine, **options)
        train_here(job)
        outcomes.add(result(job))
    assert len(outcomes) == len(changes) + 1


@ENGINES
def test_the_rows_hold_the_step_metrics_and_each_epoch_s_losses(engine, tmp_path, make_job, train_here):
    job = make_job(tmp_path, engine=engine, max_steps=20)
    train_here(job)
    logged = {(row["step"], name) for row in rows(job) for name in row["metrics"]}
    for step in (3, 6, 9, 12, 15, 18, 20):
        assert {(step, f"train/{name}") for name in ("loss", "learning_rate", "grad_norm")} <= logged
    assert {step for step, name in logged if name == "validation/loss"} == {15, 20}
    assert rows(job)[-1]["epoch"] == pytest.approx(20 / 15)
    facts = read_manifest(job.result).header["facts"]
    assert facts["validation_loss"] == rows(job)[-1]["metrics"]["validation/loss"]
    assert facts["num_steps"] == 20


@ENGINES
@pytest.mark.parametrize(("num_epochs", "save_steps", "steps"), [(2, 4, [4, 8, 12, 16, 20, 24, 28]), (3, 15, [15, 30])])
def test_a_checkpoint_follows_every_so_many_steps_but_not_the_last(
    engine, num_epochs, save_steps, steps, tmp_path, make_job, train_here, monkeypatch
):
    job = make_job(tmp_path, engine=engine, num_epochs=num_epochs, save_steps=save_steps)
    positions = watch_checkpoints(monkeypatch)
    train_here(job)
    assert [position.step for position in positions] == steps
    assert [position.num_validated_epochs for position in positions] == [step // 15 for step in steps]


@ENGINES
def test_where_the_best_model_is_the_result_a_checkpoint_follows_each_validation_that_is_the_best_so_far(
    engine, tmp_path, make_job, train_here, monkeypatch
):
    job = make_job(tmp_path, engine=engine, num_epochs=4, save_steps=100, load_best_model_at_end=True)
    positions = watch_checkpoints(monkeypatch)
    train_here(job)
    losses = {row["step"]: loss for row in rows(job) if (loss := row["metrics"].get("validation/loss")) is not None}
    best = [step for step, loss in losses.items() if loss == min(losses[at] for at in losses if at <= step)]
    assert [position.step for position in positions] == [step for step in best if step != 60]
    assert [position.kept_step for position in positions] == [position.step for position in positions]
    assert positions


def watch_checkpoints(monkeypatch):
    """The positions of the checkpoints that are published from here on."""
    positions, publish = [], Checkpoints.publish

    def publish_and_remember(self, folder, position, *kept):
        positions.append(position)
        publish(self, folder, position, *kept)

    monkeypatch.setattr(Checkpoints, "publish", publish_and_remember)
    return positions


@ENGINES
def test_a_loss_that_is_not_finite_names_the_step_and_keeps_the_checkpoints(
    engine, tmp_path, make_job, train_here, monkeypatch
):
    models = []

    def prepare_and_remember(job):
        prepared = prepare(job)
        models.append(prepared.model)
        return prepared

    class PoisonedReporter(Reporter):
        def advance(self, at, epoch, num_examples):
            super().advance(at, epoch, num_examples)
            if at == 5:
                models[0].classifier.weight.data.fill_(float("nan"))

    from tunesmith.training.prepared import prepare

    monkeypatch.setattr(f"tunesmith.training.{engine}.prepare", prepare_and_remember)
    job = make_job(tmp_path, engine=engine)
    with pytest.raises(TrainingError, match=r"step 6: the loss is nan \(learning rate .*Lower train.learning_rate"):
        train_here(job, PoisonedReporter)
    assert step_of(Checkpoints(job.work).find_newest()) == 4


def test_an_adapter_is_the_same_file_on_every_machine(tmp_path, make_job, train_here):
    job = make_job(tmp_path, lora=True, max_steps=2)
    train_here(job)
    config = json.loads((job.result / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] is None
    assert config["target_modules"] == sorted(config["target_modules"])
    assert sorted(path.name for path in (job.result / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_the_adapter_of_experts_is_the_same_file_too(tmp_path, make_job, train_here):
    base = make_mixtral(tmp_path / "mixtral", ["once upon a time"])
    job = make_job(tmp_path / "work", generation=True, max_steps=2)
    train_here(job.model_copy(update={"base": base, "lora": LoraConfig(r=2)}))
    config = json.loads((job.result / "adapter" / "adapter_config.json").read_text())
    assert config["target_parameters"] == ["down_proj", "gate.weight", "gate_up_proj"]


def test_a_trained_model_loads_with_its_tokenizer(tmp_path, make_job, train_here):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    job = make_job(tmp_path, max_steps=2)
    train_here(job)
    model = AutoModelForSequenceClassification.from_pretrained(job.result / "model")
    assert model.config.id2label == {0: "bad", 1: "good"}
    assert AutoTokenizer.from_pretrained(job.result / "model")("w1 w2")["input_ids"]


STEADY = {
    **{"num_epochs": 6, "learning_rate": 2e-2, "lr_scheduler_type": "constant", "warmup_fraction": 0.0, "seed": 1},
    "batching": "grouped",
}
"""With this rate the validation loss is lowest in an epoch before the last, and a shorter training begins the same."""


def validations(job):
    return {row["step"]: row["metrics"]["validation/loss"] for row in rows(job) if "validation/loss" in row["metrics"]}


def facts(job):
    return read_manifest(job.result).header["facts"]


@ENGINES
@pytest.mark.parametrize("lora", [False, True])
def test_the_result_is_the_model_of_the_lowest_validation_loss(engine, lora, tmp_path, make_job, train_here):
    job = make_job(tmp_path / "best", engine=engine, lora=lora, load_best_model_at_end=True, **STEADY)
    train_here(job)
    losses = validations(job)
    best = min(losses, key=losses.get)
    assert best < max(losses) == 90
    assert (facts(job)["kept_step"], facts(job)["validation_loss"]) == (best, losses[best])
    assert facts(job)["stopped_early"] is False
    shorter = make_job(tmp_path / "shorter", engine=engine, lora=lora, **{**STEADY, "max_steps": best})
    train_here(shorter)
    assert facts(job)["weights_sha256"] == facts(shorter)["weights_sha256"]


@ENGINES
def test_training_stops_when_the_validation_loss_falls_no_more(engine, tmp_path, make_job, train_here):
    job = make_job(tmp_path, engine=engine, early_stopping_patience=2, **{**STEADY, "num_epochs": 30})
    train_here(job)
    losses = validations(job)
    best = min(losses, key=losses.get)
    assert [*losses][-1] == best + 2 * 15 < 30 * 15
    assert facts(job)["stopped_early"] is True
    assert (facts(job)["kept_step"], facts(job)["num_steps"]) == (best, best + 2 * 15)


@ENGINES
def test_a_training_that_stops_early_ends_the_same_however_it_was_killed(engine, tmp_path, make_job, train_here):
    options = {"engine": engine, "early_stopping_patience": 2, **STEADY, "num_epochs": 30}
    whole = make_job(tmp_path / "whole", **options)
    train_here(whole)
    last = facts(whole)["num_steps"]
    job = make_job(tmp_path / "killed", **options)
    for step in (last - 20, last - 14, last - 1):
        with pytest.raises(Killed):
            train_here(job, killed_after(step))
    train_here(job)
    assert result(job) == result(whole)
    (tmp_path / "again").mkdir()  # as if killed between the last save and the result
    again = make_job(tmp_path / "again", **options)
    (again.work / "checkpoints").symlink_to(job.work / "checkpoints")
    train_here(again)
    assert result(again) == result(whole)


@ENGINES
def test_a_damaged_best_model_sends_training_back(engine, tmp_path, make_job, train_here, caplog):
    options = {"engine": engine, "early_stopping_patience": 2, **STEADY, "num_epochs": 30}
    whole = make_job(tmp_path / "whole", **options)
    train_here(whole)
    best, last = facts(whole)["kept_step"], facts(whole)["num_steps"]
    job = make_job(tmp_path / "damaged", **options)
    with pytest.raises(Killed):
        train_here(job, killed_after(last - 1))
    weights = next((job.work / "checkpoints" / f"step-{best:08d}").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    train_here(job)
    assert f"the best model, of step {best}" in caplog.text
    assert result(job) == result(whole)
