"""Models that compute on tokens alone: the padding of a batch is taken out before the body, and put back behind it.

Linear layers, norms and activations see the tokens of all rows one after another. Attention alone sees rows, because a
token attends to those of its own row; so what stands beside a row in the batch changes nothing about it. Where a head
reads the first token of a row alone, the last layer computes no other.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from tunesmith.errors import ModelError
from tunesmith.modeling.base import PACK_MULTIPLE, POSITIONS_AFTER_PADDING
from tunesmith.modeling.first_token import narrow_last_layer
from tunesmith.modeling.layout import Layout, Pattern, current_layout
from tunesmith.modeling.tokenizer import first_line

WATCHED, PACKED = "tunesmith_watched", "tunesmith_packed"
"""The names under which transformers knows our attention; behind them comes the name of what they are made from."""
TOLERANCE = 1e-4
"""How far the logits of a packed model may be from those of the same model unpacked, in fp32."""
DISTINCT = 10 * TOLERANCE
"""How far the logits of two rows have to be apart for telling what a head reads."""

_patterns: WeakKeyDictionary[nn.Module, Pattern] = WeakKeyDictionary()
"""What each attention of a packed model sees: all of a row, what came before, a window, ..."""

log = logging.getLogger(__name__)


def pack_body(model: Any) -> bool:
    """Let a model compute without padding from now on; the shapes of its inputs and of its logits stay what they are.

    Args:
        model: A model of transformers, or of peft around one, in fp32; it is left in training.

    Returns:
        Whether its last layer computes the first token of each row alone.

    Raises:
        ModelError: The model takes no positions, or its attention cannot be packed; found by trying it. The model is
            as it was.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    body, implementation = base.base_model, base.config._attn_implementation
    why_not = _find_obstacle(body, implementation)
    if why_not is None:
        try:
            logits, why_not = _pack(model, base, body)
            if why_not is None:
                return _narrow(model, base, logits)
        except Exception as error:  # whatever it is that this model is not made for
            why_not = f"packed, it fails with {type(error).__name__}: {first_line(error)}"
        body.__dict__.pop("forward", None)
        base.set_attn_implementation(implementation)
    raise ModelError(
        f"train.batching: a {base.config.model_type} model cannot be packed: {why_not}. Set it to grouped, or to auto."
    )


def _find_obstacle(body: Any, implementation: str) -> str | None:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if "position_ids" not in inspect.signature(body.forward).parameters:
        return "it does not take the position of each token"
    if implementation not in ALL_ATTENTION_FUNCTIONS:
        return f"its attention ({implementation}) is its own"
    return None


def _pack(model: Any, base: Any, body: Any) -> tuple[Tensor, str | None]:
    """Pack a model, and compare it with what it was; gives what it computed before, and what is wrong with it now."""
    implementation, probe = base.config._attn_implementation, _make_probe(base.config)
    base.set_attn_implementation(_register_watched(implementation))
    expected = _compute_logits(model, probe)
    base.set_attn_implementation(_register_packed(implementation))
    body.forward = _without_padding(body, base.config)
    logits = _compute_logits(model, probe)
    if logits.shape != expected.shape:
        return expected, f"packed, its logits have the shape {tuple(logits.shape)}, not {tuple(expected.shape)}"
    difference = _differ(logits, expected)
    return expected, None if difference < TOLERANCE else f"packed, its logits differ by {difference:.2g}"


def _narrow(model: Any, base: Any, expected: Tensor) -> bool:
    """Compute the last layer for first tokens alone, where the logits are the same then; gives whether they are."""
    body, probe = base.base_model, _make_probe(base.config)
    if len(expected) != len(probe["input_ids"]) or _differ(expected[0], expected[1]) < DISTINCT:
        return False  # they are logits of tokens; or so alike that they do not tell what the head reads
    packed, layer = body.__dict__.pop("forward"), None
    body.forward = _without_padding(body, base.config, first_alone=True)
    try:
        layer = narrow_last_layer(body)
        if layer is not None and _differ(_compute_logits(model, probe), expected) < TOLERANCE:
            return True
    except Exception:  # whatever its layer has that is not known here
        log.debug("the last layer computes all tokens", exc_info=True)
    if layer is not None:
        del layer.forward
    body.forward = packed
    return False


def _differ(logits: Tensor, others: Tensor) -> float:
    return float((logits - others).abs().max())


