"""What training begins from, with a real registry."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from champions import CLASSIFICATION, LORA, Retraining, make_rows
from databases import copy_mlflow_database
from tiny_models import make_bert
from tunesmith.data.row_sets import read_rows
from tunesmith.environment import MLFLOW_ENVIRONMENT
from tunesmith.errors import DataError, ModelError, UserError
from tunesmith.features.files import read_split
from tunesmith.kinds.text_classification import TextClassification
from tunesmith.kinds.text_generation import TextGeneration
from tunesmith.modeling.config import LoraConfig
from tunesmith.tracking.client import mlflow_client
from tunesmith.tracking.config import TrackingConfig

OLD, MORE = range(40), range(60)
"""The rows that train; more is appended to the old."""


@pytest.fixture(scope="session", autouse=True)
def _quiet_mlflow():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in MLFLOW_ENVIRONMENT.items():
            patch.setenv(name, value)
        yield


@pytest.fixture
def retraining(tmp_path, bert) -> Retraining:
    database = tmp_path / "home" / "mlflow.db"
    copy_mlflow_database(database)
    return Retraining(tmp_path, bert, TrackingConfig(uri=f"sqlite:///{database}", experiment="sentiment"))


def begun_from(start):
    point = start.facts["start"]
    return None if point is None else point["version"]


def counts(start):
    return tuple(start.facts[f"num_{name}_rows"] for name in ("new", "old", "replayed"))


def test_without_a_champion_training_begins_from_the_base_model_and_is_the_same_as_when_asked_to(retraining, caplog):
    caplog.set_level("INFO", logger="tunesmith")
    data = retraining.data(OLD)
    start = retraining.start(data)
    assert (start.facts["asked"], start.facts["start"], counts(start)) == ("champion", None, (40, 0, 0))
    assert "start: there is no champion yet; training begins from the base model." in caplog.messages
    assert retraining.train_key(data) == retraining.train_key(data, retraining.model(start="base"))


def test_new_rows_begin_from_the_champion_and_all_of_them_are_trained_on_with_a_share_of_the_old(retraining):
    retraining.promote(retraining.data(OLD))
    data, model = retraining.data(MORE), retraining.model(replay_fraction=0.4)
    start = retraining.start(data, model)
    assert begun_from(start) == 1
    num_new, num_old, num_replayed = counts(start)
    assert (num_new, num_old) == (20, 40)
    assert 6 < num_replayed < 28
    chosen = np.load(start.folder / "examples.npy").tolist()
    assert chosen[-20:] == list(range(40, 60))
    assert len(chosen) == start.facts["num_examples"] == 20 + num_replayed
    assert read_rows(start.folder / "rows.u64").tolist() == list(MORE)

    further = retraining.start(retraining.data(range(80)), model)
    assert np.load(further.folder / "examples.npy").tolist() == [*chosen, *range(60, 80)]
    everything = retraining.start(data)
    assert counts(everything) == (20, 40, 40)
    assert not (everything.folder / "examples.npy").exists()
    assert counts(retraining.start(data, retraining.model(replay_fraction=0.0))) == (20, 40, 0)


def test_the_same_rows_have_nothing_to_do_also_when_their_own_candidate_has_become_the_champion(retraining):
    old, more = retraining.data(OLD), retraining.data(MORE)
    first = retraining.train_key(old)
    retraining.promote(old)
    assert retraining.train_key(old) == first
    second = retraining.train_key(more)
    assert begun_from(retraining.start(more)) == 1
    retraining.promote(more)
    assert begun_from(retraining.start(more)) == 1
    assert retraining.train_key(more) == second
    assert retraining.start(more).is_cached
    assert begun_from(retraining.start(retraining.data(range(80)))) == 2


def test_rows_that_a_model_of_the_line_was_trained_on_lead_back_to_where_its_training_began(retraining):
    datas = [retraining.data(rows) for rows in (OLD, MORE, range(20, 80))]
    keys = []
    for data in datas:
        keys.append(retraining.train_key(data))
        retraining.promote(data)
    assert [retraining.train_key(data) for data in datas] == keys
    assert [begun_from(retraining.start(data)) for data in datas] == [None, 1, 2]


def test_what_the_models_before_the_champion_have_seen_is_not_new(retraining):
    retraining.promote(retraining.data(range(30)))
    retraining.promote(retraining.data(range(30, 60)))
    assert counts(retraining.start(retraining.data(range(90)), retraining.model(replay_fraction=0.0))) == (30, 60, 0)


def test_other_settings_for_the_same_rows_begin_where_the_champion_began(retraining):
    old, more = retraining.data(OLD), retraining.data(MORE)
    retraining.promote(old)
    other = retraining.train_key(more, learning_rate=1e-3)
    retraining.promote(more)
    assert retraining.train_key(more, learning_rate=1e-3) == other != retraining.train_key(more)


def test_after_a_rollback_training_begins_from_the_version_in_use(retraining):
    old, more = retraining.data(OLD), retraining.data(MORE)
    retraining.promote(old)
    key = retraining.train_key(more)
    retraining.promote(more)
    retraining.roll_back(1)
    assert retraining.train_key(more) == key
    assert begun_from(retraining.start(retraining.data(range(80)))) == 1


def test_a_version_that_is_registered_no_more_costs_one_training_and_no_endless_ones(retraining):
    retraining.promote(retraining.data(OLD))
    more = retraining.data(MORE)
    retraining.promote(more)
    with mlflow_client(retraining.tracking) as client:
        client.delete_model_version("sentiment", "1")
    key = retraining.train_key(more)
    assert begun_from(retraining.start(more)) == 2
    retraining.promote(more)
    assert retraining.train_key(more) == key


def test_rows_of_which_none_is_new_or_replayed_begin_where_there_is_something_to_learn(retraining):
    retraining.promote(retraining.data(OLD))
    fewer = retraining.data(range(5, 40))
    assert begun_from(retraining.start(fewer, retraining.model(replay_fraction=0.0))) is None
    assert begun_from(retraining.start(fewer)) == 1


def test_how_much_is_replayed_is_in_the_key_and_where_the_champion_lies_is_not(retraining):
    retraining.promote(retraining.data(OLD))
    more = retraining.data(MORE)
    key = retraining.train_key(more)
    assert retraining.train_key(more, retraining.model(replay_fraction=0.5)) != key
    assert retraining.train_key(more, retraining.model(start="base")) != key
    retraining.forget("start", "export", "train", "weights", "seen_rows")
    assert retraining.train_key(more) == key


def damage(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


def weights_of(version, retraining):
    return retraining.artifacts(version) / "model" / "model.safetensors"


def test_a_damaged_copy_in_the_store_is_not_used_and_mlflow_s_is(retraining, caplog):
    first = retraining.promote(retraining.data(OLD))
    expected = weights_of(1, retraining).read_bytes()
    damage(first.exported.folder / "model" / "model.safetensors")
    start = retraining.start(retraining.data(MORE))
    assert (start.folder / "model" / "model.safetensors").read_bytes() == expected
    assert "models:/sentiment/1: model is damaged" in caplog.text


def test_a_store_that_was_cleaned_gets_everything_from_mlflow(retraining):
    retraining.promote(retraining.data(OLD))
    retraining.forget("export", "train", "weights", "seen_rows")
    start = retraining.start(retraining.data(MORE))
    assert counts(start) == (20, 40, 40)
    assert (start.folder / "model" / "tunesmith.json").is_file()


@pytest.mark.parametrize("name", ["model/model.safetensors", "model/config.json", "rows.u64"])
@pytest.mark.parametrize("fault", ["flip", "delete"])
def test_nothing_begins_from_files_that_are_damaged_or_gone_everywhere(retraining, name, fault):
    retraining.promote(retraining.data(OLD))
    retraining.forget("export", "train", "weights", "seen_rows")
    path = retraining.artifacts(1) / name
    damage(path) if fault == "flip" else path.unlink()
    with pytest.raises(ModelError, match=r"models:/sentiment/1: its .* cannot be used.*set model\.start: base"):
        retraining.start(retraining.data(MORE))
    assert not (retraining.store.root / "artifacts" / "start").exists() or not [
        ref for ref in retraining.store.list_requests("start") if ref.facts["start"]
    ]


def test_a_fetched_champion_that_is_damaged_later_is_fetched_again(retraining):
    retraining.promote(retraining.data(OLD))
    more = retraining.data(MORE)
    weights = retraining.start(more).folder / "model" / "model.safetensors"
    expected = weights.read_bytes()
    damage(weights)
    again = retraining.start(more)
    assert again.reason == "damaged: model/model.safetensors does not match its sha256"
    assert (again.folder / "model" / "model.safetensors").read_bytes() == expected


def test_a_champion_of_another_kind_base_label_set_or_adapter_is_refused_and_says_what_to_do(retraining, tmp_path):
    retraining.promote(retraining.data(OLD), retraining.model(lora=LORA))
    more = retraining.data(MORE)
    with pytest.raises(ModelError, match=r"has lora_alpha 16, not 32, r 2, not 8\. Write what it has"):
        retraining.start(more, retraining.model(lora=LoraConfig(r=8, lora_alpha=32)))
    other = make_bert(tmp_path / "other", ["w1"])
    with pytest.raises(ModelError, match=r"another base model than model.base, .*other.*Set model.start: base"):
        retraining.start(more, retraining.model(base=str(other)))

    def with_a_third(numbers):
        rows = make_rows(numbers)
        return rows.set_column(2, "verdict", pa.array([["bad", "good", "so-so"][number % 3] for number in numbers]))

    with pytest.raises(ModelError, match=r"knows the labels 'bad', 'good'; the rows have 'bad', 'good', 'so-so'"):
        retraining.start(retraining.data(MORE, rows=with_a_third))
    retraining.examples = TextClassification(kind="text-classification", text="review", label="verdict")
    with mlflow_client(retraining.tracking) as client:
        lineage = json.loads(client.get_model_version("sentiment", "1").tags["tunesmith.lineage"])
        lineage["training"]["kind"] = "text-generation"
        client.set_model_version_tag("sentiment", "1", "tunesmith.lineage", json.dumps(lineage))
    with pytest.raises(ModelError, match=r"is for text-generation, the recipe for text-classification"):
        retraining.start(more)


def test_a_champion_whose_adapter_was_trained_on_quantized_weights_is_begun_from_as_it_was_merged(retraining):
    model, more = retraining.model(lora=LORA), retraining.data(MORE)
    retraining.promote(retraining.data(OLD), model)
    assert retraining.start(more, model).facts["part"] == "adapter"
    with mlflow_client(retraining.tracking) as client:
        lineage = json.loads(client.get_model_version("sentiment", "1").tags["tunesmith.lineage"])
        lineage["training"]["quantization"] = "nf4"
        client.set_model_version_tag("sentiment", "1", "tunesmith.lineage", json.dumps(lineage))
    assert retraining.start(more, model).facts["part"] == "model"
    assert retraining.start(more, retraining.model(lora=LoraConfig(r=8))).facts["part"] == "model"


def test_the_schedule_is_that_of_the_rows_that_are_trained_on(retraining):
    retraining.promote(retraining.data(OLD))
    data = retraining.data(MORE)
    model = retraining.model(replay_fraction=0.0)
    num_chosen, num_all = retraining.start(data, model).facts["num_examples"], data.features.facts["num_examples"]
    assert num_chosen < num_all["train"] / 2
    steps = -(-num_chosen // 4)
    best = {"load_best_model_at_end": True, "num_epochs": 3}
    assert retraining.train_key(data, model, max_steps=steps + 1, **best)
    with pytest.raises(UserError, match=rf"max_steps \({steps}\) ends the training in its first epoch"):
        retraining.train_key(data, model, max_steps=steps, **best)


def test_a_champion_of_which_nobody_knows_the_rows_is_refused(retraining):
    data = retraining.data(OLD)
    with mlflow_client(retraining.tracking) as client:
        client.create_registered_model("sentiment")
        client.create_model_version("sentiment", source=(retraining.folder / "theirs").as_uri())
        client.set_registered_model_alias("sentiment", "champion", "1")
    with pytest.raises(ModelError, match=r"without a word on its training.*Set model.start: base for one run"):
        retraining.start(data)


def test_test_rows_that_have_trained_the_champion_are_refused(retraining):
    retraining.promote(retraining.data(OLD))
    with pytest.raises(DataError, match=r"3 of 12 test rows have trained models:/sentiment/1"):
        retraining.start(retraining.data(range(10, 60), test=[0, 1, 2, *range(9000, 9009)]))


def test_validation_rows_that_have_trained_the_champion_are_refused(retraining):
    retraining.promote(retraining.data(OLD))
    told = r"2 of 6 validation rows have trained models:/sentiment/1.*best model would be chosen by rows that it knows"
    with pytest.raises(DataError, match=told):
        retraining.start(retraining.data(range(10, 60), validation=[0, 1, *range(8000, 8004)]))


def test_what_training_began_from_is_in_mlflow(retraining):
    retraining.promote(retraining.data(OLD))
    retraining.promote(retraining.data(MORE))
    with mlflow_client(retraining.tracking) as client:
        versions = [client.get_model_version("sentiment", str(number)) for number in (1, 2)]
        told = ["the base model", "version 1"]
        assert [version.tags["tunesmith.start"] for version in versions] == told
        assert [client.get_run(version.run_id).data.tags["tunesmith.start"] for version in versions] == told
    assert read_rows(retraining.artifacts(2) / "rows.u64").tolist() == list(MORE)


def logits(model, batch):
    import torch

    with torch.no_grad():
        return model.eval()(**{name: values for name, values in batch.items() if name != "labels"}).logits


FORMS = {
    "full from full": (None, None, "model"),
    "full from an adapter": (LORA, None, "model"),
    "an adapter goes on": (LORA, LoraConfig(r=2, lora_dropout=0.3), "adapter"),
    "an adapter on a full model": (None, LORA, "model"),
}


@pytest.mark.parametrize("engine", ["loop", "trainer"])
@pytest.mark.parametrize("form", FORMS)
def test_training_begins_with_what_the_champion_answers(form, engine, retraining, tmp_path, train_here):
    import torch
    from test_engines import Killed, killed_after, result

    from tunesmith.modeling.load import load_trained
    from tunesmith.training.prepared import prepare

    before, now, part = FORMS[form]
    first = retraining.promote(retraining.data(OLD), retraining.model(lora=before))
    data, model = retraining.data(MORE), retraining.model(lora=now, replay_fraction=0.5)
    job = retraining.job(tmp_path / "whole", data, model, engine=engine)
    prepared = prepare(job)
    assert len(prepared.train) == retraining.start(data, model).facts["num_examples"] < 60
    batch = prepared.validation_batch(np.arange(6))
    champion = load_trained(first.candidate.folder, retraining.base, CLASSIFICATION, job.labels)
    torch.testing.assert_close(logits(prepared.model, batch), logits(champion, batch), rtol=0, atol=2e-6)

    train_here(job)
    assert sorted(path.name for path in job.result.iterdir() if path.is_dir()) == [part]
    killed = retraining.job(tmp_path / "killed", data, model, engine=engine)
    with pytest.raises(Killed):
        train_here(killed, killed_after(4))
    train_here(retraining.job(tmp_path / "killed", data, model, engine=engine))
    assert result(killed) == result(job)
    trained = load_trained(job.result, retraining.base, CLASSIFICATION, job.labels)
    assert 0 < (logits(trained, batch) - logits(champion, batch)).abs().max() < 1


def test_a_generation_champion_goes_on_with_all_blocks_that_hold_a_new_row(retraining, llama, tmp_path, train_here):
    import torch

    from tunesmith.modeling.load import load_trained
    from tunesmith.training.prepared import prepare

    retraining.base = llama
    retraining.examples = TextGeneration(kind="text-generation", text="review", max_new_tokens=8)
    first = retraining.promote(retraining.data(OLD))
    data, model = retraining.data(MORE), retraining.model(replay_fraction=0.5)
    start = retraining.start(data, model)
    assert counts(start)[:2] == (20, 40)
    begins = [
        int(name.partition("+")[0], 16) for name in read_split(data.features.folder, "train")["row_id"].to_pylist()
    ]
    chosen = np.load(start.folder / "examples.npy")
    first_new = next(number for number, row in enumerate(begins) if row >= 40)
    assert set(range(first_new - 1, len(begins))) <= {*chosen.tolist()}
    assert first_new / 5 < (chosen < first_new - 1).sum() < first_new * 4 / 5
    job = retraining.job(tmp_path / "work", data, model)
    prepared = prepare(job)
    batch = prepared.validation_batch(np.arange(2))
    champion = load_trained(first.candidate.folder, llama, retraining.examples, ())
    torch.testing.assert_close(logits(prepared.model, batch), logits(champion, batch), rtol=0, atol=2e-6)
    train_here(job)
    assert (job.result / "model").is_dir()
