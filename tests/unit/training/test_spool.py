from __future__ import annotations

from tunesmith.training.spool import Spool, SpoolReader


def row(step):
    return {"step": step, "epoch": 0.5, "metrics": {"train/loss": 0.25}}


def test_a_reader_gives_each_row_once_and_waits_for_the_rest_of_half_a_line(tmp_path):
    spool, reader = Spool(tmp_path / "metrics.jsonl"), SpoolReader(tmp_path / "metrics.jsonl")
    assert reader.read() == []
    spool.append(row(1))
    with spool.path.open("a") as file:
        file.write('{"step":')
    assert reader.read() == [row(1)]
    with spool.path.open("a") as file:
        file.write('2,"epoch":0.5,"metrics":{"train/loss":0.25}}\n')
    assert reader.read() == [row(2)]
    assert reader.read() == []


def test_a_restored_spool_has_the_rows_of_the_checkpoint_whatever_became_of_it(tmp_path):
    spool = Spool(tmp_path / "metrics.jsonl")
    spool.append(row(1))
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(spool.path.read_bytes())
    spool.path.write_bytes(b"half a li")
    spool.restore(copy)
    assert SpoolReader(spool.path).read() == [row(1)]
    spool.restore(None)
    assert SpoolReader(spool.path).read() == []
