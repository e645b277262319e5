"""Callbacks of the user's own: they are told of everything, may end a training, and change nothing else."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from killable_training import CLASSIFICATION
from tunesmith.errors import DataError, Preempted, UserError
from tunesmith.modeling.config import ModelConfig
from tunesmith.store.folder import FolderStore
from tunesmith.store.sealed import read_manifest
from tunesmith.training.config import TrainConfig
from tunesmith.training.reporter import Reporter
from tunesmith.training.train import derive_train, train

SOURCE = """
import json, os, pathlib
from transformers import EarlyStoppingCallback, ProgressCallback, TrainerCallback
from transformers.integrations import TensorBoardCallback

class Watch(TrainerCallback):
    def __init__(self):
        self.path = pathlib.Path(__file__).with_name("seen.jsonl")

    def write(self, event, **values):
        with self.path.open("a") as file:
            print(json.dumps({"event": event, **values}), file=file)

    def on_step_end(self, args, state, control, **kwargs):
        self.write("step", step=state.global_step)

    def on_log(self, args, state, control, logs, **kwargs):
        self.write("log", step=state.global_step, **logs)

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        self.write("evaluate", step=state.global_step, **metrics)

class Meddle(TrainerCallback):
    def ask(self, control):
        control.should_save = control.should_evaluate = control.should_log = control.should_epoch_stop = True

    def on_step_end(self, args, state, control, **kwargs):
        self.ask(control)

    def on_epoch_end(self, args, state, control, **kwargs):
        self.ask(control)

