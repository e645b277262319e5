"""What a flow run that is told to stop becomes, where no server is needed to see it."""

import signal
from uuid import uuid4

import pytest

from tunesmith.errors import Preempted, TrainingError


@pytest.fixture(autouse=True)
def _same_handler():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def run_by_hand(error):
    from tunesmith.tasks.preemption import reschedule_when_preempted

    @reschedule_when_preempted
    def run():
        raise error

    return run()


def test_a_run_by_hand_that_is_terminated_in_any_stage_is_preempted():
    from prefect.exceptions import TerminationSignal

    with pytest.raises(Preempted, match="Run the same command again"):
        run_by_hand(TerminationSignal(signal.SIGTERM))


def test_a_run_by_hand_whose_training_was_preempted_says_so():
    with pytest.raises(Preempted, match="stopped at a checkpoint"):
        run_by_hand(Preempted("stopped at a checkpoint"))


def test_other_errors_are_nobodys_business():
    with pytest.raises(TrainingError):
        run_by_hand(TrainingError("it broke"))


def test_a_run_that_was_preempted_too_often_is_not_scheduled_again():
    from prefect.client.schemas.objects import FlowRun

    from tunesmith.tasks.preemption import MAX_ATTEMPTS, reschedule

    class Client:
        def __init__(self):
            self.states = []

        def set_flow_run_state(self, flow_run_id, state):
            self.states.append(state)

    client = Client()
    reschedule(client, FlowRun(flow_id=uuid4(), run_count=MAX_ATTEMPTS - 1), "why")
    assert [(state.name, state.message) for state in client.states] == [("AwaitingRetry", "why")]
    with pytest.raises(Preempted, match=f"{MAX_ATTEMPTS} times"):
        reschedule(client, FlowRun(flow_id=uuid4(), run_count=MAX_ATTEMPTS), "why")
    assert len(client.states) == 1
