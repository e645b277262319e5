"""Predictions that are killed, damaged or in each other's way."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from judged_candidate import CLASSIFICATION, WORDS, make_candidate
from tunesmith.errors import CallError, DataError
from tunesmith.evaluation.served import ServedModel
from tunesmith.inference.config import PredictConfig, PredictReport
from tunesmith.inference.predict import predict_files
from tunesmith.inference.targets import find_target
from tunesmith.store.s3 import S3Client, S3Config

NUM_ROWS = 5000
PROCESS = Path(__file__).with_name("predict_process.py")


@pytest.fixture(scope="module")
def classifier(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an exported classifier of `review`."""
    folder = tmp_path_factory.mktemp("classifier")
    case = make_candidate(folder / "case", bert, CLASSIFICATION)
    shutil.copytree(case.candidate.folder / "model", folder / "model")
    labels = tuple(case.features.facts["labels"])
    ServedModel(examples=CLASSIFICATION, labels=labels, max_length=16, candidate="candidate").save(folder / "model")
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of every length, with numbers, nulls, line breaks and letters beyond ASCII."""
    path = tmp_path_factory.mktemp("source") / "in.parquet"
    pq.write_table(make_rows(NUM_ROWS), path)
    return path


def make_rows(num_rows: int) -> pa.Table:
    texts = [" ".join(WORDS[(row * step) % len(WORDS)] for step in range(1, 2 + row % 9)) for row in range(num_rows)]
    notes = [None if row % 7 == 0 else f'zwei\nZeilen, "ü" {row}' for row in range(num_rows)]
    return pa.table({"id": range(num_rows), "review": texts, "note": notes})


def predict(model: Path, source: str | Path, target: str | Path, work: Path, **config: Any) -> PredictReport:
    return predict_files(model, [str(source)], str(target), work, PredictConfig(**{"shard_rows": 250, **config}))


def start(model: Path, source: Path, target: Path, work: Path) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, str(PROCESS), str(model), str(source), str(target), str(work)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ)


def kill_after(process: subprocess.Popen[bytes], work: Path, num_shards: int) -> None:
    """Kill a prediction once so many shards are finished."""
    while len([*work.glob("*/shards/_shards/part-*.json")]) < num_shards:
        assert process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_a_run_that_is_killed_twice_ends_with_the_bytes_of_one_that_was_not(
    classifier: Path, source: Path, tmp_path: Path, name: str
) -> None:
    predict(classifier, source, tmp_path / f"whole-{name}", tmp_path / "other")
    target, work = tmp_path / name, tmp_path / "work"
    for num_shards in (3, 11) if name == "out.csv" else (5,):
        kill_after(start(classifier, source, target, work), work, num_shards)
        assert not target.exists()
    report = predict(classifier, source, target, work)
    assert 2500 >= NUM_ROWS - report.num_kept_rows > 0 if name == "out.csv" else report.num_kept_rows >= 1250
    assert target.read_bytes() == (tmp_path / f"whole-{name}").read_bytes()
    assert not [*work.glob("*/*")]
    if name == "out.parquet":
        written = pq.read_table(target)
        assert written.select(["id", "review", "note"]) == make_rows(NUM_ROWS)
        assert written["prediction"].null_count == 0


def test_a_damaged_shard_is_set_aside_named_and_predicted_again(
    classifier: Path, source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "shards"
    predict(classifier, source, target, tmp_path / "work", shard_rows=1000)
    shard = target / "part-00003.parquet"
    content = shard.read_bytes()
    shard.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    with caplog.at_level(logging.WARNING, "tunesmith"):
        report = predict(classifier, source, target, tmp_path / "work", shard_rows=1000)
    assert "part-00003.parquet" in caplog.text
    assert report.num_kept_rows == 4000
    assert shard.read_bytes() == content
    assert [path.name[:9] for path in target.glob("_damaged*")] == ["_damaged-"]
    assert pq.read_table(target)["id"].to_pylist() == [*range(NUM_ROWS)]


def test_shards_of_another_run_are_not_mixed_with(classifier: Path, source: Path, tmp_path: Path) -> None:
    target, work = tmp_path / "shards", tmp_path / "work"
    predict(classifier, source, target, work, shard_rows=1000)
    with pytest.raises(CallError, match="another model, input, option or version"):
        predict(classifier, source, target, work, shard_rows=2000)
    assert len([*target.glob("part-*")]) == 5
    predict(classifier, source, target, work, shard_rows=2000, overwrite=True)
    assert len([*target.glob("part-*")]) == 3
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("precious")
    with pytest.raises(CallError, match=r"files that predicting did not write \(first: mine\.txt\)"):
        predict(classifier, source, tmp_path / "full", work, overwrite=True)


def test_a_second_run_into_a_target_is_refused_while_the_first_holds_it(
    classifier: Path, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out.csv"
    with (
        find_target(str(target), "parquet", tmp_path / "work", S3Client(S3Config())).hold(),
        pytest.raises(CallError, match="another run is predicting into it"),
    ):
        predict(classifier, source, target, tmp_path / "work")


def test_an_input_without_rows_is_refused_by_name(classifier: Path, tmp_path: Path) -> None:
    pq.write_table(make_rows(3).slice(0, 0), tmp_path / "in.parquet")
    with pytest.raises(DataError, match=r"in\.parquet: the file has no rows"):
        predict(classifier, tmp_path / "in.parquet", tmp_path / "out.csv", tmp_path / "work")


def test_several_files_are_read_in_their_order(classifier: Path, tmp_path: Path) -> None:
    for number in range(3):
        pq.write_table(make_rows(300).slice(100 * number, 100), tmp_path / f"in-{number}.parquet")
    predict(classifier, tmp_path / "in-*.parquet", tmp_path / "out.parquet", tmp_path / "work")
    assert pq.read_table(tmp_path / "out.parquet")["id"].to_pylist() == [*range(300)]


def test_shards_and_files_on_s3_are_resumed_and_verified(
    classifier: Path, source: Path, tmp_path: Path, connect: Any, bucket: str
) -> None:
    client, s3 = connect(), {"endpoint_url": connect().config.endpoint_url}
    pq.write_table(make_rows(900), tmp_path / "in.parquet")
    client.put(f"{bucket}/in.parquet", (tmp_path / "in.parquet").read_bytes())
    place = f"{bucket}/shards"
    predict(classifier, f"{bucket}/in.parquet", place, tmp_path / "work", s3=s3)
    good = client.read_bytes(f"{place}/part-00002.parquet")
    client.put(f"{place}/part-00002.parquet", good[:-1] + b"?")
    client.delete(f"{place}/_shards/part-00000.json")
    report = predict(classifier, f"{bucket}/in.parquet", place, tmp_path / "work", s3=s3)
    assert (report.num_rows, report.num_kept_rows) == (900, 400)
    assert client.read_bytes(f"{place}/part-00002.parquet") == good
    predict(classifier, f"{bucket}/in.parquet", f"{bucket}/out.jsonl", tmp_path / "work", s3=s3)
    lines = client.read_bytes(f"{bucket}/out.jsonl").decode().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [*range(900)]


def test_copies_of_sources_on_s3_go_when_the_target_is_finished(
    classifier: Path, tmp_path: Path, connect: Any, bucket: str
) -> None:
    client, s3 = connect(), {"endpoint_url": connect().config.endpoint_url}
    pq.write_table(make_rows(30), tmp_path / "in.parquet")
    client.put(f"{bucket}/copied.parquet", (tmp_path / "in.parquet").read_bytes())
    work = tmp_path / "work"
    predict(classifier, f"{bucket}/copied.parquet", tmp_path / "out.csv", work, s3=s3)
    assert [path.suffix for path in work.iterdir()] == [".lock"]
    with pytest.raises(CallError, match="exists already"):
        predict(classifier, f"{bucket}/copied.parquet", tmp_path / "out.csv", work, s3=s3)
    assert not [path for path in work.rglob("*") if path.suffix == ".parquet"]
