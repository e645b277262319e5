"""Two gigabytes, streamed in little memory; killed, and continued to the row."""

from __future__ import annotations

import os

import pytest

from streamed import KilledStream, Streamed, write_large

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

NUM_BYTES = 2 * 10**9
MAX_GROWTH = 300 * 2**20


def test_two_gigabytes_are_streamed_in_bounded_memory_and_three_kills_change_no_row(tmp_path, capsys):
    large = write_large(tmp_path / "large.jsonl", NUM_BYTES)
    streams = []
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        os.link(large, tmp_path / name / large.name)
        streams.append(KilledStream(Streamed(tmp_path / name), shuffle_buffer=10_000, seed=7))
    whole, killed = streams
    expected, facts = whole.finish()
    with capsys.disabled():
        print(
            f"\n{large.stat().st_size / 1e6 / facts['seconds']:.0f} MB/s, {facts['num_rows']:,} rows; memory grew by "
            f"{facts['growth'] / 2**20:.0f} MB, from {facts['memory'] / 2**20:.0f} MB before the first row"
        )
    assert facts["growth"] < MAX_GROWTH
    for share in (0.1, 0.5, 0.9):
        killed.kill_at(share * whole.log.stat().st_size)
    assert killed.finish()[0] == expected
