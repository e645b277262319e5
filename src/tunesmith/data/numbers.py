"""What the numbers of a column are: their limits, mean and quantiles, of parts that merge."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from tunesmith.data.rows import FloatArray

NUM_POINTS = 65
"""Points that describe the numbers of a part: a quantile is off by less than one of 64 parts of its rows."""
RANKS = np.linspace(0, 1, NUM_POINTS)


class Numbers(BaseModel):
    """The finite numbers of a column."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    num_values: int
    """How many there are; nulls and infinity are not counted."""
    mean: float
    """Their mean."""
    points: tuple[float, ...]
    """The least, the greatest, and what lies evenly spread by rank between them."""

    @property
    def least(self) -> float:
        """The smallest."""
        return self.points[0]

    @property
    def greatest(self) -> float:
        """The largest."""
        return self.points[-1]

    def quantile(self, fraction: float) -> float:
        """The number that about this fraction of the numbers does not exceed."""
        return self.points[round(fraction * (NUM_POINTS - 1))]

    def count_between(self, edges: FloatArray) -> FloatArray:
        """How many numbers are up to the first edge, between each two (the upper one included), and above the last.

        Args:
            edges: Ascending, shape (num_edges,).

        Returns:
            Shape (num_edges + 1,).
        """
        below = np.interp(edges, np.array(self.points), RANKS, left=0.0, right=1.0)
        counts: FloatArray = np.diff(np.concatenate([[0.0], below, [1.0]])) * self.num_values
        return counts


def measure_numbers(values: pa.Array) -> dict[str, Any]:
    """Numbers as JSON values that `merge_numbers` takes.

    Args:
        values: Whole or decimal numbers, without nulls.
    """
    numbers = values.to_numpy(zero_copy_only=False).astype(np.float64)
    numbers = np.sort(numbers[np.isfinite(numbers)])
    if not len(numbers):
        return {"n": 0, "mean": 0.0, "points": []}
    places = np.ceil(RANKS * len(numbers)).astype(np.int64) - 1
    scale = max(abs(numbers[0]), abs(numbers[-1])) or 1.0  # the sum of the largest decimal numbers is infinite
    mean = float(np.mean(numbers / scale)) * float(scale)
    return {"n": len(numbers), "mean": mean, "points": numbers[np.maximum(places, 0)].tolist()}


def merge_numbers(parts: Iterable[Mapping[str, Any]]) -> Numbers | None:
    """The numbers of all parts together; None where there are none."""
    measured = [part for part in parts if part["n"]]
    if not measured:
        return None
    num_values = sum(part["n"] for part in measured)
    return Numbers(
        num_values=num_values,
        mean=sum(part["mean"] * (part["n"] / num_values) for part in measured),
        points=tuple(_merge_points(measured)),
    )


def _merge_points(parts: list[Mapping[str, Any]]) -> list[float]:
    if len(parts) == 1:
        return list(parts[0]["points"])
    points = np.concatenate([part["points"] for part in parts])
    weights = np.repeat([part["n"] / NUM_POINTS for part in parts], NUM_POINTS)
    order = np.argsort(points, kind="stable")
    reached = np.cumsum(weights[order])
    places = np.searchsorted(reached, RANKS * reached[-1])
    merged: list[float] = points[order][np.minimum(places, len(points) - 1)].tolist()
    return merged
