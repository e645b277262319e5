"""The predictions of a model for the rows of a split: an artifact, computed once for all who compare with them.

Its key says which model and which rows. A candidate that has become the champion is looked at with the predictions that
it was judged by, as long as the test rows are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tunesmith.data.chunked import ChunkedRows
from tunesmith.kinds import Examples, Kind, kind_module
from tunesmith.store.derivation import Derivation, compose_ingredients
from tunesmith.store.folder import FolderStore
from tunesmith.store.ref import Facts, Ref

LIBRARIES = ("torch", "transformers")
FILE = "predictions.parquet"


@dataclass(frozen=True)
class JudgedRows:
    """The rows that models are judged on, and how they go through one.

    Attributes:
        splits: The split artifact.
        split: `validation` or `test`.
        examples: The kind of task, and its columns.
        batch_size: Most examples in a forward pass; padding moves the last bits of the logits.
    """

    splits: Ref
    split: str
    examples: Examples
    batch_size: int

    def open(self) -> ChunkedRows:
        """The rows."""
        return ChunkedRows.open(self.splits.folder, self.split)

    def derive(self, model: str, labels: Sequence[str], predict: Callable[[], pa.Table]) -> Derivation:
        """Describe the predictions of a model.

        Args:
            model: What the model is known by: the key of its train artifact.
            labels: Its label set in id order, in which its logits are.
            predict: Gives its prediction table for these rows; called where there is none yet.
        """

        def build(folder: Path) -> Facts:
            predictions = predict()
            pq.write_table(predictions, folder / FILE)
            return {"num_rows": predictions.num_rows, "labels": [*labels]}

        return Derivation(
            kind="predictions",
            ingredients=compose_ingredients(
                config={"examples": self.examples.key_fields(), "evaluate": {"batch_size": self.batch_size}},
                inputs={"model": model, "rows": self.open().digest},
                code=("tunesmith.evaluation.scoring", kind_module(self.examples)),
                libraries=LIBRARIES,
            ),
            build=build,
        )

    def predict(self, model: str, labels: Sequence[str], predict: Callable[[], pa.Table], store: FolderStore) -> Ref:
        """The predictions of a model: those that are there, or new ones; takes what `derive` takes."""
        return store.ensure(self.derive(model, labels, predict))


def read_predictions(ref: Ref, kind: Kind, labels: Sequence[str]) -> pa.Table:
    """The prediction table of an artifact, its logits in the order of a label set."""
    return kind.reorder_labels(pq.read_table(ref.folder / FILE), ref.facts["labels"], labels)
