import json
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tunesmith.cli import doctor
from tunesmith.cli.doctor import TESTED
from tunesmith.cli.main import main
from tunesmith.home import Home
from tunesmith.tracking.unrecorded import Unrecorded

CONSTRAINTS = Path(__file__).resolve().parents[3] / "constraints.txt"


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


@pytest.fixture
def server():
    """A server that answers each path with the status that the path begins with."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(int(self.path.split("/")[1]))
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_machine_that_can_run_recipes_is_ok(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(doctor, "DISK_FAIL_BYTES", 0)
    monkeypatch.setattr(doctor, "MEMORY_FAIL_BYTES", 0)
    assert main(["doctor", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is True
    names = [check["name"] for check in document["checks"]]
    assert {"python", "device", "precision", "disk", "memory", "home", "prefect", "mlflow"} <= set(names)
    assert not (tmp_path / "home").exists()


def test_a_failed_check_is_exit_code_4_and_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    assert main(["doctor"]) == 4
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "prefect " in line]
    assert line.startswith("fail")
    assert "cannot be reached" in line
    assert "PREFECT_API_URL" in line


def test_the_tested_versions_are_those_of_the_constraints():
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", CONSTRAINTS.read_text(), re.MULTILINE))
    assert {name: pinned[name] for name in TESTED} == TESTED


def test_packages_as_tested_are_one_line():
    cpu_build = TESTED | {"torch": TESTED["torch"] + "+cpu"}
    assert [(check.name, check.state) for check in doctor.check_packages(cpu_build)] == [("packages", "ok")]


def test_other_packages_are_named_with_the_command_that_mends_them():
    versions = TESTED | {"mlflow": "3.18.0", "peft": None, "fastapi": "0.155.1"}
    checks = {check.name: check for check in doctor.check_packages(versions)}
    assert {name: check.state for name, check in checks.items()} == {
        "mlflow": "warn",
        "peft": "fail",
        "fastapi": "fail",
    }
    assert checks["peft"].advice == f"pip install 'peft=={TESTED['peft']}'"


def test_an_old_python_fails():
    assert doctor.check_python((3, 10, 4)).state == "fail"
    assert doctor.check_python((3, 11, 0)).state == "ok"


@pytest.mark.parametrize(("free", "state"), [(0.5e9, "fail"), (5e9, "warn"), (50e9, "ok")])
def test_little_room_on_the_disk_is_told(monkeypatch, tmp_path, free, state):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": free}))
    check = doctor.check_disk(tmp_path / "not" / "there")
    assert check.state == state
    assert bool(check.advice) == (state != "ok")


@pytest.mark.parametrize(("free", "limit", "state"), [(9e9, None, "ok"), (9e9, 2e9, "warn"), (0.5e9, 9e9, "fail")])
def test_memory_is_the_lesser_of_the_machine_and_the_container(monkeypatch, free, limit, state):
    monkeypatch.setattr(doctor, "_available_bytes", lambda: free)
    monkeypatch.setattr(doctor, "_container_bytes", lambda: limit)
    assert doctor.check_memory().state == state


def test_files_that_a_container_has_read_and_can_forget_are_free_memory(tmp_path):
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 500\nfile 400\ninactive_file 300\nactive_file 100\n")
    assert doctor._container_bytes(tmp_path) == 400
    (tmp_path / "memory.max").write_text("max\n")
    assert doctor._container_bytes(tmp_path) is None


def test_a_home_that_cannot_be_written_fails(tmp_path, monkeypatch):
    def refuse(dir):
        raise PermissionError(13, "Permission denied")

    assert doctor.check_home(tmp_path / "home").state == "ok"
    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    check = doctor.check_home(tmp_path / "home")
    assert (check.state, "Permission denied" in check.found) == ("fail", True)


def test_a_server_that_answers_is_ok(server, home):
    assert doctor.check_prefect({"PREFECT_API_URL": f"{server}/200"}, home).state == "ok"
    assert doctor.check_mlflow({"MLFLOW_TRACKING_URI": f"{server}/200/"}, home).state == "ok"


def test_a_server_that_asks_for_a_login_is_a_warning(server, home):
    check = doctor.check_mlflow({"MLFLOW_TRACKING_URI": f"{server}/401"}, home)
    assert (check.state, "401" in check.found) == ("warn", True)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/api", "nonsense", "http://[broken", "gopher://x", "http://127.0.0.1:42o0/api"]
)
def test_a_server_that_does_not_answer_fails_without_a_traceback(url, home):
    assert doctor.check_prefect({"PREFECT_API_URL": url}, home).state == "fail"


def test_a_password_in_an_address_is_not_shown(home):
    for uri in ("http://ada:secret@127.0.0.1:1", "postgresql://ada:secret@db/mlflow"):
        assert "secret" not in str(doctor.check_mlflow({"MLFLOW_TRACKING_URI": uri}, home))


def test_without_servers_everything_is_in_the_home(home):
    assert str(home.prefect_folder) in doctor.check_prefect({}, home).found
    assert doctor.check_mlflow({}, home) == doctor.Check("mlflow", "ok", home.tracking_uri)


def test_what_mlflow_does_not_have_is_listed_with_the_command_that_uploads_it(tmp_path, monkeypatch, capsys):
    note = Unrecorded(
        recipe="reviews", candidate_key="ab" * 16, tracking_uri="http://server", num_rows=41, num_files=5,
        num_bytes=1_234_567, folders=("/a", "/b"), command="tunesmith run /r.yaml --set=train.seed=1",
    )  # fmt: skip
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path))
    (tmp_path / "unrecorded").mkdir()
    (tmp_path / "unrecorded" / f"{note.candidate_key}.json").write_text(note.model_dump_json())
    main(["doctor", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document["unrecorded"] == [note.model_dump(mode="json")]
    main(["models"])
    assert "`tunesmith doctor` says which" in capsys.readouterr().err
    main(["doctor"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warn   record")]
    assert line.endswith(
        "not in http://server: candidate abababab of reviews: 41 rows of metrics, 5 files of the model (1.2 MB), "
        "its version, kept in /a and /b; to upload it, while data, recipe and code are as they were: "
        "tunesmith run /r.yaml --set=train.seed=1; to let it be: tunesmith models forget abababab"
    )
    assert main(["models", "forget", "cd"]) == 2
    assert f"cd: no candidate of that key waits to be uploaded; there are {'ab' * 16}." in capsys.readouterr().err
    assert main(["models", "forget", "abababab"]) == 0
    assert capsys.readouterr().out.startswith("nobody waits any more for candidate abababab of reviews")
    main(["doctor", "--json"])
    assert json.loads(capsys.readouterr().out)["unrecorded"] == []


def test_work_that_began_and_has_not_ended_is_listed_with_the_room_that_it_takes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path))
    begun, done = (tmp_path / "store" / "work" / "train" / name for name in ("begun", "done"))
    for folder in (begun / "checkpoint-40", done):
        folder.mkdir(parents=True)
        (folder / "lock").touch()
    weights = begun / "checkpoint-40" / "model.safetensors"
    weights.write_bytes(bytes(2_500_000))
    three_days_ago = weights.stat().st_mtime - 3 * 86_400 - 60
    os.utime(weights, (three_days_ago, three_days_ago))
    main(["doctor"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "unfinished" in line]
    assert line.endswith(
        f"train, 2.5 MB in {begun}, written 3 days ago; its recipe, run again, goes on with it; else delete the folder"
    )
    main(["doctor", "--json"])
    (work,) = json.loads(capsys.readouterr().out)["unfinished"]
    assert (work["stage"], work["folder"], work["size_bytes"]) == ("train", str(begun), 2_500_000)
