"""The encode stage: splits become features, chunk by chunk, and the tokenizer goes with them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from tunesmith.data.chunked import ChunkedRows
from tunesmith.errors import ModelError, UserError
from tunesmith.features.chunks import Encoding, EncodingPlan, ensure_features, plan_encoding
from tunesmith.features.counts import Counts, add_up, as_facts, check_not_empty, describe, refuse_too_long
from tunesmith.features.files import SPLITS, FeaturesFile, write_index
from tunesmith.features.known_ids import OR_RESIZE, check_known, describe_unknown
from tunesmith.features.tokenizer_files import SavedTokenizer, ensure_tokenizer
from tunesmith.kinds import Examples, find_kind, kind_module
from tunesmith.kinds.limit import Limit, OnOverflow
from tunesmith.modeling.base import Base, find_base
from tunesmith.modeling.config import ModelConfig
from tunesmith.section import Section
from tunesmith.store.chunks import Chunk, ChunkCache
from tunesmith.store.derivation import Derivation, compose_ingredients
from tunesmith.store.folder import FolderStore
from tunesmith.store.ref import Facts, Ref

log = logging.getLogger(__name__)

DEFAULT_MAX_LENGTH = 512
"""Attention costs grow with the square of the length, so a longer input has to be asked for."""
NUM_THREADS = 2
"""Chunks that are encoded at a time: the tokenizer has threads of its own, and one chunk is read or written beside."""
REPORT_SECONDS = 10.0
"""How often the log says how far encoding is."""


class TokenizeConfig(Section):
    """How texts become token ids."""

    max_length: int | None = Field(None, ge=2)
    """Tokens of the longest example, or of a block of text to generate; by default what the model takes, up to 512."""
    on_overflow: OnOverflow = "truncate"
    """What becomes of a row that is longer: `truncate` cuts its end (of a pair, of the longer text), `window` makes it
    several examples, whose mean logits are its prediction, `drop` leaves it out, also of the test, `stop` refuses."""
    stride: int = Field(0, ge=0)
    """Tokens that two windows of one text share; only with `on_overflow: window`."""

    @field_validator("stride")
    @classmethod
    def _has_effect(cls, stride: int, info: ValidationInfo) -> int:
        policy, max_length = info.data.get("on_overflow"), info.data.get("max_length")
        if stride and policy not in (None, "window"):
            raise ValueError(f"has no effect with on_overflow: {policy}; remove it, or set on_overflow: window")
        if max_length is not None and stride >= max_length:
            raise ValueError(f"is {stride}, but a window of max_length {max_length} must move on; make it smaller")
        return stride


def derive_encode(
    splits: Ref, examples: Examples, model: ModelConfig, tokenize: TokenizeConfig, store: FolderStore
) -> Derivation:
    """What the features of a split dataset are made of.

    Args:
        splits: The split artifact; in a plan it need not exist yet.
        examples: The kind of task, and its columns.
        model: The base model.
        tokenize: How texts become token ids.
        store: Where the chunks are kept; used only when the features are built.

    Raises:
        ModelError: The base model cannot be used, or takes fewer tokens than `tokenize.max_length`.
        UserError: `tokenize.on_overflow` has no effect for this kind of task.
    """
    base = find_base(model)
    limit = find_limit(tokenize, examples, base)
    # Now, with the code that runs, and not when the source may have changed.
    plan = plan_encoding(examples, limit, base.tokenizer_digest, base.vocab_size)
    return Derivation(
        kind="encode",
        ingredients=compose_ingredients(
            config={"examples": examples.key_fields(), "tokenize": limit.model_dump(mode="json")},
            inputs={"splits": splits.key, "tokenizer": base.tokenizer_digest},
            code=(__name__, kind_module(examples)),
            libraries=("numpy", "pyarrow", "tokenizers", "transformers"),
        ),
        build=lambda folder: _build(folder, splits, base, plan, store),
    )


def encode(splits: Ref, examples: Examples, model: ModelConfig, tokenize: TokenizeConfig, store: FolderStore) -> Ref:
    """Tokenize the splits for a base model; found in the store when it was done before.

    Returns:
        For each split `<split>.json` with the names of its files, the files, and `tokenizer/`.

    Raises:
        DataError: A split has nothing to learn from, a label is not in the set, or a row is too long where the recipe
            says to stop.
        ModelError: The base model or its tokenizer cannot be used.
    """
    return store.ensure(derive_encode(splits, examples, model, tokenize, store))


def find_limit(tokenize: TokenizeConfig, examples: Examples, base: Base) -> Limit:
    """How long an example may be, and what becomes of a longer row.

    Raises:
        ModelError: The recipe asks for more tokens than the model takes, read or written, or windows could not move on.
        UserError: What becomes of a longer row is asked for where no row is too long.
    """
    if not find_kind(examples).CUTS_TEXTS and tokenize.on_overflow != "truncate":
        raise UserError(
            f"tokenize.on_overflow: {tokenize.on_overflow} has no effect on {examples.kind}, which cuts no text short; "
            "remove it"
        )
    examples.check_room(base.max_length)
    max_length = compute_max_length(tokenize, base)
    if tokenize.on_overflow == "window" and tokenize.stride >= max_length:
        raise ModelError(
            f"tokenize.stride is {tokenize.stride}, but an example has at most {max_length} tokens, and a window must "
            "move on. Make it smaller."
        )
    return Limit(max_length=max_length, on_overflow=tokenize.on_overflow, stride=tokenize.stride)


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


def _build(folder: Path, splits: Ref, base: Base, plan: EncodingPlan, store: FolderStore) -> Facts:
    limit = plan.limit
    assert limit.max_length is not None
    tokenizer = ensure_tokenizer(store.chunks, base, limit.max_length)
    _check_vocabulary(tokenizer)
    tokenizer.extract(folder / "tokenizer")
    rows = {split: ChunkedRows.open(splits.folder, split) for split in SPLITS}
    labels = find_kind(plan.examples).find_labels(partial(rows["train"].distinct, cache=store.chunks), plan.examples)
    encoding = Encoding(plan, labels, tokenizer.load_encoder)
    chunks = _encode_rows(rows, encoding, store.chunks)
    for split, found in chunks.items():
        _link(folder, split, found, store.chunks)
    counts = {split: add_up(chunk.facts for chunk in found) for split, found in chunks.items()}
    refuse_too_long(counts, limit)
    for split, count in counts.items():
        check_not_empty(split, count, limit)
    _check_ids(counts.values(), tokenizer)
    log.info("encode: %s", describe(counts, limit))
    return {
        **as_facts(counts),
        **limit.model_dump(mode="json"),
        "labels": [*labels],
        "pad_token_id": tokenizer.pad_token_id,
    }


def _encode_rows(rows: Mapping[str, ChunkedRows], encoding: Encoding, cache: ChunkCache) -> dict[str, list[Chunk]]:
    """The features of every chunk of every split."""
    wanted = [(split, chunk) for split, chunked in rows.items() for chunk in chunked.chunks]
    num_rows = sum(chunk.num_rows for _, chunk in wanted)
    num_done, reported = 0, time.monotonic()
    found: dict[str, list[Chunk]] = {split: [] for split in rows}
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        try:
            features = pool.map(partial(ensure_features, cache, encoding), (chunk for _, chunk in wanted))
            for (split, rows_chunk), chunk in zip(wanted, features, strict=True):
                found[split].append(chunk)
                num_done += rows_chunk.num_rows
                if time.monotonic() - reported > REPORT_SECONDS:
                    log.info("encode: %s of %s rows", f"{num_done:,}", f"{num_rows:,}")
                    reported = time.monotonic()
        finally:
            pool.shutdown(cancel_futures=True)
    return found


def _link(folder: Path, split: str, chunks: Sequence[Chunk], cache: ChunkCache) -> None:
    for chunk in {chunk.key: chunk for chunk in chunks}.values():
        target = folder / chunk.path.name
        if not target.exists():
            cache.link(chunk.path, target)
    files = [FeaturesFile(file=chunk.path.name, num_examples=int(chunk.facts["num_examples"])) for chunk in chunks]
    write_index(folder, split, files)


def _check_vocabulary(tokenizer: SavedTokenizer) -> None:
    if tokenizer.facts["unknown"] is not None:
        (number, token), base = tokenizer.facts["unknown"], tokenizer.base
        raise ModelError(
            f"{describe_unknown(number, token, base.folder, base.vocab_size)}: the two do not belong together. Put the "
            f"tokenizer that the model was trained with in the folder{OR_RESIZE}."
        )


def _check_ids(counts: Iterable[Counts], tokenizer: SavedTokenizer) -> None:
    largest = max(count.max_id for count in counts)
    token, base = tokenizer.facts["unknown_if_written"].get(str(largest)), tokenizer.base
    check_known(largest, token, "a row", base.folder, base.vocab_size)