class Stop(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == 11

class StopWhenValidated(TrainerCallback):
    def on_evaluate(self, args, state, control, **kwargs):
        control.should_training_stop = True

class StopWhereSaved(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == 8

class StopWhenSaved(TrainerCallback):
    def on_save(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == 8
        control.should_epoch_stop = True

class StopInOne(TrainerCallback):
    def on_save(self, args, state, control, **kwargs):
        control.should_training_stop = os.environ["RANK"] == "1"

class Write(TrainerCallback):
    def on_train_end(self, args, state, control, **kwargs):
        pathlib.Path("written.txt").write_text(str(state.global_step))

class NoBoard(TensorBoardCallback):
    def __init__(self):
        raise RuntimeError("TensorBoardCallback requires tensorboard to be installed")

class Fail(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        raise KeyError("accuracy")

class Needy(TrainerCallback):
    def __init__(self, folder):
        pass

def function(row):
    return row
"""


@pytest.fixture
def with_callbacks(tmp_path):
    (tmp_path / "watching.py").write_text(SOURCE)

    def make(*names):
        paths = [{"path": f"watching:{name}"} for name in names]
        section = {"engine": "trainer", "callbacks": paths}
        found = TrainConfig.model_validate_json(json.dumps(section), context={"folder": tmp_path})
        return {"engine": "trainer", "callbacks": found.callbacks}

    return make


def read_rows(job):
    return [json.loads(line) for line in (job.result / "metrics.jsonl").read_text().splitlines()]


def test_they_are_told_of_each_step_row_and_validation_and_change_nothing(
    tmp_path, make_job, train_here, with_callbacks
):
    plain = make_job(tmp_path / "plain", engine="trainer")
    watched = make_job(tmp_path / "watched", **with_callbacks("Watch", "Meddle"))
    for job in (plain, watched):
        train_here(job)
    assert (watched.result / "metrics.jsonl").read_bytes() == (plain.result / "metrics.jsonl").read_bytes()
    shas = [read_manifest(job.result).header["facts"]["weights_sha256"] for job in (plain, watched)]
    assert shas[0] == shas[1]

    seen = [json.loads(line) for line in (tmp_path / "seen.jsonl").read_text().splitlines()]
    assert [event["step"] for event in seen if event["event"] == "step"] == list(range(1, 31))
    rows = read_rows(watched)
    losses = {row["step"]: row["metrics"]["train/loss"] for row in rows if "train/loss" in row["metrics"]}
    assert {event["step"]: event["loss"] for event in seen if "loss" in event} == losses
    validations = [(row["step"], row["metrics"]["validation/loss"]) for row in rows if len(row["metrics"]) == 2]
    assert [(event["step"], event["eval_loss"]) for event in seen if event["event"] == "evaluate"] == validations
    assert len(validations) == 2


def test_one_that_ends_the_training_leaves_a_validated_model(tmp_path, make_job, train_here, with_callbacks):
    job = make_job(tmp_path / "work", **with_callbacks("Stop"))
    train_here(job)
    facts = read_manifest(job.result).header["facts"]
    assert facts["num_steps"] == 11
    assert read_rows(job)[-1]["step"] == 11
    assert facts["validation_loss"] == read_rows(job)[-1]["metrics"]["validation/loss"]


class StoppedInValidation(Reporter):
    """Told to stop while the first validation is under way."""

    def log(self, row):
        super().log(row)
        if "validation/loss" in row["metrics"]:
            self.stop()


class Killed(BaseException):
    """As sudden as SIGKILL."""


class KilledInValidation(Reporter):
    """Killed behind step 8, before the validation is over."""

    def log(self, row):
        if "validation/loss" in row["metrics"] and row["step"] == 8:
            raise Killed
        super().log(row)


@pytest.mark.parametrize(
    ("name", "reporter", "error", "step"),
    [
        ("StopWhenValidated", StoppedInValidation, Preempted, 15),
        ("StopWhereSaved", KilledInValidation, Killed, 8),
        ("StopWhenSaved", KilledInValidation, Killed, 8),
    ],
)
def test_a_training_that_one_has_ended_goes_no_further_after_a_crash(
    name, reporter, error, step, tmp_path, make_job, train_here, with_callbacks
):
    whole, crashed = (make_job(tmp_path / work, **with_callbacks(name)) for work in ("whole", "crashed"))
    train_here(whole)
    with pytest.raises(error):
        train_here(crashed, reporter)
    train_here(crashed)
    facts, expected = (read_manifest(job.result).header["facts"] for job in (crashed, whole))
    assert facts["num_steps"] == expected["num_steps"] == step
    assert facts["weights_sha256"] == expected["weights_sha256"]
    assert read_rows(crashed) == read_rows(whole)


@pytest.mark.timeout(120)
def test_one_of_several_processes_that_ends_the_training_ends_it_in_all(
    tmp_path, make_job, train_in_processes, with_callbacks
):
    job = make_job(tmp_path / "work", num_processes=2, **with_callbacks("StopInOne"))
    train_in_processes(job)
    facts = read_manifest(job.result).header["facts"]
    assert facts["num_steps"] == read_rows(job)[-1]["step"] == 4


def test_relative_paths_are_those_of_the_folder_of_the_run(tmp_path, features, bert, with_callbacks, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "json.py").write_text("raise SystemExit('the users own module, which is not the library')")
    config = TrainConfig(**with_callbacks("Write"), max_steps=2)
    train(features, CLASSIFICATION, ModelConfig(base=str(bert)), config, FolderStore(tmp_path / "store"))
    assert (tmp_path / "written.txt").read_text() == "2"


def test_what_one_of_transformers_own_raises_is_told_too(tmp_path, make_job, train_here, with_callbacks, monkeypatch):
    def fail(self, *_args, **_kwargs):
        raise AssertionError("nothing to log to")

    monkeypatch.setattr("transformers.ProgressCallback.on_train_begin", fail)
    with pytest.raises(UserError, match="watching:ProgressCallback raised AssertionError: nothing to log to"):
        train_here(make_job(tmp_path / "work", **with_callbacks("Watch", "ProgressCallback")))
    with pytest.raises(UserError, match="watching:NoBoard raised RuntimeError: TensorBoardCallback requires"):
        train_here(make_job(tmp_path / "other", **with_callbacks("NoBoard")))


def test_what_one_raises_is_told_with_its_line(tmp_path, features, bert, with_callbacks):
    config, model = TrainConfig(**with_callbacks("Fail")), ModelConfig(base=str(bert))
    with pytest.raises(UserError, match=r"watching:Fail raised KeyError: 'accuracy' \(watching\.py:\d+\)\. Correct it"):
        train(features, CLASSIFICATION, model, config, FolderStore(tmp_path / "store"))


def test_what_cannot_be_called_back_is_refused_before_anything_is_trained(tmp_path, features, bert, with_callbacks):
    def derive(*names):
        config, store = TrainConfig(**with_callbacks(*names)), FolderStore(tmp_path / "store")
        return derive_train(features, CLASSIFICATION, ModelConfig(base=str(bert)), config, store)

    with pytest.raises(UserError, match=r"watching:function is not derived from transformers.TrainerCallback"):
        derive("function")
    with pytest.raises(UserError, match=r"watching:Needy .* needs some \(missing a required argument: 'folder'\)"):
        derive("Needy")
    with pytest.raises(DataError, match=r"watching\.py has no function 'Wach' .* Did you mean Watch"):
        derive("Wach")
    with pytest.raises(UserError, match=r"watching:EarlyStoppingCallback .* Set train\.early_stopping_patience"):
        derive("EarlyStoppingCallback")
    before = derive("Watch").key
    assert derive("Stop").key != before
    (tmp_path / "watching.py").write_text(SOURCE + "\n# another version\n")
    assert derive("Watch").key != before


def test_the_loop_calls_nobody_back_and_a_callback_gets_no_batches(with_callbacks):
    (watch,) = with_callbacks("Watch")["callbacks"]
    with pytest.raises(ValidationError, match="called by the engine trainer alone"):
        TrainConfig(engine="loop", callbacks=(watch,))
    batched = watch.model_copy(update={"batched": True})
    with pytest.raises(ValidationError, match="has no effect on a callback"):
        TrainConfig(engine="trainer", callbacks=(batched,))
