"""The start stage: which weights training begins from, and which rows of the train split it is about.

With `model.start: champion`, training goes on from the registered champion. What counts is the newest model in the
champion's line that has something to learn from the rows: a champion that was trained on exactly these has not, so what
it began from itself is where training begins. The same rows so lead to the same candidate, which is there already,
whether it has become the champion since or not; and other settings are tried from where the champion's training began.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from tunesmith.data.chunked import ChunkedRows
from tunesmith.data.row_sets import find_members, number_rows
from tunesmith.errors import DataError
from tunesmith.kinds import Examples, find_kind
from tunesmith.modeling.base import find_base
from tunesmith.modeling.config import ModelConfig
from tunesmith.store.derivation import Derivation
from tunesmith.store.folder import FolderStore
from tunesmith.store.ref import Ref
from tunesmith.tracking.config import RegistryConfig, TrackingConfig
from tunesmith.tracking.registry import RegisteredVersion, find_line
from tunesmith.training.beginning import Beginning, Registry, SplitRows, read_lineage, read_names
from tunesmith.training.fit import check_fit

AS_ITS_OWN = "training begins where it began when one of its line was trained on them."
"""Why training does not begin from the champion."""


def derive_start(
    snapshot: Ref,
    splits: Ref,
    features: Ref,
    examples: Examples,
    model: ModelConfig,
    registry: RegistryConfig,
    tracking: TrackingConfig,
    store: FolderStore,
) -> Derivation:
    """Describe what training begins from.

    Raises:
        UserError: The champion does not fit the recipe or the rows; says what to do.
        TunesmithError: MLflow cannot be reached.
    """
    rows = SplitRows.open(snapshot, splits)
    return find_beginning(rows, splits, features, examples, model, Registry(registry, tracking), store).derive()


def find_start(
    snapshot: Ref,
    splits: Ref,
    features: Ref,
    examples: Examples,
    model: ModelConfig,
    registry: RegistryConfig,
    tracking: TrackingConfig,
    store: FolderStore,
) -> Ref:
    """Find what training begins from, and bring it into the store.

    Returns:
        The set of rows that the candidate will have seen; with a champion to begin from, its `model/` or `adapter/`,
        and which examples are trained on, where those are not all.

    Raises:
        UserError: The champion does not fit the recipe or the rows, or its files are gone or damaged; says what to do.
        TunesmithError: MLflow cannot be reached.
    """
    return store.ensure(derive_start(snapshot, splits, features, examples, model, registry, tracking, store))


def find_beginning(
    rows: SplitRows | None,
    splits: Ref,
    features: Ref,
    examples: Examples,
    model: ModelConfig,
    registry: Registry,
    store: FolderStore,
) -> Beginning:
    """Find what training begins from; nothing is published.

    Args:
        rows: The rows of the splits; None of a stream.
        splits: The split artifact; in a plan it need not exist yet.
        features: The encode artifact; in a plan it need not exist yet.
        examples: The kind of task.
        model: What the recipe says of the model.
        registry: Where the champion is.
        store: Where files of it may lie.

    Raises:
        UserError: The champion does not fit the recipe or the rows; says what to do.
        TunesmithError: MLflow cannot be reached.
    """
    begin = partial(Beginning, rows, splits, features, examples, model, registry, store)
    if model.start == "base" or rows is None:
        return begin(None, "")
    line = find_line(registry.registry, registry.tracking)
    if not line:
        return begin(None, "there is no champion yet; training begins from the base model.")
    for version in _before_these_rows(line, rows.digest):
        beginning = begin(version, "" if version is line[0] else f"{_describe(line[0])}; {AS_ITS_OWN}")
        if beginning.choice.is_chosen.any():
            break
    else:
        version = line[-1]
        if read_lineage(version).training.start is None:
            return begin(None, f"{_describe(line[0])}; {AS_ITS_OWN}")
        beginning = begin(version, f"{_describe(line[0])}, and what came before version {version.version} is gone.")
    labels = find_kind(examples).find_labels(partial(rows.train.distinct, cache=store.chunks), examples)
    check_fit(version, read_lineage(version), examples, labels, model, find_base(model).digest)
    _check_unseen(rows.test, "test", "a candidate would be judged on", beginning, version)
    _check_unseen(rows.validation, "validation", "the best model would be chosen by", beginning, version)
    return beginning


def _before_these_rows(line: Sequence[RegisteredVersion], rows: str) -> Sequence[RegisteredVersion]:
    """The part of a line that was not yet trained on exactly these rows, the newest first."""
    places = [place for place, version in enumerate(line) if read_lineage(version).training.rows == rows]
    return line[places[-1] + 1 :] if places else line


def _describe(champion: RegisteredVersion) -> str:
    return f"the champion, version {champion.version}, has nothing to learn from these rows"


def _check_unseen(
    rows: ChunkedRows, split: str, consequence: str, beginning: Beginning, version: RegisteredVersion
) -> None:
    """Refuse a split with rows that the model has seen, and knows by heart."""
    known = find_members(number_rows(read_names(rows)), beginning.seen)
    if known.any():
        raise DataError(
            f"model.start: {int(known.sum()):,} of {len(known):,} {split} rows have trained {version.uri}, or what it "
            f"began from: the split has changed since, and {consequence} rows that it knows. Put the split section "
            "back as it was, or set model.start: base."
        )
