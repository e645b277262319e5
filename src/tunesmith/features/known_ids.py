"""Token ids that a model has no embedding for."""

from __future__ import annotations

from pathlib import Path

from tunesmith.errors import ModelError

OR_RESIZE = (
    "; or, where tokens were added to it, give the model embeddings for them: "
    "model.resize_token_embeddings(len(tokenizer)), and save both with save_pretrained"
)


def check_known(number: int, token: str | None, row: str, folder: Path, vocab_size: int | None) -> None:
    """Refuse a token id of a row: computing it would end in an IndexError, or take the whole GPU with it.

    Args:
        number: The id.
        token: Its token, where that is known.
        row: What has it.
        folder: The base model.
        vocab_size: How many ids that knows; None where it is not known.

    Raises:
        ModelError: The model does not know it.
    """
    if vocab_size is not None and number >= vocab_size:
        raise ModelError(
            f"{describe_unknown(number, token, folder, vocab_size)}, and {row} has it. Take it out of the rows, or out "
            f"of the tokenizer's files{OR_RESIZE}."
        )


def describe_unknown(number: int, token: str | None, folder: Path, vocab_size: int | None) -> str:
    """What a tokenizer has and its model has not."""
    named = "" if token is None else f" for {token!r}"
    return f"{folder}: the tokenizer has the token id {number}{named}, but the model knows {vocab_size} ids"
