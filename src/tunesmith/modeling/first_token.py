"""The last layer of a packed classifier, for the first token of each row alone: its head reads no other.

The keys and values are those of all tokens; queries, norms and the feed-forward part are computed for one token a row.
Of MiniLM's six layers that saves a seventh of the matrix products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from tunesmith.modeling.layout import current_layout


def narrow_last_layer(body: Any) -> nn.Module | None:
    """Let the last layer of a packed body give what it computes for the first token of each row, and no more.

    It does so with this very layer's weights, in a copy of the model, too.

    Args:
        body: The body of a model of transformers.

    Returns:
        The layer; None where what it computes is not known here.
    """
    known = KNOWN_LAYERS.get(body.config.model_type)
    if known is None:
        return None
    holder, compute = known
    layer: nn.Module = getattr(body, holder).layer[-1]

    def forward(hidden_states: Tensor, *_masks: Any, **_options: Any) -> Tensor:
        return compute(layer, hidden_states, current_layout.get().first_tokens(hidden_states))

    layer.forward = forward  # of this layer alone
    return layer


def _as_bert(layer: Any, tokens: Tensor, first: Tensor) -> Tensor:
    attention = layer.attention.self
    found = _attend(attention, attention.query(first), attention.key(tokens), attention.value(tokens))
    attended = layer.attention.output(found, first)
    return layer.output(layer.intermediate(attended), attended)  # type: ignore[no-any-return]


def _as_distilbert(layer: Any, tokens: Tensor, first: Tensor) -> Tensor:
    attention = layer.attention
    found = _attend(attention, attention.q_lin(first), attention.k_lin(tokens), attention.v_lin(tokens))
    attended = layer.sa_layer_norm(attention.out_lin(found) + first)
    return layer.output_layer_norm(layer.ffn.ff_chunk(attended) + attended)  # type: ignore[no-any-return]


def _attend(module: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """What the first token of each row finds in its row, shape (1, num_rows, num_heads * head_size)."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    heads = [of.view(*of.shape[:2], -1, module.attention_head_size).transpose(1, 2) for of in (query, key, value)]
    dropout = module.dropout.p if module.training else 0.0
    attend = ALL_ATTENTION_FUNCTIONS[module.config._attn_implementation]
    found, _ = attend(module, *heads, None, dropout=dropout, scaling=module.scaling, from_first=True)
    return found.flatten(2)  # type: ignore[no-any-return]


_BERT, _DISTILBERT = ("encoder", _as_bert), ("transformer", _as_distilbert)
KNOWN_LAYERS: dict[str, tuple[str, Callable[[Any, Tensor, Tensor], Tensor]]] = {
    "bert": _BERT,
    "camembert": _BERT,
    "data2vec-text": _BERT,
    "distilbert": _DISTILBERT,
    "electra": _BERT,
    "ernie": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
}
"""Where a model of a type has its layers, and what they compute: others' may have the same parts, and do more."""
