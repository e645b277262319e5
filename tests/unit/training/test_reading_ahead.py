from __future__ import annotations

import threading
import time

import pytest

from tunesmith.training.reading_ahead import NUM_AHEAD, read_ahead


def test_the_items_come_in_their_order_and_are_made_by_another_thread_before_they_are_asked_for():
    made = []

    def make():
        for number in range(6):
            made.append((number, threading.current_thread().name))
            yield number

    items = read_ahead(make())
    assert next(items) == 0
    deadline = time.monotonic() + 10
    while len(made) < 1 + NUM_AHEAD and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(made) == 1 + NUM_AHEAD
    assert list(items) == [1, 2, 3, 4, 5]
    assert all(name.startswith("steps") for _, name in made)


def test_an_error_comes_where_its_item_would_have_come():
    def make():
        yield from range(2)
        raise ValueError("the third cannot be read")

    items = read_ahead(make())
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(ValueError, match="the third"):
        next(items)


def test_nothing_is_left_running_where_the_rest_is_not_wanted():
    items = read_ahead(iter(range(1000)))
    assert next(items) == 0
    items.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("steps")]
    assert list(read_ahead(iter([]))) == []
