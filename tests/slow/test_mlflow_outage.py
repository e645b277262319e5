"""A minute without MLflow in the middle of a training."""

import time

import pytest

from tracked_project import TrackedProject, finish

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.mark.parametrize("way", ["killed", "hanging"])
def test_a_minute_without_the_server_loses_no_row(tmp_path, way):
    project = TrackedProject(tmp_path, num_epochs=600)
    project.server.start()
    try:
        project.server.wait_until_up()
        process = project.run()
        project.wait_until_it_trains()
        if way == "killed":
            project.server.kill()
        else:
            project.server.hang()
        before = project.step
        time.sleep(60)
        assert project.step > before or project.step == 0  # 0: it is done already
        if way == "killed":
            project.server.start()
        else:
            project.server.go_on()
        code, summary, stderr = finish(process, seconds=1200)
        assert code == 0, stderr
        assert "Training goes on" in stderr
        project.assert_recorded_once(summary)
    finally:
        project.server.kill()
