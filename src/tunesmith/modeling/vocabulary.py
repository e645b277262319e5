"""Training without the embeddings of tokens that the data does not have.

They get no gradient, ever, and yet each step would clear it, measure it and take the optimizer through it, and each
checkpoint would hold its numbers: of a small multilingual model, four fifths of all weights. A model with a narrow
vocabulary computes the same losses and the same gradients. What it leaves out, only weight decay would have changed,
all by one factor.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class NarrowEmbedding(nn.Embedding):
    """The rows of an embedding for some tokens; it takes the ids that the whole one took.

    Args:
        whole: The embedding; its weights stay where and as they are.
        tokens: The ids, ascending, shape (num_tokens,).
    """

    places: Tensor
    """The row of each token, shape (vocabulary_size,); -1, which no embedding takes, for those that are left out."""

    def __init__(self, whole: nn.Embedding, tokens: Tensor) -> None:
        places = torch.full((whole.num_embeddings,), -1)
        places[tokens] = torch.arange(len(tokens))
        padding = None if whole.padding_idx is None else int(places[whole.padding_idx])
        super().__init__(len(tokens), whole.embedding_dim, padding, _weight=whole.weight.detach()[tokens])
        self.register_buffer("places", places, persistent=False)
        self.tokens = tokens
        self._whole = (whole,)  # no submodule: its weights are not trained, moved or saved

    @property
    def num_absent_tokens(self) -> int:
        """How many tokens are left out."""
        return len(self.places) - self.num_embeddings

    def forward(self, input: Tensor) -> Tensor:
        """The embedding of each token."""
        return functional.embedding(self.places[input], self.weight, self.padding_idx)

    def widen(self, factor: float) -> nn.Embedding:
        """The whole embedding on the CPU, with these rows as they are now, and the others multiplied by a factor."""
        (whole,) = self._whole
        with torch.no_grad():
            whole.weight.mul_(factor)[self.tokens] = self.weight.cpu()
        return whole


def find_embedding(model: Any) -> Any:
    """What a model looks tokens up in; None where it says of nothing that it does."""
    try:
        return model.get_input_embeddings()
    except NotImplementedError:
        return None


def count_embedded_tokens(model: Any) -> int:
    """How many tokens a model has embeddings for; 0 where it makes them otherwise, as CANINE does of characters."""
    embedding = find_embedding(model)
    return embedding.num_embeddings if isinstance(embedding, nn.Embedding) else 0


def narrow_vocabulary(model: Any, is_present: Tensor) -> int:
    """Leave out the embeddings of tokens that the data does not have, where they would be trained.

    A model stays as it is whose embeddings are anything else than a lookup: the weights of its output, too, or frozen.

    Args:
        model: A model of transformers, whole and on the CPU.
        is_present: Which tokens there are, booleans of shape (vocabulary_size,).

    Returns:
        How many tokens are left out.
    """
    whole = model.get_input_embeddings()
    if not _is_lookup(model, whole):
        return 0
    if whole.padding_idx is not None:
        is_present = is_present.clone()
        is_present[whole.padding_idx] = True
    narrow = NarrowEmbedding(whole, is_present.nonzero().flatten())
    if narrow.num_absent_tokens:
        model.set_input_embeddings(narrow)
    return narrow.num_absent_tokens


def widen_vocabulary(model: Any, factor: float) -> None:
    """Give a model back what `narrow_vocabulary` left out.

    Args:
        model: The trained model.
        factor: What weight decay would have left of it.
    """
    narrow = find_embedding(model)
    if isinstance(narrow, NarrowEmbedding):
        model.set_input_embeddings(narrow.widen(factor).to(narrow.weight.device))


def count_left_out(model: Any) -> int:
    """How many weights `narrow_vocabulary` left out."""
    narrow = find_embedding(model)
    return narrow.num_absent_tokens * narrow.embedding_dim if isinstance(narrow, NarrowEmbedding) else 0


def _is_lookup(model: Any, embedding: Any) -> bool:
    if type(embedding) is not nn.Embedding or not embedding.weight.requires_grad:
        return False
    if embedding.max_norm is not None or embedding.scale_grad_by_freq or embedding.sparse:
        return False
    if model.config.tie_word_embeddings and model.get_output_embeddings() is not None:
        return False
    return sum(weight is embedding.weight for _, weight in model.named_parameters(remove_duplicate=False)) == 1
