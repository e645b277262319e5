"""The rows that are asked for, as batches that a model takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

BATCH_EXAMPLES = 32
"""Examples in a forward pass, of like length."""


def read_texts(rows: pd.DataFrame, column: str) -> list[str]:
    """The texts in a column.

    Raises:
        ValueError: A text is missing.
    """
    texts: list[str] = rows[column].tolist()
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"row {number}: column {column!r} holds {text!r}; it must hold text.")
    return texts


def cut_by_length(lengths: Sequence[int]) -> list[list[int]]:
    """The numbers of the examples of each batch, the longest examples first."""
    order = np.argsort(-np.array(lengths, np.int64), kind="stable").tolist()
    return [order[start : start + BATCH_EXAMPLES] for start in range(0, len(order), BATCH_EXAMPLES)]


def pad(examples: Sequence[tuple[list[int], list[int] | None]], padding: int) -> dict[str, torch.Tensor]:
    """A batch of token ids and, where a model has them, token types."""
    longest = max(len(ids) for ids, _ in examples)
    batch = {
        "input_ids": [ids + [padding] * (longest - len(ids)) for ids, _ in examples],
        "attention_mask": [[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in examples],
    }
    types = [kinds + [0] * (longest - len(kinds)) for _, kinds in examples if kinds is not None]
    return {name: torch.tensor(values) for name, values in {**batch, "token_type_ids": types}.items() if values}


def find_padding(model: Any, tokenizer: Any) -> int:
    """What shorter examples are filled up with; it is masked."""
    ids = (model.config.pad_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return int(next(number for number in ids if number is not None))


def find_start(tokenizer: Any) -> int:
    """The token of a text that would have none."""
    ids = (tokenizer.bos_token_id, tokenizer.eos_token_id, 0)
    return int(next(number for number in ids if number is not None))
