"""Dropout on the CPU: torch draws a number for each element, which takes a sixth of a small model's step.

Here 64 random bits make the masks of four elements, which is five times as fast. The probability is rounded to a
multiple of 2**-16, and what is kept is scaled for exactly that one, so the expectation stays. The bits come from
torch's generator, so that a checkpoint holds its state as ever.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

ATTENTION = "tunesmith_dropout"
"""The name under which transformers knows `attend`."""
LEVELS = 1 << 16


def use_fast_dropout(model: Any) -> None:
    """Let a model that is trained on the CPU drop out as this module does; what it computes in evaluation stays.

    Args:
        model: A model of transformers, or of peft around one.
    """
    for name, module in [*model.named_modules()]:
        if type(module) is nn.Dropout:
            model.set_submodule(name, FastDropout(module.p).train(module.training))
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if base.config._attn_implementation == "sdpa":
        _register()
        base.set_attn_implementation(ATTENTION)


class FastDropout(nn.Dropout):
    """Like torch's, with other random numbers."""

    def forward(self, input: Tensor) -> Tensor:
        """The input, with elements set to zero while training."""
        return drop(input, self.p) if self.training else input


def drop(values: Tensor, probability: float) -> Tensor:
    """Set each element to zero with a probability, and scale the others so that the expectation stays.

    Args:
        values: On the CPU.
        probability: In [0, 1]; rounded to a multiple of 2**-16.
    """
    num_dropped = round(probability * LEVELS)
    if num_dropped == 0:
        return values
    if num_dropped == LEVELS:
        return values * 0
    dropped: Tensor = _Drop.apply(values, num_dropped)  # type: ignore[no-untyped-call]  # torch's own
    return dropped


class _Drop(torch.autograd.Function):
    """The same mask forward and backward."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, num_dropped: int) -> Tensor:
        mask = _draw_mask(values, num_dropped)
        ctx.save_for_backward(mask)
        return values * mask

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return gradients[0] * mask, None


def _draw_mask(values: Tensor, num_dropped: int) -> Tensor:
    """Zeros, and what the others are multiplied by; in the type of the values."""
    words = torch.empty((values.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    levels = words.view(torch.int16)[: values.numel()].view(values.shape)  # even over [-LEVELS / 2, LEVELS / 2)
    mask = torch.empty(values.shape, dtype=values.dtype)
    return torch.ge(levels, num_dropped - LEVELS // 2, out=mask).mul_(LEVELS / (LEVELS - num_dropped))


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers' `sdpa` computes it, with the dropout of this module.

    Without dropout, or where a model asks for more, it is transformers' own: torch's fused kernel drops nothing.

    Args:
        module: The layer.
        query: Shape (num_rows, num_heads, num_queries, head_size).
        key: Shape (num_rows, num_key_value_heads, num_keys, head_size).
        value: Like the keys.
        attention_mask: Which keys a query sees: booleans, or what is added to the scores; it broadcasts to
            (num_rows, num_heads, num_queries, num_keys).
        dropout: The probability that a query does not see a key.
        scaling: What the scores are multiplied by.
        is_causal: Whether a query sees no later keys, where there is no mask.
        **options: What else a model asks for.

    Returns:
        Shape (num_rows, num_queries, num_heads, head_size), and None: the weights are not kept.
    """
    from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

    asks_more = any(options.get(name) is not None for name in ("position_bias", "softcap", "cache"))
    if not dropout or asks_more:
        attended: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **options
        )
        return attended
    num_groups = getattr(module, "num_key_value_groups", 1)
    key, value = repeat_kv(key, num_groups), repeat_kv(value, num_groups)
    num_queries, num_keys = query.shape[2], key.shape[2]
    is_causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if attention_mask is None and is_causal and num_queries > 1:
        attention_mask = torch.ones(num_queries, num_keys, dtype=torch.bool).tril()
    # Autocast would compute the softmax in fp32, and cast all scores to and fro.
    with torch.autocast("cpu", enabled=False):
        scores = _score(query, key, attention_mask, query.shape[-1] ** -0.5 if scaling is None else scaling)
        weights = drop(torch.softmax(scores.float(), dim=-1).to(query.dtype), dropout)
        return torch.matmul(weights, value).transpose(1, 2), None


def _score(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    num_rows, num_heads, num_queries, _ = query.shape
    shape = (num_rows, num_heads, num_queries, key.shape[2])
    queries, keys = query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2)
    if mask is None:
        return torch.bmm(queries * scaling, keys).view(shape)
    if mask.dtype == torch.bool:
        bias = torch.zeros(mask.shape, dtype=query.dtype).masked_fill_(~mask, torch.finfo(query.dtype).min)
    else:
        bias = mask.to(query.dtype)
    return torch.baddbmm(bias.expand(shape).flatten(0, 1), queries, keys, alpha=scaling).view(shape)


def _register() -> None:
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(ATTENTION, attend)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
