"""What is tried again, and what is not."""

import pytest

from tunesmith.errors import DataError, FullDiskError, TunesmithError


@pytest.mark.parametrize(
    ("error", "is_tried_again"),
    [
        (ConnectionResetError(), True),
        (TunesmithError("the server is away"), True),
        (FullDiskError("no room"), False),
        (DataError("no such column"), False),
        (ZeroDivisionError(), False),
    ],
)
def test_a_stage_is_tried_again_where_that_can_help(error, is_tried_again):
    from prefect.states import Failed

    from tunesmith.tasks.policy import is_transient

    assert is_transient(None, None, Failed(data=error)) == is_tried_again
