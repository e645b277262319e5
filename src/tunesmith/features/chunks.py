"""Features of a chunk of rows: found in the chunk cache, or made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.chunked import RowsChunk, read_chunk
from tunesmith.features.files import SUFFIX, write_features
from tunesmith.kinds import Examples, find_kind, kind_module
from tunesmith.kinds.encoder import Encoder
from tunesmith.kinds.limit import Limit
from tunesmith.store.chunks import Chunk, ChunkCache
from tunesmith.store.derivation import Ingredients, compose_ingredients
from tunesmith.store.keys import compute_key
from tunesmith.store.ref import Facts

KIND = "features"
MOST_SHORT_IDS = 1 << 16
"""A model that knows no more ids than this has them in 16 bits: half the bytes to write, verify and read."""


@dataclass(frozen=True)
class EncodingPlan:
    """How rows become features, as far as it is known before any row is.

    Attributes:
        examples: The kind of task, and its columns.
        limit: How long an example may be.
        id_type: What a token id is written as.
        ingredients: What shapes the features, beside the rows and the label set.
    """

    examples: Examples
    limit: Limit
    id_type: str
    ingredients: Ingredients


def plan_encoding(examples: Examples, limit: Limit, tokenizer_digest: str, vocab_size: int | None) -> EncodingPlan:
    """Put together how rows become features, with the code that runs now.

    Args:
        examples: The kind of task, and its columns.
        limit: How long an example may be.
        tokenizer_digest: Identifies the tokenizer.
        vocab_size: How many token ids the model knows; None where that is not known.
    """
    id_type = "uint16" if vocab_size is not None and vocab_size <= MOST_SHORT_IDS else "int32"
    ingredients = compose_ingredients(
        config={"examples": examples.key_fields(), "limit": limit.model_dump(mode="json")},
        inputs={"tokenizer": tokenizer_digest},
        code=(__name__, kind_module(examples)),
        libraries=("numpy", "pyarrow", "tokenizers", "transformers"),
    )
    return EncodingPlan(examples, limit, id_type, ingredients)


class Encoding:
    """How rows become features.

    Args:
        plan: What was known before.
        labels: The label set in id order.
        load_encoder: The tokenizer; called once at most, and only for rows that were never encoded.
    """

    def __init__(self, plan: EncodingPlan, labels: Sequence[str], load_encoder: Callable[[], Encoder]) -> None:
        self.examples = plan.examples
        self.limit = plan.limit
        self.id_type = pa.type_for_alias(plan.id_type)
        self.labels = labels
        self.key = compute_key({**plan.ingredients, "labels": [*labels]})
        self._load_encoder = load_encoder
        self._encoder: Encoder | None = None
        self._lock = Lock()

    @property
    def encoder(self) -> Encoder:
        """The tokenizer."""
        with self._lock:
            if self._encoder is None:
                self._encoder = self._load_encoder()
            return self._encoder


def ensure_features(cache: ChunkCache, encoding: Encoding, rows: RowsChunk) -> Chunk:
    """The features of a chunk of rows.

    Args:
        cache: The chunk cache.
        encoding: How rows become features.
        rows: The rows.

    Returns:
        An Arrow file; its facts are the counts of the kind, `max_id`, and `too_long`: pairs of a row id and its tokens.
    """
    key = compute_key({"rows": rows.key, "encoding": encoding.key})
    return cache.ensure(KIND, key, SUFFIX, lambda path: _encode(path, rows, encoding))


def _encode(path: Path, rows: RowsChunk, encoding: Encoding) -> Facts:
    kind = find_kind(encoding.examples)
    columns = dict.fromkeys(("row_id", *kind.required_columns(encoding.examples)))
    encoded = kind.encode(
        read_chunk(rows.path, [*columns]), encoding.encoder, encoding.examples, encoding.labels, encoding.limit
    )
    max_id = pc.max(pc.list_flatten(encoded.features["input_ids"])).as_py() or 0
    # Ids that the model does not know stay as they are: the stage refuses them.
    fits = max_id < MOST_SHORT_IDS
    write_features(path, _write_ids_as(encoding.id_type, encoded.features) if fits else encoded.features)
    return {**encoded.counts, "max_id": max_id, "too_long": [[*item] for item in encoded.too_long]}


def _write_ids_as(id_type: pa.DataType, features: pa.Table) -> pa.Table:
    place = features.column_names.index("input_ids")
    return features.set_column(place, "input_ids", features["input_ids"].cast(pa.list_(id_type)))
