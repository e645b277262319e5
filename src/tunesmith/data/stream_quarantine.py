"""The rows of a stream that the contract refuses: each kept once, and counted while the stream goes on.

A span's refused rows are a file of their own, named after the span. A span that is read again, after a crash, in the
next epoch or by another process, finds its file there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tunesmith.data.breaches import describe_breaches
from tunesmith.data.contract import ContractConfig
from tunesmith.data.quarantine import Refused
from tunesmith.errors import DataError

MIN_CHECKED = 10_000
"""How many rows a share of refused ones is told of; before, a few would count for many."""

Counts = tuple[int, int]
"""Rows that were checked, and how many of them were refused."""


class StreamQuarantine:
    """Keeps refused rows.

    Args:
        folder: Where; made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, span: int, refused: Refused) -> None:
        """Keep the refused rows of a span, if they are not there yet."""
        path = self._folder / f"{span:08d}.parquet"
        if refused.num_rows == 0 or path.exists():
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}")
        pq.write_table(refused.table, aside, compression="zstd")
        aside.replace(path)

    def tables(self) -> Iterator[pa.Table]:
        """What was kept so far, in the order of the files: columns file, line, reasons and row."""
        for path in sorted(self._folder.glob("*.parquet")):
            yield pq.read_table(path)


class RefusalLimit:
    """Stops a stream whose contract refuses too many rows.

    Args:
        contract: Says how many are too many.
        folder: Where they are kept.
    """

    def __init__(self, contract: ContractConfig | None, folder: Path) -> None:
        self._limit = 0.0 if contract is None else contract.max_quarantined_fraction
        self._folder = folder
        self.restart(0, (0, 0))

    def restart(self, first: int, counts: Counts) -> None:
        """Count on from a round of an epoch.

        Args:
            first: The round whose rows are counted next.
            counts: What was counted before it.
        """
        self._first = first
        self._totals: list[Counts] = [counts]

    def counts_before(self, first: int) -> Counts:
        """What was counted before a round."""
        return self._totals[first - self._first]

    def add(self, num_kept: int, refused: Refused) -> None:
        """Count the rows of the next round.

        Raises:
            DataError: Too many were refused.
        """
        num_checked, num_refused = self._totals[-1]
        self._totals.append((num_checked + num_kept + refused.num_rows, num_refused + refused.num_rows))
        if refused.num_rows:
            self._check(0 if self._limit == 0 else MIN_CHECKED, refused)

    def check_whole(self) -> None:
        """Look at the whole epoch.

        Raises:
            DataError: Too many rows were refused.
        """
        self._check(1, None)

    def _check(self, least: int, refused: Refused | None) -> None:
        num_checked, num_refused = self._totals[-1]
        if num_checked < least or num_refused <= self._limit * num_checked:
            return
        table = "" if refused is None else f"\n{describe_breaches(refused.rows())}\n"
        raise DataError(
            f"the contract refuses {num_refused:,} of the first {num_checked:,} rows of the stream, "
            f"{num_refused / num_checked:.2%} of them; data.contract.max_quarantined_fraction allows "
            f"{self._limit:.2%}.{table or ' '}They are kept with their reasons in {self._folder}. Correct the rows, "
            "the contract or the limit."
        )
