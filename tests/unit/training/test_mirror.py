"""Checkpoints on S3: whole and verified, or not used; pruned as here; never in training's way."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import time
from pathlib import Path

import pytest

from moto_s3 import QUICK
from tunesmith.errors import Preempted, StoreError
from tunesmith.store.remote_folders import RemoteFolders
from tunesmith.store.s3 import Patience, S3Client, S3Config
from tunesmith.training.best import Best
from tunesmith.training.checkpoints import Checkpoints, Position, read_position
from tunesmith.training.mirror import CheckpointMirror
from tunesmith.training.mirroring import Mirroring

FILES = ("weights", "parts/more", "position.json", "metrics.jsonl", "manifest.json")


class Machine:
    """A work folder of its own, and the mirror that all machines share."""

    def __init__(self, work, client, uri, grace_seconds=10.0):
        self.work, self.checkpoints = work, Checkpoints(work)
        self.folders = RemoteFolders(client, uri, grace_seconds)
        self.mirror = CheckpointMirror(self.folders, self.checkpoints, work / "mirrored")
        work.mkdir()
        (work / "spool").write_text("a row\n")

    def save(self, step, kept_step=None, seconds=0.0):
        position = Position(step=step, kept_step=kept_step, best=Best(step=kept_step), seconds=seconds)
        self.checkpoints.make_room()
        folder = self.checkpoints.aside(step)
        (folder / "weights").write_bytes(f"weights of {step}".encode())
        (folder / "parts").mkdir()
        (folder / "parts" / "more").write_bytes(b"more")
        self.checkpoints.publish(folder, position, self.work / "spool", self.work / "quarantine")
        self.checkpoints.wait()

    def save_and_upload(self, *steps, **options):
        for step in steps:
            self.save(step, **options)
            self.mirror.upload_newest()

    def fetch(self, step=-1):
        found = self.mirror.fetch_newer(step)
        return None if found is None else read_position(found).step

    def local_steps(self):
        return sorted(int(path.name[-8:]) for path in (self.work / "checkpoints").glob("*"))


@pytest.fixture
def uri(bucket):
    return f"{bucket}/team/work/train/key"


@pytest.fixture
def machine(connect, uri, tmp_path):
    return lambda name, **options: Machine(tmp_path / name, connect(), uri, **options)


@pytest.fixture
def there(connect, uri):
    """The steps of what lies whole there."""

    def there():
        found = RemoteFolders(connect(), uri, 1.0).find_all()
        return sorted(int(name[5:13]) for name, is_whole in found.items() if is_whole)

    return there


def test_a_machine_with_an_empty_disk_gets_the_newest_checkpoint_to_the_byte(machine):
    one, two = machine("one"), machine("two")
    one.save_and_upload(10, 20)
    assert two.fetch() == 20
    for file in FILES:
        assert (two.checkpoints.at(20) / file).read_bytes() == (one.checkpoints.at(20) / file).read_bytes()
    assert two.checkpoints.find_newest() == two.checkpoints.at(20)
    assert two.local_steps() == [20]
    assert two.fetch(20) is None  # nothing newer than that


def test_what_an_upload_left_that_was_killed_is_no_obstacle(machine, there):
    one = machine("one")
    one.save(10)
    one.mirror._hold(one.checkpoints.at(10))
    one.mirror.upload_newest()
    assert there() == [10]


def test_where_nothing_was_mirrored_nothing_is_fetched(machine):
    assert machine("one").fetch() is None


def test_the_last_two_are_kept_there(machine, there):
    machine("one").save_and_upload(10, 20, 30, 40)
    assert there() == [30, 40]


def test_the_best_model_goes_with_every_checkpoint_that_needs_it(machine, there, tmp_path):
    one = machine("one")
    one.save(10, kept_step=10)
    one.save_and_upload(20, kept_step=10)
    assert there() == [10, 20]
    one.save_and_upload(30, 40, kept_step=10)
    assert there() == [10, 30, 40]
    two = machine("two")
    assert two.fetch() == 40
    assert two.local_steps() == [10, 40]
    assert two.checkpoints.find_newest() == two.checkpoints.at(40)
    one.save_and_upload(50, 60, kept_step=50)
    assert there() == [50, 60]


def test_a_checkpoint_whose_best_model_is_gone_is_not_used(machine, connect, uri, caplog):
    one = machine("one")
    one.save_and_upload(10, kept_step=10)
    one.save_and_upload(20, 30, kept_step=10)
    client = connect()
    for key in client.list_keys(f"{uri}/step-00000010"):
        client.delete(f"s3://{uri[5:].partition('/')[0]}/{key}")
    assert machine("two").fetch() is None
    assert "the best model, of step 10, is not there" in caplog.text


@pytest.mark.parametrize("file", FILES)
def test_one_that_is_damaged_there_is_not_used(machine, connect, uri, caplog, file):
    one, client = machine("one"), connect()
    one.save_and_upload(10, 20)
    (name,) = (name for name in one.folders.find_all() if name.startswith("step-00000020"))
    place = f"{uri}/{name}/{file}"
    content = client.read_bytes(place)
    place_of_digit = max((index for index, byte in enumerate(content) if chr(byte).isdigit()), default=0)
    flipped = content[:place_of_digit] + bytes([content[place_of_digit] ^ 1]) + content[place_of_digit + 1 :]
    for fault, damaged in {"truncated": content[:-1], "emptied": b"", "flipped": flipped, "removed": None}.items():
        client.delete(place) if damaged is None else client.put(place, damaged)
        caplog.clear()
        assert machine(fault).fetch() == 10, fault
        assert name in caplog.text or (file, fault) == ("manifest.json", "removed")
        client.put(place, content)
    client.put(place, flipped)
    two = machine("two")
    assert two.fetch() == 10
    two.save_and_upload(20, seconds=1.0)  # what is damaged does not stand in the way
    assert machine("three").fetch() == 20


@pytest.mark.parametrize("last_request", ["upload", "put"])  # of a file, of the manifest
def test_a_half_uploaded_one_does_not_exist_and_is_completed_by_the_next_attempt(
    machine, there, monkeypatch, last_request
):
    one = machine("one")
    one.save_and_upload(10)
    one.save(20)
    request, sent = getattr(S3Client, last_request), []

    def die_at_the_end(client, *arguments):
        sent.append(arguments)
        if last_request == "put" or len(sent) == len(FILES) - 1:
            raise ZeroDivisionError
        request(client, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(S3Client, last_request, die_at_the_end)
        with pytest.raises(ZeroDivisionError):
            one.mirror.upload_newest()
    assert there() == [10]
    assert machine("two").fetch() == 10
    one.mirror.upload_newest()
    assert there() == [10, 20]


def test_one_that_is_replaced_while_it_is_taken_up_is_left_to_the_next_time(machine, there, monkeypatch):
    one = machine("one")
    one.save(10)
    hardlink_to = Path.hardlink_to

    def replace_first(path, file):
        monkeypatch.setattr(Path, "hardlink_to", hardlink_to)
        one.save(10, seconds=1.0)  # as after the validation that follows an epoch's last step
        hardlink_to(path, file)

    monkeypatch.setattr(Path, "hardlink_to", replace_first)
    one.mirror.upload_newest()
    assert there() == []
    one.mirror.upload_newest()
    assert there() == [10]


def test_what_a_dead_machine_half_uploaded_goes_when_training_is_past_it(machine, uri, connect):
    one, client = machine("one"), connect()
    client.put(f"{uri}/step-00000015-{'0' * 16}/weights", b"half")
    one.save_and_upload(10)
    assert f"step-00000015-{'0' * 16}" in one.folders.find_all()
    one.save_and_upload(20, 30)
    assert all(one.folders.find_all().values())


def test_two_machines_at_once_leave_whole_checkpoints_and_the_slower_one_writes_none(machine, there):
    fast, slow = machine("fast"), machine("slow")
    fast.save_and_upload(10, 20, seconds=1.0)
    slow.save_and_upload(10, 20, seconds=2.0)
    assert there() == [10, 20]
    fast.save_and_upload(30, seconds=1.0)
    slow.save_and_upload(40, seconds=2.0)  # it has overtaken
    assert there() == [30, 40]
    for name in ("three", "four"):
        assert machine(name).fetch() == 40
    assert fast.fetch(30) == 40


def test_both_may_write_the_same_step_at_the_same_time(machine, there, monkeypatch):
    one, two = machine("one"), machine("two")
    one.save(10, seconds=1.0)
    two.save(10, seconds=2.0)
    upload = S3Client.upload
    with monkeypatch.context() as patch:

        def upload_and_be_overtaken(client, path, *arguments):
            patch.setattr(S3Client, "upload", upload)
            two.mirror.upload_newest()
            upload(client, path, *arguments)

        patch.setattr(S3Client, "upload", upload_and_be_overtaken)
        one.mirror.upload_newest()
    assert there() == [10, 10]
    assert machine("three").fetch() == 10
    one.save_and_upload(20, 30)
    assert there() == [20, 30]


def test_a_checkpoint_that_training_deletes_while_it_is_uploaded_arrives_whole(machine, there, monkeypatch):
    one = machine("one")
    one.save(10)
    upload = S3Client.upload

    def delete_first(*arguments):
        shutil.rmtree(one.checkpoints.at(10), ignore_errors=True)
        upload(*arguments)

    monkeypatch.setattr(S3Client, "upload", delete_first)
    one.mirror.upload_newest()
    assert there() == [10]
    assert machine("two").fetch() == 10
    assert not (one.work / "mirrored").exists()


def test_one_that_another_machine_deletes_while_it_is_fetched_makes_way_for_its_newest(machine, monkeypatch):
    one, two = machine("one"), machine("two")
    one.save_and_upload(10)
    download = S3Client.download

    def delete_first(*arguments):
        monkeypatch.setattr(S3Client, "download", download)
        one.save_and_upload(20, 30, 40)
        return download(*arguments)

    monkeypatch.setattr(S3Client, "download", delete_first)
    assert two.fetch() == 40


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def quick_retries(monkeypatch):
    monkeypatch.setattr("tunesmith.training.mirroring.POLL_SECONDS", 0.01)
    monkeypatch.setattr("tunesmith.training.mirroring.RETRY_SECONDS", 0.01)


def test_while_the_server_is_away_training_goes_on_and_it_is_said_once(
    machine, there, uri, aws, tmp_path, caplog, quick_retries
):
    from moto.server import ThreadedMotoServer

    caplog.set_level("INFO", logger="tunesmith.training")
    port = free_port()
    client = S3Client(S3Config(endpoint_url=f"http://127.0.0.1:{port}"), patience=QUICK, mistake=StoreError)
    one = Machine(tmp_path / "here", client, uri)
    assert Mirroring(one.mirror).find_newest(one.checkpoints) is None
    assert "is not known" in caplog.text
    one.save(10)
    with Mirroring(one.mirror):
        wait_for(lambda: "stay on this machine" in caplog.text)
        for step in (20, 30):
            one.save(step)
        time.sleep(1.0)  # some more failures
        assert caplog.text.count("stay on this machine") == 1
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)  # the same buckets, elsewhere
        server.start()
        try:
            wait_for(lambda: there() == [30])
            wait_for(lambda: "again" in caplog.text)
        finally:
            server.stop()


def be_preempted(mirroring):
    try:
        with mirroring:
            mirroring.note_stop()
            raise Preempted("stopped")
    except Preempted:
        return
    raise AssertionError("it swallowed the error")


def test_an_attempt_that_ends_without_a_result_leaves_its_newest_checkpoint_there(machine, there, caplog):
    caplog.set_level("INFO", logger="tunesmith.training")
    one = machine("one")
    one.save(10)
    be_preempted(Mirroring(one.mirror))
    assert there() == [10]
    assert "checkpoint step-00000010 is in s3://" in caplog.text


def test_a_server_that_never_answers_holds_an_ending_attempt_no_longer_than_the_grace_period(
    aws, uri, tmp_path, caplog, quick_retries
):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and says nothing
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        client = S3Client(S3Config(endpoint_url=address), patience=Patience(), mistake=StoreError)
        one = Machine(tmp_path / "here", client, uri, grace_seconds=0.5)
        one.save(10)
        mirroring = Mirroring(one.mirror)
        be_preempted(mirroring)
        assert "did not get to" in caplog.text
        assert not mirroring._thread.is_alive()


def test_an_attempt_with_a_result_waits_for_nothing(aws, uri, tmp_path, caplog, quick_retries):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        client = S3Client(S3Config(endpoint_url=address), patience=Patience(), mistake=StoreError)
        one = Machine(tmp_path / "here", client, uri, grace_seconds=3600)
        one.save(10)
        mirroring = Mirroring(one.mirror)
        with mirroring:
            time.sleep(0.2)
        assert not mirroring._thread.is_alive()
    assert not caplog.text


def test_a_name_that_is_none_of_ours_is_left_alone(machine, uri, connect):
    one, client = machine("one"), connect()
    client.put(f"{uri}/notes/manifest.json", b"{}")
    one.save_and_upload(10, 20, 30)
    assert one.folders.find_all()["notes"]
    assert machine("two").fetch() == 30


def test_a_manifest_that_names_a_file_elsewhere_is_not_followed(machine, uri, connect, tmp_path):
    client = connect()
    file = {"sha256": hashlib.sha256(b"x").hexdigest(), "size_bytes": 1}
    manifest = json.dumps({"files": {"../../escaped": file}, "header": {"step": 20}}).encode()
    name = f"step-00000020-{hashlib.sha256(manifest).hexdigest()[:16]}"
    client.put(f"{uri}/{name}/manifest.json", manifest)
    client.put(f"{uri}/{name}/../../escaped", b"x")
    assert machine("two").fetch() is None
    assert not list(tmp_path.rglob("escaped"))
