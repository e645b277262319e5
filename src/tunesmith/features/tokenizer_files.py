"""The tokenizer that goes along with features: saved by transformers once, and then copied.

transformers takes seconds to import. What it saved is kept in the chunk cache as one archive of equal bytes, and where
the `tokenizers` library alone gives the same ids, nothing else is imported to encode what is new.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.kinds.encoder import Encoder, FastEncoder
from tunesmith.modeling.base import Base
from tunesmith.modeling.tokenizer import describe_encoder, find_unknown_tokens, load_tokenizer, make_encoder
from tunesmith.store.chunks import ChunkCache
from tunesmith.store.derivation import compose_ingredients
from tunesmith.store.keys import compute_key
from tunesmith.store.ref import Facts

_DEFINITION = "tokenizer.json"
_TIME = (1980, 1, 1, 0, 0, 0)
"""When every file of the archive was written: the bytes must not depend on it."""


@dataclass(frozen=True)
class SavedTokenizer:
    """A base model's tokenizer, as it goes along with features.

    Attributes:
        archive: A zip file of what transformers saved.
        facts: What an encoder must know beside its tokenizer.json, whether that file `is_enough`, and the tokens that
            are `unknown` to the model: the last of those that any text may need, and `unknown_if_written` in a text.
        base: The base model that it is of.
    """

    archive: Path
    facts: Facts
    base: Base

    @property
    def pad_token_id(self) -> int:
        """The id that fills up a batch."""
        return int(self.facts["encoder"]["pad_token_id"])

    def extract(self, folder: Path) -> None:
        """Put the files in a folder, which is made."""
        with zipfile.ZipFile(self.archive) as archive:
            archive.extractall(folder)

    def load_encoder(self) -> Encoder:
        """The encoder; imports transformers only where it has to."""
        if not self.facts["is_enough"]:
            return make_encoder(load_tokenizer(self.base.folder))
        with zipfile.ZipFile(self.archive) as archive:
            return FastEncoder.from_json(archive.read(_DEFINITION).decode(), **self.facts["encoder"])


def ensure_tokenizer(cache: ChunkCache, base: Base, max_length: int) -> SavedTokenizer:
    """A base model's tokenizer, from the cache where it is there.

    Args:
        cache: The chunk cache.
        base: The base model.
        max_length: Where whoever loads the tokenizer cuts: the model will have seen nothing longer.

    Raises:
        ModelError: The tokenizer cannot be loaded.
    """
    ingredients = compose_ingredients(
        config={"max_length": max_length},
        inputs={"tokenizer": base.tokenizer_digest},
        code=(__name__,),
        libraries=("tokenizers", "transformers"),
    )
    chunk = cache.ensure("tokenizer", compute_key(ingredients), ".zip", lambda path: _save(path, base, max_length))
    return SavedTokenizer(chunk.path, chunk.facts, base)


def _save(path: Path, base: Base, max_length: int) -> Facts:
    tokenizer = load_tokenizer(base.folder)
    tokenizer.model_max_length = max_length
    with tempfile.TemporaryDirectory(prefix="tunesmith-tokenizer-") as name:
        folder = Path(name)
        tokenizer.save_pretrained(folder)
        is_enough = tokenizer.is_fast and _is_same(tokenizer, folder / _DEFINITION)
        path.write_bytes(_pack(folder))
    needed, written = ({}, {}) if base.vocab_size is None else find_unknown_tokens(tokenizer, base.vocab_size)
    return {
        "encoder": describe_encoder(tokenizer),
        "is_enough": is_enough,
        "unknown": max(((number, token) for token, number in needed.items()), default=None),
        "unknown_if_written": {str(number): token for token, number in written.items()},
    }


def _is_same(tokenizer: Any, definition: Path) -> bool:
    """Whether a tokenizer.json describes all that the tokenizer does with a text."""
    if not definition.is_file():
        return False
    facts = describe_encoder(tokenizer)
    ours = make_encoder(tokenizer)
    theirs = FastEncoder.from_json(definition.read_text(encoding="utf-8"), **facts)
    return isinstance(ours, FastEncoder) and ours.backend.to_str() == theirs.backend.to_str()


def _pack(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.writestr(zipfile.ZipInfo(path.relative_to(folder).as_posix(), _TIME), path.read_bytes())
    return buffer.getvalue()
