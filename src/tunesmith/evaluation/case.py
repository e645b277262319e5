"""What is to be decided: who competes, for what, and what is demanded."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from tunesmith.evaluation.gate_config import GateConfig
from tunesmith.kinds import Examples


class Contender(BaseModel):
    """A model that is compared."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    key: str
    """The key of its train artifact."""
    value: float | None = None
    """The primary metric on the test examples of this decision."""
    version: int | None = None
    """The version that it is already; None where it is not registered yet."""
    promoted_by: str | None = None
    """The key of the decision that made it the champion once; None where none did."""


class Champion(BaseModel):
    """The version in use when the decision was made."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    version: int
    """Its number."""
    key: str | None
    """The key of its train artifact; None where somebody else registered it."""
    value: float | None = None
    """The primary metric on the test examples of this decision; None where it was not scored."""
    obstacle: str | None = None
    """Why it cannot be scored on these examples; None where it can."""


class Baseline(BaseModel):
    """What anyone can reach."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    name: str
    """What it is."""
    value: float | None = None
    """The primary metric."""


class Serving(BaseModel):
    """What serving the exported model takes."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    size_bytes: int
    """The size of its folder."""
    latency_seconds: float
    """The median time for one example."""


class Case(BaseModel):
    """What a decision is about, besides the predictions."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    report: str
    """The key of the evaluate artifact."""
    examples: Examples
    """The kind of task, and its columns."""
    labels: tuple[str, ...]
    """The label set in id order."""
    primary_metric: str
    """The metric that the decision rests on."""
    greater_is_better: bool
    """Its better direction."""
    gate: GateConfig
    """What is demanded."""
    candidate: Contender
    """The new model."""
    champion: Champion | None
    """The version in use; None where there is none."""
    baseline: Baseline
    """What it is compared with where there is no champion."""
    serving: Serving | None = None
    """What was measured of the exported model; None where the gate does not ask for it."""

    @property
    def is_settled(self) -> bool:
        """Whether the candidate is the champion, or was it once: then there is nothing to be judged."""
        is_champion = self.champion is not None and self.champion.key == self.candidate.key
        return is_champion or self.candidate.promoted_by is not None

    @property
    def opponent(self) -> str | None:
        """Whose predictions the candidate's are compared with, as a person would say it; None where nobody's are."""
        if self.is_settled:
            return None
        if self.champion is not None:
            return f"the champion (version {self.champion.version})" if self.champion.obstacle is None else None
        return f"the baseline ({self.baseline.name})" if self.gate.require_baseline else None
