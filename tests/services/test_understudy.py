"""A deployed run whose process is killed while it does not train: it waits for a person, or is about to leave."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from uuid import UUID

import pytest
from fault_proxy import fault_proxy
from test_prefect_away import NamedServer

from killable_training import wait_for

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]

NEVER, ALWAYS = 1e-9, 1.0

FLOW = """
import sys
from tunesmith.errors import Preempted
from tunesmith.tasks.preemption import reschedule_when_preempted

@reschedule_when_preempted
def run():
    print("running", flush=True)
    sys.stdin.readline()
    raise Preempted("told to stop")

run()
"""


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    """Prefect, behind a proxy that refuses as often as it is told to."""
    server = NamedServer(tmp_path_factory.mktemp("prefect"))
    with (
        server.running(),
        fault_proxy(server.url.removesuffix("/api"), share=NEVER, faults=("unavailable",)) as proxy,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("PREFECT_API_URL", f"{proxy.url}/api")
        yield proxy


@contextmanager
def prefect_client():
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with (
        temporary_settings({PREFECT_API_URL: os.environ["PREFECT_API_URL"]}),
        get_client(sync_client=True) as client,
    ):
        yield client


def start_deployed_run(name: str) -> tuple[UUID, subprocess.Popen[str]]:
    """A run that has reached its flow's body, and the process that it is in."""
    from prefect.states import Running

    with prefect_client() as client:
        deployment = client.create_deployment(client.create_flow_from_name("finetune"), name)
        flow_run = client.create_flow_run_from_deployment(deployment)
        client.set_flow_run_state(flow_run.id, Running(), force=True)
    process = subprocess.Popen(
        [sys.executable, "-c", FLOW],
        env={**os.environ, "PREFECT__FLOW_RUN_ID": str(flow_run.id)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    return flow_run.id, process


def wait_for_the_next_attempt(flow_run_id: UUID) -> None:
    deadline = time.monotonic() + 60
    with prefect_client() as client:
        while client.read_flow_run(flow_run_id).state_name != "AwaitingRetry":
            assert time.monotonic() < deadline, "nobody took it up"
            time.sleep(0.5)


def test_a_run_that_waits_for_a_person_is_taken_up_again(proxy):
    from prefect.states import Paused

    flow_run_id, process = start_deployed_run("waiting")
    with prefect_client() as client:
        client.set_flow_run_state(flow_run_id, Paused(timeout_seconds=3600))
    with process:
        process.kill()
    wait_for_the_next_attempt(flow_run_id)


def test_a_run_that_is_killed_while_prefect_does_not_take_its_leave_is_taken_up_again(proxy):
    flow_run_id, process = start_deployed_run("leaving")
    proxy.share, before = ALWAYS, proxy.counts["unavailable"]
    with process:
        assert process.stdin is not None
        process.stdin.write("stop\n")
        process.stdin.flush()
        wait_for(lambda: proxy.counts["unavailable"] > before)
        process.kill()
    proxy.share = NEVER
    wait_for_the_next_attempt(flow_run_id)
