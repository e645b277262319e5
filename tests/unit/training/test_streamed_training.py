"""Trainings on a stream: killed anywhere, they end with the weights of one that was not."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chaos import Chaos, assert_unharmed, draw_kills
from killable_training import CLASSIFICATION, Trainings
from streamed_features import CONTRACT, LONG_STREAM, stream_features
from tunesmith.data.chunked import ChunkedRows
from tunesmith.data.files import SourceFile
from tunesmith.data.stream import RowStream, StreamOrder
from tunesmith.data.stream_rows import StreamConfig
from tunesmith.data.stream_snapshot import open_description
from tunesmith.errors import DataError, ModelError, Preempted
from tunesmith.features.files import read_split
from tunesmith.kinds.limit import Limit
from tunesmith.modeling.base import find_base
from tunesmith.modeling.config import ModelConfig
from tunesmith.modeling.tokenizer import load_tokenizer
from tunesmith.store.folder import FolderStore
from tunesmith.store.sealed import read_manifest
from tunesmith.training.config import TrainConfig
from tunesmith.training.reporter import Reporter
from tunesmith.training.streaming import FeatureStream, make_encode, open_stream
from tunesmith.training.train import _describe_job, derive_train, train

SMALL = TrainConfig(per_device_train_batch_size=2, max_steps=10, validation_steps=4)


@pytest.fixture
def streamed(tmp_path, bert, monkeypatch):
    return stream_features(tmp_path, bert, monkeypatch)


@pytest.fixture
def make_job(tmp_path, bert, streamed):
    def make(config=SMALL, stream=streamed.stream):
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        model = ModelConfig(base=str(bert))
        return _describe_job(work, streamed.features, CLASSIFICATION, model, config, find_base(model).folder, stream)

    return make


def take(stream, number):
    batches = list(islice(iter(stream.__next__, None), number))
    stream.close()
    return batches


def flatten(batches):
    return [ids.tolist() for batch in batches for ids in batch.features.take(batch.rows).tokens["input_ids"].split()]


@pytest.mark.timeout(600)  # seven processes that import torch
def test_a_training_on_a_stream_that_is_killed_anywhere_ends_with_the_same_weights(tmp_path, bert, streamed):
    options = {"stream": streamed.stream, "gradient_accumulation_steps": 2, **LONG_STREAM, "save_steps": 5}

    def make_trainings(name):
        return Trainings(tmp_path / name, streamed.features, bert, **options)

    whole = make_trainings("whole").here()
    kills = draw_kills(1, num_sigkills=3, num_sigterms=2, num_steps=145)
    chaos = Chaos(make_trainings)
    chaos.run(kills)
    assert_unharmed(chaos, whole, kills)
    ref = chaos.ends[-1]
    assert ref.facts["resumed_from_step"] > 0
    assert ref.facts["quarantine"] == whole.facts["quarantine"]
    rows = [json.loads(line) for line in (ref.folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "validation/loss" in row["metrics"]] == [29, 58, 87, 116, 145]
    assert ref.facts["num_steps"] == 145


def test_batches_go_on_behind_any_of_them_and_into_the_next_epoch(make_job):
    job = make_job()
    whole = take(open_stream(job, groups=True), 260)
    assert whole[-1].epoch > 1
    assert whole[-1].place["rows"]["epoch"] >= 1
    for index in (0, 48, 49, 50, 51, 120, 209):
        stream = open_stream(job, groups=True)
        stream.resume(json.loads(json.dumps(whole[index].place)))
        assert flatten(take(stream, 50)) == flatten(whole[index + 1 : index + 51])


@pytest.mark.parametrize("groups", [True, False])
def test_no_step_of_a_stream_has_many_fewer_examples_than_another(make_job, groups):
    job = make_job(SMALL.model_copy(update={"per_device_train_batch_size": 6}))
    sizes = [len(batch.rows) for batch in take(open_stream(job, groups=groups), 130)]
    assert set(sizes) <= {5, 6}
    assert np.mean(sizes) > 5.8


def test_no_row_that_validates_or_tests_is_ever_trained_on(make_job, streamed):
    job = make_job()
    trained = {tuple(ids) for ids in flatten(take(open_stream(job, groups=True), 300))}
    for split in ("validation", "test"):
        held_out = {tuple(ids) for ids in read_split(streamed.features.folder, split)["input_ids"].to_pylist()}
        assert held_out
        assert not held_out & trained
    train_sample = {tuple(ids) for ids in read_split(streamed.features.folder, "train")["input_ids"].to_pylist()}
    assert train_sample < trained


def test_an_epoch_of_a_stream_holds_each_training_row_once(make_job, streamed):
    job = make_job()
    stream = open_stream(job, groups=True)
    counts = {}
    for batch in iter(stream.__next__, None):
        if batch.place["rows"]["epoch"] > 0:
            break
        for ids in batch.features.take(batch.rows).tokens["input_ids"].split():
            counts[tuple(ids)] = counts.get(tuple(ids), 0) + 1
    stream.close()
    assert len(counts) > 200
    assert np.mean(list(counts.values())) < 1.5  # the last group reaches into the next epoch


@pytest.mark.parametrize(
    "tokenize", [{}, {"max_length": 8, "on_overflow": "window"}, {"max_length": 8, "on_overflow": "drop"}]
)
def test_rows_are_encoded_in_training_as_the_encode_stage_does_it(tmp_path, bert, monkeypatch, tokenize, make_job):
    folder = tmp_path / "other"
    folder.mkdir()
    made = stream_features(folder, bert, monkeypatch, **tokenize)
    features = made.features
    limit = Limit(**{name: features.facts[name] for name in ("max_length", "on_overflow", "stride")})
    job = make_job().model_copy(update={"features": features.folder})
    expected = read_split(features.folder, "train")
    (splits,) = (folder / "data-store" / "artifacts" / "split").iterdir()
    rows = ChunkedRows.open(splits, "train").read().drop_columns(["row_id"])
    found = make_encode(job, limit)(rows)
    assert found.to_pylist() == expected.select(found.column_names).to_pylist()
    assert set(expected.column_names) - set(found.column_names) <= {"row_id", "window"}


def test_a_row_outside_the_sample_with_a_token_that_the_model_does_not_know_is_named(tmp_path, make_job):
    job = make_job()
    tokenizer = load_tokenizer(job.features / "tokenizer")
    number = len(tokenizer)
    tokenizer.add_tokens(["<picture>"])
    tokenizer.save_pretrained(tmp_path / "features" / "tokenizer")
    encode = make_encode(job.model_copy(update={"features": tmp_path / "features"}), Limit(max_length=64))
    rows = pa.table({"text": ["w1", "w2 <picture> w3", "w4"], "label": ["good", "bad", "good"]})
    named = encode(rows.filter([True, False, True]))["row_id"].to_pylist()
    with pytest.raises(
        ModelError, match=rf"token id {number} for '<picture>', but the model knows {number} ids, and row \w+\S* has it"
    ) as told:
        encode(rows)
    assert not any(name in str(told.value) for name in named)


def test_what_the_contract_refuses_while_training_goes_on_is_kept_with_the_candidate(tmp_path, bert, streamed):
    trained = train(
        streamed.features,
        CLASSIFICATION,
        ModelConfig(base=str(bert)),
        SMALL.model_copy(update={"max_steps": 200, "validation_steps": 200}),
        FolderStore(tmp_path / "store"),
        stream=streamed.stream,
    )
    refused = pq.read_table(trained.folder / "quarantine.parquet")
    assert trained.facts["quarantine"]["num_rows"] == refused.num_rows == 8
    assert sum(trained.facts["quarantine"]["reasons"].values()) == 8
    assert set(refused["file"].to_pylist()) == {"rows-0.jsonl", "rows-1.jsonl"}


def test_a_stream_whose_contract_refuses_too_many_ends_the_training_in_words(tmp_path, bert, monkeypatch):
    folder = tmp_path / "other"
    folder.mkdir()
    strict = {**CONTRACT, "max_quarantined_fraction": 0.017}  # of all rows 0.02 break it, of the sample 0.015
    made = stream_features(folder, bert, monkeypatch, sample_rows=80, contract=strict)
    config = SMALL.model_copy(update={"max_steps": 300, "validation_steps": 300})
    model, store = ModelConfig(base=str(bert)), FolderStore(tmp_path / "store")
    with pytest.raises(DataError, match=r"the contract refuses 8 of the first 400 rows of the stream, 2\.00%"):
        train(made.features, CLASSIFICATION, model, config, store, stream=made.stream)


def test_the_recipe_s_own_function_is_called_while_training_goes_on_and_no_other(tmp_path, bert, monkeypatch):
    folder = tmp_path / "recipe"
    folder.mkdir()
    (folder / "cleaning.py").write_text("def clean(row):\n    return {**row, 'text': 'w7 ' + row['text']}\n")
    (tmp_path / "cleaning.py").write_text("def clean(row):\n    return row\n")
    monkeypatch.chdir(tmp_path)
    made = stream_features(folder, bert, monkeypatch, transforms=[{"function": {"path": "cleaning:clean"}}])
    model, store = ModelConfig(base=str(bert)), FolderStore(tmp_path / "store")
    assert train(made.features, CLASSIFICATION, model, SMALL, store, stream=made.stream).facts["num_steps"] == 10

    work = tmp_path / "work"
    work.mkdir()
    job = _describe_job(work, made.features, CLASSIFICATION, model, SMALL, bert, made.stream)
    assert len({ids[1] for ids in flatten(take(open_stream(job, groups=True), 60))}) == 1
    (folder / "cleaning.py").write_text("def clean(row):\n    return row\n")
    with pytest.raises(DataError, match=r"a function of data\.transforms has changed"):
        open_stream(job, groups=True)


def test_what_was_refused_goes_with_the_checkpoint_to_another_machine(tmp_path, make_job, train_here):
    class Stopped(Reporter):
        def advance(self, at, epoch, num_examples):
            super().advance(at, epoch, num_examples)
            if at == 90:
                self.stop()

    job = make_job(SMALL.model_copy(update={"max_steps": 120, "validation_steps": 120}))
    with pytest.raises(Preempted):
        train_here(job, Stopped)
    for name in ("here", "elsewhere"):
        (tmp_path / name).mkdir()
        shutil.copytree(job.work / "checkpoints", tmp_path / name / "checkpoints")
    shutil.copytree(job.quarantine, tmp_path / "here" / "quarantine")
    counts = []
    for name in ("here", "elsewhere"):
        moved = job.model_copy(update={"work": tmp_path / name})
        train_here(moved)
        counts.append(read_manifest(moved.result).header["facts"]["quarantine"])
    assert counts[0] == counts[1]
    assert counts[0]["num_rows"] == 8


def test_a_file_that_changed_since_the_snapshot_is_refused(tmp_path, make_job):
    job = make_job()
    with (tmp_path / "rows-0.jsonl").open("a") as file:
        file.write('{"text": "w1", "label": "bad"}\n')
    with pytest.raises(DataError, match=r"rows-0\.jsonl: the file has changed"):
        open_stream(job, groups=True)


def test_a_stream_that_leaves_nothing_to_train_on_says_so(make_job, streamed):
    job, stream = make_job(), streamed.stream
    config = StreamConfig(stream.data, CLASSIFICATION, stream.split)
    files = [SourceFile.from_json(file) for file in stream.fetched.facts["files"]]
    description = open_description(stream.snapshot.folder, files, config)
    rows = RowStream(description, config, StreamOrder("train", 40), job.quarantine)
    empty = FeatureStream(rows, lambda table: table.slice(0, 0), SMALL, groups=False)
    with pytest.raises(DataError, match="no example to train on"):
        next(empty)
    empty.close()


def test_the_key_tells_how_a_stream_is_shuffled_and_validated_and_nothing_where_there_is_none(tmp_path, bert, streamed):
    model, store = ModelConfig(base=str(bert)), FolderStore(tmp_path / "store")

    def derive(stream, **changes):
        config = SMALL.model_copy(update=changes)
        return derive_train(streamed.features, CLASSIFICATION, model, config, store, stream=stream)

    stream = streamed.stream
    other = stream.data.streaming.model_copy(update={"shuffle_buffer": 41})
    keys = {
        derive(stream).key,
        derive(stream, validation_steps=5).key,
        derive(replace(stream, data=stream.data.model_copy(update={"streaming": other}))).key,
    }
    assert len(keys) == 3
    without = replace(stream, data=stream.data.model_copy(update={"streaming": None}))
    assert derive(without).ingredients == derive(None).ingredients
    assert "tunesmith.training.streaming" in derive(stream).ingredients["code"]
    assert not [
        name for name in derive(None).ingredients["code"] if "stream" in name or name == "tunesmith.data.sources"
    ]
