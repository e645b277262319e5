"""Tokenizers, loaded quietly, offline and without remote code. Apart from models: encoding needs no more than this."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.errors import ModelError
from tunesmith.kinds.encoder import FastEncoder, PythonEncoder
from tunesmith.modeling.base import check_tokenizer_files, read_json
from tunesmith.modeling.quiet import quiet_libraries

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OFFLINE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""How everything is loaded: `find_base` has fetched the files, and a model's own code is never run."""
_TYPES_WITHOUT_SETTING = frozenset({"xlnet"})
"""Model types that read token type ids, though their configuration has no `type_vocab_size`."""


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in a model's folder; it gives token type ids only to a model that reads them, and knows
    whether that is an encoder with a decoder.

    Raises:
        ModelError: There is none, or it cannot be read.
    """
    from transformers import AutoTokenizer

    quiet_libraries()
    check_tokenizer_files(folder)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, **OFFLINE)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"{folder}: its tokenizer cannot be loaded: {first_line(error)}") from error
    if not _reads_token_types(folder):
        names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
        tokenizer.model_input_names = names
        tokenizer.init_kwargs["model_input_names"] = names
    if _is_encoder_decoder(folder):
        tokenizer.init_kwargs["is_encoder_decoder"] = True  # saved with it, for when it lies apart from the model
        if not tokenizer.is_fast:  # those of Python do not add the token that ends a text to one that has it
            tokenizer.split_special_tokens = tokenizer.init_kwargs["split_special_tokens"] = True
    return tokenizer


def pad_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that fills up a batch: the padding token, else the end-of-text token, else 0; it is masked anyway."""
    ids = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return int(next(number for number in ids if number is not None))


def start_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id for a text that would have no token: the one that begins a text, else the one that ends it, else 0."""
    ids = (tokenizer.bos_token_id, tokenizer.eos_token_id, 0)
    return int(next(number for number in ids if number is not None))


def has_own_padding(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether what fills up a batch stands in no text."""
    others = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id)
    return tokenizer.pad_token_id is not None and tokenizer.pad_token_id not in others


def make_encoder(tokenizer: PreTrainedTokenizerBase) -> FastEncoder | PythonEncoder:
    """The encoder of a tokenizer, with exactly its ids; the tokenizer is not changed."""
    facts = describe_encoder(tokenizer)
    if not tokenizer.is_fast:
        return PythonEncoder(tokenizer, **facts)
    return FastEncoder.from_json(tokenizer.backend_tokenizer.to_str(), **facts)


def describe_encoder(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What an encoder must know beside a tokenizer.json, as JSON values."""
    facts = {
        "pad_token_id": pad_token_id(tokenizer),
        "eos_token_id": tokenizer.eos_token_id,
        "start_token_id": start_token_id(tokenizer),
        # Classifiers with a decoder pool where a text ends, and refuse rows that end more often than others.
        "ends_once": bool(tokenizer.init_kwargs.get("is_encoder_decoder")),
        "has_types": "token_type_ids" in tokenizer.model_input_names,
        "keeps_end": tokenizer.truncation_side == "left",
    }
    if tokenizer.is_fast:
        facts["splits_special_tokens"] = bool(tokenizer.split_special_tokens)
    return facts


def find_unknown_tokens(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> tuple[dict[str, int], dict[str, int]]:
    """The tokens whose ids a model does not know.

    Args:
        tokenizer: The tokenizer.
        vocab_size: How many ids the model knows.

    Returns:
        The ids by token: of those that any text may need, and of added ones, which only a text has that names them.
        Gemma 3 for text alone has one of the latter, for pictures.
    """
    unknown = {token: number for token, number in tokenizer.get_vocab().items() if number >= vocab_size}
    added, own = tokenizer.get_added_vocab(), {pad_token_id(tokenizer), *tokenizer("")["input_ids"]}
    written = {token: number for token, number in unknown.items() if token in added and number not in own}
    return {token: number for token, number in unknown.items() if token not in written}, written


def first_line(error: Exception) -> str:
    """What went wrong, without the advice that a library gives on many more lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _reads_token_types(folder: Path) -> bool:
    path = folder / "config.json"
    if not path.is_file():
        return True  # a tokenizer saved on its own says itself what it gives
    config = read_json(path)
    return int(config.get("type_vocab_size") or 0) > 1 or config.get("model_type") in _TYPES_WITHOUT_SETTING


def _is_encoder_decoder(folder: Path) -> bool:
    path = folder / "config.json"
    return path.is_file() and read_json(path).get("is_encoder_decoder") is True
