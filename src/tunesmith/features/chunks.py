"""Features of a chunk of rows: found in the chunk cache, or made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

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


@dataclass(frozen=True)
class EncodingPlan:
    """How rows become features, as far as it is known before any row is.

    Attributes:
        examples: The kind of task, and its columns.
        limit: How long an example may be.
        ingredients: What shapes the features, beside the rows and the label set.
    """

    examples: Examples
    limit: Limit
    ingredients: Ingredients


def plan_encoding(examples: Examples, limit: Limit, tokenizer_digest: str) -> EncodingPlan:
    """Put together how rows become features, with the code that runs now.

    Args:
        examples: The kind of task, and its columns.
        limit: How long an example may be.
        tokenizer_digest: Identifies the tokenizer.
    """
    ingredients = compose_ingredients(
        config={"examples": examples.key_fields(), "limit": limit.model_dump(mode="json")},
        inputs={"tokenizer": tokenizer_digest},
        code=(__name__, kind_module(examples)),
        libraries=("numpy", "pyarrow", "tokenizers", "transformers"),
    )
    return EncodingPlan(examples, limit, ingredients)


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
    write_features(path, encoded.features)
    max_id = pc.max(pc.list_flatten(encoded.features["input_ids"])).as_py()
    return {**encoded.counts, "max_id": max_id or 0, "too_long": [[*item] for item in encoded.too_long]}
