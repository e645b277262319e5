"""The order of a stream's rows: random, the same every time, and known at any place without what came before.

A stream's rows lie in *spans*, which are read whole. An epoch reads the spans in a random order, and each row is then
held back for a random while: it leaves in a later *round*, of which there is one for each span that is read. The wait
is drawn from the seed, the epoch and the row's place, and is at most twice the buffer, so what a round gives follows
from the few spans before it. To continue at a round, those are read again, and nothing else.

A buffer from which random rows are drawn, as other libraries have it, mixes as well at the same size. But a row can
stay in it for ever, so what is in it follows from all that came before: it is stored row by row, or it is lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tunesmith.data.origins import IntArray
from tunesmith.data.rows import FloatArray

MAX_LANES = 8
"""How many files that can only be read from front to end are read at the same time."""

ORDER, LANES, WAITS, MIX = range(4)
"""What random numbers are for."""


@dataclass(frozen=True)
class SpanList:
    """What is known of the spans of a stream before they are read.

    Attributes:
        strands: The strand of each span, ascending. The spans of a strand are read in their order, such as those of a
            compressed file; a span that can be read at any time is a strand by itself.
        num_lines: About how many rows each span has, before any is dropped; at least 1.
    """

    strands: IntArray
    num_lines: IntArray


@dataclass(frozen=True)
class Share:
    """Which part of a stream a process reads.

    Attributes:
        rank: The number of the process.
        world_size: How many processes share the stream.
    """

    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank must be in [0, world_size), not {self.rank} of {self.world_size}")


class Round(NamedTuple):
    """The rows that leave together.

    Attributes:
        number: Counts the rounds of an epoch, from 0.
        table: The rows.
    """

    number: int
    table: pa.Table


class EpochOrder:
    """The order of the rows of one epoch.

    Args:
        spans: The spans.
        shuffle_buffer: For how many rows a row is held back on average, and for twice as many at most; so it is also
            about how many rows are held. None for the order in which the rows lie.
        seed: Another seed is another order; in [0, 2**64).
        epoch: Each epoch has an order of its own.
        share: Which of the spans are read here.
    """

    def __init__(
        self, spans: SpanList, shuffle_buffer: int | None, seed: int = 0, epoch: int = 0, share: Share = Share()
    ) -> None:
        self._seed, self._epoch = seed, epoch
        self._longest = None if shuffle_buffer is None else 2 * shuffle_buffer
        order = np.arange(len(spans.strands)) if shuffle_buffer is None else _order_spans(spans.strands, seed, epoch)
        self.spans: IntArray = order[share.rank :: share.world_size]
        self._lines = spans.num_lines[self.spans]
        self._ends = np.cumsum(self._lines)

    @property
    def num_rounds(self) -> int:
        """How many rounds there are: one for each span."""
        return len(self.spans)

    def find_first(self, number: int) -> int:
        """The first round whose span may hold rows that leave in round `number` or later."""
        if self._longest is None or number >= self.num_rounds:
            return number
        start = self._ends[number] - self._lines[number]
        return min(number, int(np.searchsorted(self._ends + self._longest, start, side="right")))

    def read(self, load: Callable[[int], pa.Table], start: int = 0) -> Iterator[Round]:
        """The rounds from `start` on.

        Args:
            load: Reads a span; always the same rows.
            start: The first round that is given; spans before it are read as far as rows of theirs are still held.
        """
        held: deque[dict[int, pa.Table]] = deque()
        for number in range(self.find_first(start), self.num_rounds):
            held.append(self._divide(number, load(int(self.spans[number])), start))
            if number < start:
                continue
            leaving = [rows.pop(number) for rows in held if number in rows]
            held = deque(rows for rows in held if rows)
            if leaving:
                yield Round(number, self._mix(number, pa.concat_tables(leaving)))

    def _divide(self, number: int, table: pa.Table, start: int) -> dict[int, pa.Table]:
        """A span's rows by the round in which they leave, from round `start` on."""
        if self._longest is None or table.num_rows == 0:
            return {number: table} if table.num_rows and number >= start else {}
        rounds = self._draw_rounds(number, table.num_rows)
        places = np.flatnonzero(rounds >= start)
        places = places[np.argsort(rounds[places], kind="stable")]
        table = table.take(pa.array(places))
        leaving, firsts = np.unique(rounds[places], return_index=True)
        bounds = pairwise([*firsts.tolist(), len(places)])
        slices = (table.slice(low, high - low) for low, high in bounds)
        return dict(zip(leaving.tolist(), slices, strict=True))

    def _draw_rounds(self, number: int, num_rows: int) -> IntArray:
        """The round in which each row of a span leaves."""
        assert self._longest is not None
        waits = _draw(self._seed, self._epoch, WAITS, int(self.spans[number]), num_rows) * self._longest
        places = (np.arange(num_rows) + 0.5) / num_rows * self._lines[number]
        rounds = np.searchsorted(self._ends, self._ends[number] - self._lines[number] + places + waits, side="right")
        full = int(np.searchsorted(self._ends, self._longest))  # what left before would come from few places
        clipped: IntArray = np.clip(rounds, max(number, full), self.num_rounds - 1)
        return clipped

    def _mix(self, number: int, table: pa.Table) -> pa.Table:
        if self._longest is None:
            return table
        draws = _draw(self._seed, self._epoch, MIX, int(self.spans[number]), table.num_rows)
        return table.take(pa.array(np.argsort(draws, kind="stable")))


def _order_spans(strands: IntArray, seed: int, epoch: int) -> IntArray:
    """A random order of spans in which those of a strand stay in theirs, and few strands are begun at a time."""
    sizes = np.bincount(strands)
    ranks = np.argsort(np.argsort(_draw(seed, epoch, LANES, 0, len(sizes)), kind="stable"), kind="stable")
    lanes = np.where(sizes == 1, MAX_LANES + np.arange(len(sizes)), ranks % MAX_LANES)[strands]
    draws = _draw(seed, epoch, ORDER, 0, len(strands))
    keys = np.empty(len(strands))
    keys[np.lexsort((np.arange(len(strands)), ranks[strands], lanes))] = draws[np.lexsort((draws, lanes))]
    order: IntArray = np.argsort(keys, kind="stable")
    return order


def _draw(seed: int, epoch: int, purpose: int, index: int, number: int) -> FloatArray:
    """Random numbers in [0, 1). Those of a bit generator never change with numpy's version, as others may."""
    key = np.array([seed, (epoch << 34) | (index << 2) | purpose], dtype=np.uint64)
    bits = np.random.Philox(key=key).random_raw(number) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53
