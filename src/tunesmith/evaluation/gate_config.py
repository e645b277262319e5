"""What a recipe demands of a candidate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from tunesmith.section import NOT_IN_KEY, Conflict, Section

APPROVAL_HOURS = 24.0
"""How long a run waits for a person unless the recipe says otherwise."""


class GateConfig(Section):
    """What a candidate must do to become the champion."""

    min_gain: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """The gain over the champion that is not enough yet, in the primary metric's own unit: more must be shown."""
    non_inferiority_margin: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """The loss that would be too much: where it is set, a candidate is promoted that is shown to lose less."""
    alpha: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """The chance that is taken of promoting a candidate that is no better."""
    min_examples: Annotated[int, Field(ge=1)] = 30
    """Test examples without which nothing is decided."""
    require_baseline: bool = True
    """Whether it must beat the baseline that anyone can reach, when there is no champion yet to beat."""
    max_slice_loss: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """The loss on a slice of `evaluate.slices` that is too much, whatever is gained elsewhere."""
    slice_floors: Annotated[dict[str, Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=1)] | None = None
    """By the name of a slice, the value of the primary metric that the candidate must reach there."""

    max_calibration_error: Annotated[float, Field(gt=0, le=1)] | None = None
    """The expected calibration error on the test examples that is too much."""
    max_size_bytes: Annotated[int, Field(ge=1)] | None = None
    """The size of the exported model that is too much."""
    max_latency_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """The time for one example that is too much, measured on the machine that exports, without a batch."""

    approval: Literal["automatic", "manual"] = "automatic"
    """Whether a person has to approve of a promotion; until then the candidate stays one."""
    approval_timeout_hours: Annotated[float | None, Field(gt=0, le=24 * 365), NOT_IN_KEY] = None
    """How long the run waits for that person, by default 24; afterwards it ends without a promotion."""

    @classmethod
    def find_conflicts(cls, values: Mapping[str, Any]) -> Iterable[Conflict]:
        """Demands that have no effect, or contradict each other."""
        if values.get("approval", "automatic") == "automatic" and values.get("approval_timeout_hours") is not None:
            yield ("approval_timeout_hours",), "has no effect without approval: manual; remove it"
        gain = values.get("min_gain", 0)
        if values.get("non_inferiority_margin") is not None and isinstance(gain, (int, float)) and gain > 0:
            yield ("min_gain",), f"{gain:g} demands a gain, non_inferiority_margin allows a loss; set one of them"

    @property
    def least_gain(self) -> float:
        """The gain that is tested against: below zero where a loss is allowed."""
        return self.min_gain if self.non_inferiority_margin is None else -self.non_inferiority_margin

    @property
    def approval_seconds(self) -> float:
        """How long the run waits for a person."""
        return 3600 * (APPROVAL_HOURS if self.approval_timeout_hours is None else self.approval_timeout_hours)

    @property
    def limits_serving(self) -> bool:
        """Whether it matters how the exported model is served."""
        return self.max_size_bytes is not None or self.max_latency_seconds is not None
