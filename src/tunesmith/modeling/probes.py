"""What a model reads, found by trying it: a token ahead of its prediction, or the padding beside a text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tunesmith.errors import ModelError
from tunesmith.kinds.protocol import AnyModel
from tunesmith.modeling.tokenizer import first_line, pad_token_id

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOLERANCE = 1e-4
"""How far logits may be apart that should be the same, as a share of the largest; fp32 makes 1e-6 of it."""
_NUM_TOKENS = 12
_SHORT = (2, 4)
"""How many tokens are in front of padding: few, so that a convolution at the first of them reaches it, and not both
times a multiple of 4, the stride of CANINE's."""


def check_causal(model: AnyModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Refuse a language model that sees the tokens that it is to predict: it would learn to copy them.

    Args:
        model: A model of transformers on the CPU, in fp32 or quantized; it stays as it is.
        tokenizer: Its tokenizer.
        folder: Where it was loaded from.

    Raises:
        ModelError: What it predicts depends on later tokens.
    """
    tokens = _find_tokens(tokenizer)
    rows = [tokens[:-1], [*tokens[:-2], tokens[-1]]]
    first, second = _compute_logits(model, rows, pad_token_id(tokenizer), folder)
    difference = _find_difference(first[:-1], second[:-1])
    if difference > TOLERANCE:
        raise ModelError(
            f"{folder}: a {model.config.model_type} model is no causal model: where it predicts a token, it sees that "
            f"token (another last one changes the logits before it by {difference:.1g} of the largest), and would "
            "learn to copy it. Choose a causal model, such as GPT-2, Llama or Qwen."
        )


def check_ignores_padding(model: AnyModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Refuse a classifier whose answer on a text depends on the others in its batch.

    Args and model are those of `check_causal`.

    Raises:
        ModelError: Alone, a text has other logits than with padding behind it.
    """
    tokens = _find_tokens(tokenizer)
    *short, _ = rows = [_frame(tokens[:count], tokenizer) for count in (*_SHORT, len(tokens))]
    pad = pad_token_id(tokenizer)
    alone = torch.cat([_compute_logits(model, [row], pad, folder) for row in short])
    difference = _find_difference(alone, _compute_logits(model, rows, pad, folder)[: len(short)])
    if difference > TOLERANCE:
        raise ModelError(
            f"{folder}: a classifier of type {model.config.model_type} reads padding: beside a longer text, the logits "
            f"of a text change by {difference:.1g} of the largest. Choose a base model whose attention leaves padding "
            "out, such as a BERT."
        )


def _find_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    specials = set(tokenizer.all_special_ids)
    return [*islice(cycle(number for number in range(len(tokenizer)) if number not in specials), _NUM_TOKENS)]


def _frame(tokens: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens with the special ones that the tokenizer puts around a text."""
    specials: list[int] = tokenizer("")["input_ids"]
    ends = specials[-1:] if specials[-1:] in ([tokenizer.sep_token_id], [tokenizer.eos_token_id]) else []
    return [*specials[: len(specials) - len(ends)], *tokens, *ends]


def _compute_logits(model: AnyModel, rows: Sequence[Sequence[int]], pad: int, folder: Path) -> Tensor:
    """The logits of a batch in evaluation; the model is left in the mode that it was in."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    is_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            logits: Tensor = model(input_ids=ids, attention_mask=mask).logits
    except Exception as error:  # whatever it is that this model does not take
        raise ModelError(
            f"{folder}: a {model.config.model_type} model fails on a batch of texts with {type(error).__name__}: "
            f"{first_line(error)}. Choose another base model."
        ) from error
    finally:
        model.train(is_training)
    return logits


def _find_difference(logits: Tensor, others: Tensor) -> float:
    return float((logits - others).abs().max() / logits.abs().max().clamp_min(torch.finfo(logits.dtype).tiny))
