"""Steps that are put together while the GPU computes the ones before."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")

NUM_AHEAD = 2


def read_ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """The same items in the same order, made by a thread; what it raises is raised where the item would have come.

    Args:
        items: None of them is None. Nobody else may read from them, until what is returned is read to its end or
            closed.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="steps") as maker:
        coming = deque(maker.submit(next, items, None) for _ in range(NUM_AHEAD))
        while (item := coming.popleft().result()) is not None:
            coming.append(maker.submit(next, items, None))
            yield item
