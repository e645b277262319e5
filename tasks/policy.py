"""How every stage is cached and retried."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prefect.cache_policies import CachePolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.tasks import Task

from tunesmith.errors import FullDiskError, TunesmithError, UserError
from tunesmith.store.config import open_store
from tunesmith.store.derivation import Derivation


@dataclass
class ByContent(CachePolicy):
    """A stage is Cached when, and only when, its artifact lies intact in the store.

    Prefect's own record of a result outlives a deleted or damaged artifact, so it is never trusted: where the store has
    the artifact, the record is written anew; where it has not, the task runs without one.
    """

    derive: Callable[..., Derivation] | None = None

    def compute_key(
        self, task_ctx: TaskRunContext, inputs: dict[str, Any], flow_parameters: dict[str, Any], **_: Any
    ) -> str | None:
        """The artifact's key, or None when it has to be computed."""
        assert self.derive is not None
        names = inspect.signature(self.derive).parameters
        store = open_store(inputs["store"])
        arguments = {**inputs, "store": store}
        try:
            derivation = self.derive(**{name: value for name, value in arguments.items() if name in names})
            ref = store.find(derivation)
        except TunesmithError:
            return None  # the task itself meets the same error, and reports it
        if ref is None:
            return None
        task_ctx.result_store.write(obj=ref, key=derivation.key)
        return derivation.key


def is_transient(_task: Task[Any, Any], _task_run: TaskRun, state: State[Any]) -> bool:
    """Whether a retry can help: not where the user has to change something, and not after an interruption."""
    error = state.data if isinstance(state.data, BaseException) else state.result(raise_on_failure=False)
    return isinstance(error, (OSError, TunesmithError)) and not isinstance(error, (UserError, FullDiskError))
