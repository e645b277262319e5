"""`tunesmith run` with a real MLflow server that is away, hangs or comes late: training goes on, nothing is lost."""

import json
import time

import pytest

from killable_training import wait_for
from processes import find_processes
from tracked_project import TrackedProject, finish

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]


def test_a_server_that_hangs_and_one_that_comes_late_hold_up_no_training(tmp_path):
    project = TrackedProject(tmp_path, num_epochs=100)
    try:
        process = project.run()
        project.wait_until_it_trains()  # with nobody at the address
        project.server.start()
        project.server.wait_until_up()
        wait_for(lambda: project.server.query("SELECT * FROM sqlite_master WHERE name = 'metrics'"))
        wait_for(lambda: project.server.query("SELECT count(*) FROM metrics")[0][0] > 0 or process.poll() is not None)
        before = project.step
        project.server.hang()
        wait_for(lambda: project.step > before or not find_processes(project.home, "tunesmith.training.worker"))
        time.sleep(12)  # longer than the end of training waits
        project.server.go_on()
        code, summary, stderr = finish(process)
        assert code == 0, stderr
        assert "Training goes on" in stderr
        project.assert_recorded_once(summary)
    finally:
        project.server.kill()


def test_a_server_that_never_comes_leaves_a_candidate_and_the_command_that_uploads_it(tmp_path):
    project = TrackedProject(tmp_path, num_epochs=4)
    try:
        code, answer, _ = finish(project.run())
        assert code == 4
        message = answer["error"]["message"]
        assert "cannot be reached" in message
        (request,) = (project.home / "store" / "requests" / "train").iterdir()
        candidate = json.loads(request.read_text())
        metrics = project.home / "store" / "artifacts" / "train" / candidate["key"] / "metrics.jsonl"
        num_rows = metrics.read_text().count("\n")
        command = f"tunesmith run {project.recipe}"
        assert f"candidate {candidate['key'][:8]} of reviews: {num_rows} rows of metrics" in message
        assert f"to upload it, while data, recipe and code are as they were: {command}; to let it be: " in message

        project.server.start()
        _, answer, _ = finish(project.start("doctor"))
        (waiting,) = answer["unrecorded"]
        assert (waiting["num_rows"], waiting["command"]) == (num_rows, command)
        assert waiting["num_files"] > 0
        assert [check["state"] for check in answer["checks"] if check["name"] == "record"] == ["warn"]

        project.server.wait_until_up()
        code, summary, stderr = finish(project.run())
        assert code == 0, stderr
        computed = [stage["name"] for stage in summary["stages"] if not stage["is_cached"]]
        assert computed == ["decide", "register"]
        project.assert_recorded_once(summary)
        _, answer, _ = finish(project.start("doctor"))
        assert answer["unrecorded"] == []
    finally:
        project.server.kill()