def _without_padding(body: Any, config: Any, *, first_alone: bool = False) -> Callable[..., Any]:
    forward, first = body.forward, 0
    if config.model_type in POSITIONS_AFTER_PADDING:
        first = int(config.pad_token_id) + 1

    def packed(
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        position_ids: None = None,
        **options: Any,
    ) -> Any:
        layout = Layout(attention_mask.bool(), PACK_MULTIPLE)
        positions = torch.arange(first, first + input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        if token_type_ids is not None:
            options["token_type_ids"] = layout.pack(token_type_ids)
        token = current_layout.set(layout)
        try:
            output = forward(input_ids=layout.pack(input_ids), position_ids=layout.pack(positions), **options)
        finally:
            current_layout.reset(token)
        hidden = output.last_hidden_state
        output.last_hidden_state = hidden.transpose(0, 1) if first_alone else layout.unpack(hidden)
        if output.get("pooler_output") is not None:  # of the first token of the pack, and not of each row
            output.pooler_output = _pool(body, output.last_hidden_state)
        return output

    return packed


def _pool(body: Any, last_hidden_state: Tensor) -> Tensor:
    if hasattr(body, "pooler_activation"):  # ALBERT's pooler is a linear layer alone
        return body.pooler_activation(body.pooler(last_hidden_state[:, 0]))  # type: ignore[no-any-return]
    return body.pooler(last_hidden_state)  # type: ignore[no-any-return]


def _register_watched(implementation: str) -> str:
    """Attention that remembers which pattern each module sees; gives its name.

    A probe is shorter than most windows, so that its logits do not tell whether there is one.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    attend, make_mask = ALL_ATTENTION_FUNCTIONS[implementation], ALL_MASK_ATTENTION_FUNCTIONS[implementation]
    made = list[tuple[Tensor, Pattern]]()

    def make_mask_watched(*sizes: int, mask_function: Pattern, use_vmap: bool = False, **options: Any) -> Tensor:
        options |= {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}  # or there is none
        mask: Tensor = make_mask(*sizes, mask_function=mask_function, use_vmap=use_vmap, **options)
        if not use_vmap:  # otherwise it may depend on more than positions
            made.append((mask, mask_function))
        return mask

    def attend_watched(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
    ) -> Any:
        for mask, pattern in made:
            if mask is attention_mask:
                _patterns[module] = pattern
                return attend(module, query, key, value, attention_mask, **options)
        raise ValueError(f"what {type(module).__name__} sees is not a pattern of positions")

    name = f"{WATCHED}_{implementation}"
    AttentionInterface.register(name, attend_watched)
    AttentionMaskInterface.register(name, make_mask_watched)
    return name


def _register_packed(implementation: str) -> str:
    """Attention that sees rows in a pack, as the implementation that it is made from would; gives its name."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    attend = ALL_ATTENTION_FUNCTIONS[implementation]

    def attend_packed(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        is_causal: bool | None = None,
        from_first: bool = False,
        **options: Any,
    ) -> tuple[Tensor, None]:
        whole = current_layout.get()
        sizes = [*(part.num_tokens for part in whole.parts), whole.num_filled]
        num_queries = [*(len(part.mask) for part in whole.parts), 0] if from_first else sizes
        split = [torch.split(query, num_queries, dim=2), *(torch.split(of, sizes, dim=2) for of in (key, value))]
        attended = list[Tensor]()
        for part, queries, keys, values in zip(whole.parts, *split, strict=False):  # all but what is filled up
            visible = part.visible(_patterns[module])
            if from_first:
                laid, visible = queries.transpose(0, 2), visible[:, :, :1]
            else:
                laid = _lay_out(part, queries)
            others = _lay_out(part, keys), _lay_out(part, values)
            found, _ = attend(module, laid, *others, visible, is_causal=False, **options)
            attended.append(found.transpose(0, 1) if from_first else part.pack(found))
        num_filled = 0 if from_first else whole.num_filled
        filled = attended[0].new_zeros(1, num_filled, *attended[0].shape[2:])
        return torch.cat([*attended, filled], dim=1), None

    name = f"{PACKED}_{implementation}"
    AttentionInterface.register(name, attend_packed)
    AttentionMaskInterface.register(name, lambda *_args, **_options: None)
    return name


def _lay_out(part: Layout, heads: Tensor) -> Tensor:
    """Of shape (1, num_heads, num_tokens, head_size), in rows: (num_rows, num_heads, longest, head_size)."""
    return part.unpack(heads.transpose(1, 2)).transpose(1, 2)


def _make_probe(config: Any) -> dict[str, Tensor]:
    """Two rows, one with padding, of tokens that are not the padding."""
    ids = torch.tensor([[5, 6, 7, 8, 9, 10], [11, 12, 13, 0, 0, 0]]) % config.vocab_size
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
    return {"input_ids": ids.where(mask.bool(), torch.tensor(config.pad_token_id)), "attention_mask": mask}


def _compute_logits(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """The logits of the tokens, or of the rows, in evaluation; the model is left in training."""
    model.eval()
    try:
        with torch.no_grad():
            logits: Tensor = model(**batch).logits
    finally:
        model.train()
    return logits if logits.ndim == 2 else logits[batch["attention_mask"].bool()]
