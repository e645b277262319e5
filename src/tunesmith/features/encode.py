"""The encode stage: splits become features, and the tokenizer goes with them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from tunesmith.errors import DataError, ModelError
from tunesmith.kinds import Examples, find_kind, kind_module
from tunesmith.modeling.base import Base, ModelConfig, find_base
from tunesmith.section import Section
from tunesmith.store.derivation import Derivation, compose_ingredients
from tunesmith.store.folder import FolderStore
from tunesmith.store.ref import Facts, Ref

log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")
DEFAULT_MAX_LENGTH = 512
"""Attention costs grow with the square of the length, so a longer input has to be asked for."""
CHUNK_ROWS = 1000
"""Rows of a record batch: what datasets reads from the disk at once."""


class TokenizeConfig(Section):
    """How texts become token ids."""

    max_length: int | None = Field(None, ge=2)
    """Tokens of the longest example, or of a block of text to generate; by default what the model takes, up to 512."""


def derive_encode(splits: Ref, examples: Examples, model: ModelConfig, tokenize: TokenizeConfig) -> Derivation:
    """What the features of a split dataset are made of.

    Raises:
        ModelError: The base model cannot be used, or takes fewer tokens than `tokenize.max_length`.
    """
    base = find_base(model)
    max_length = compute_max_length(tokenize, base)
    return Derivation(
        kind="encode",
        ingredients=compose_ingredients(
            config={"examples": examples.key_fields(), "tokenize": {"max_length": max_length}},
            inputs={"splits": splits.key, "tokenizer": base.tokenizer_digest},
            code=(__name__, kind_module(examples)),
            libraries=("tokenizers", "transformers"),
        ),
        build=lambda folder: _build(folder, splits, examples, base, max_length),
    )


def encode(splits: Ref, examples: Examples, model: ModelConfig, tokenize: TokenizeConfig, store: FolderStore) -> Ref:
    """Tokenize the splits for a base model; found in the store when it was done before.

    Raises:
        DataError: A split has nothing to learn from, or a label is not in the set.
        ModelError: The base model or its tokenizer cannot be used.
    """
    return store.ensure(derive_encode(splits, examples, model, tokenize))


def compute_max_length(tokenize: TokenizeConfig, base: Base) -> int:
    """Tokens of the longest example.

    Raises:
        ModelError: The recipe asks for more than the model takes.
    """
    if tokenize.max_length is None:
        return min(base.max_length or DEFAULT_MAX_LENGTH, DEFAULT_MAX_LENGTH)
    if base.max_length is not None and tokenize.max_length > base.max_length:
        raise ModelError(
            f"tokenize.max_length is {tokenize.max_length}, but the model in {base.folder} takes at most "
            f"{base.max_length} tokens. Set it to {base.max_length} or less, or choose another base model."
        )
    return tokenize.max_length


def _build(folder: Path, splits: Ref, examples: Examples, base: Base, max_length: int) -> Facts:
    from tunesmith.modeling.tokenizer import load_tokenizer, pad_token_id

    tokenizer = load_tokenizer(base.folder)
    kind = find_kind(examples)
    tables = {split: pq.read_table(splits.folder / f"{split}.parquet") for split in SPLITS}
    labels = kind.find_labels(tables["train"], examples)
    counts: dict[str, dict[str, int]] = {"num_examples": {}, "num_tokens": {}, "num_truncated": {}}
    for split, table in tables.items():
        features, counted = kind.encode(table, tokenizer, examples, labels, max_length)
        _check_features(features, split, table.num_rows)
        _check_ids(features, pad_token_id(tokenizer), base)
        _write(folder / f"{split}.arrow", features)
        _count(counts, split, {"num_examples": features.num_rows, **counted})
    # The model will have seen nothing longer, so whoever loads this tokenizer cuts at the same length.
    tokenizer.model_max_length = max_length
    tokenizer.save_pretrained(folder / "tokenizer")
    _log_truncation(counts, max_length)
    return {**counts, "labels": list(labels), "max_length": max_length, "pad_token_id": pad_token_id(tokenizer)}


def _count(counts: dict[str, dict[str, int]], split: str, counted: Mapping[str, int]) -> None:
    for name, number in counted.items():
        counts[name][split] = number


def _check_features(features: pa.Table, split: str, num_rows: int) -> None:
    if features.num_rows == 0:
        raise DataError(
            f"the {split} split has {num_rows} rows, too few for a single example. "
            f"Add data, or give the {split} split a larger fraction in the recipe's split section."
        )


def _check_ids(features: pa.Table, padding: int, base: Base) -> None:
    largest = max(padding, pc.max(pc.list_flatten(features["input_ids"])).as_py() or 0)
    if base.vocab_size is not None and largest >= base.vocab_size:
        raise ModelError(
            f"{base.folder}: the tokenizer gives the token id {largest}, but the model knows {base.vocab_size} ids: "
            "the two do not belong together. Put the tokenizer that the model was trained with in the folder."
        )


def _write(path: Path, features: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, features.schema) as stream:
        stream.write_table(features.combine_chunks(), max_chunksize=CHUNK_ROWS)


def _log_truncation(counts: Mapping[str, Mapping[str, Any]], max_length: int) -> None:
    cut, total = (sum(counts[name].values()) for name in ("num_truncated", "num_examples"))
    log.info("encode: %s examples, %s of them cut at %d tokens", f"{total:,}", f"{cut:,}", max_length)
