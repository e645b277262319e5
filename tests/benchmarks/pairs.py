"""Timing two ways of doing the same thing, in turn, so that a drifting machine slows both."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Comparison:
    """How two ways compare.

    Attributes:
        name: What is compared.
        ours: Seconds of each of our runs.
        theirs: Seconds of each of the other runs, in the same order.
    """

    name: str
    ours: list[float]
    theirs: list[float]

    def __str__(self) -> str:
        ratios = sorted(other / own for own, other in zip(self.ours, self.theirs, strict=True))
        return (
            f"{self.name}: {statistics.median(ratios):.2f}x "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}, {len(ratios)} pairs); medians {statistics.median(self.ours):.2f} s "
            f"against {statistics.median(self.theirs):.2f} s"
        )


def compare(name: str, ours: Callable[[], object], theirs: Callable[[], object], num_pairs: int = 5) -> Comparison:
    """Run each way once to warm up, then in turn."""
    ours()
    theirs()
    pairs = [(_seconds(ours), _seconds(theirs)) for _ in range(num_pairs)]
    return Comparison(name, [own for own, _ in pairs], [other for _, other in pairs])


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
