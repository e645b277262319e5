"""How a causal language model continues a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.errors import ModelError
from tunesmith.kinds.encoder import Encoder
from tunesmith.kinds.protocol import LoadedModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def cut_prompt(ids: np.ndarray[Any, Any], encoder: Encoder, room: int | None) -> np.ndarray[Any, Any]:
    """The end of a prompt that leaves room for what is generated; never empty, and never closed by an end token."""
    if len(ids) and encoder.eos_token_id is not None and ids[-1] == encoder.eos_token_id:
        ids = ids[:-1]
    if not len(ids):
        return np.array([encoder.start_token_id], np.int32)
    return ids if room is None else ids[-room:]


def find_room(max_new_tokens: int, max_length: int | None) -> int | None:
    """Tokens that a prompt may have; None where the model takes any number.

    Raises:
        ModelError: None are left for a prompt.
    """
    if max_length is None:
        return None
    if max_new_tokens >= max_length:
        raise ModelError(
            f"examples.max_new_tokens is {max_new_tokens}, but the model takes {max_length} tokens, prompt included. "
            f"Set it to {max_length - 1} or less."
        )
    return max_length - max_new_tokens


def generate(loaded: LoadedModel, prompts: Sequence[np.ndarray[Any, Any]], max_new_tokens: int) -> list[str]:
    """The most likely continuation of each prompt, the new text alone."""
    import torch
    from transformers import GenerationConfig

    model, tokenizer, device = loaded.model, loaded.tokenizer, loaded.model.device
    longest = max(len(prompt) for prompt in prompts)
    mask = np.array([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    ids = np.full(mask.shape, model.config.pad_token_id, np.int64)
    ids[mask == 1] = np.concatenate(prompts)
    config = GenerationConfig(  # type: ignore[no-untyped-call]  # its __init__ has no types
        do_sample=False,
        num_beams=1,
        max_new_tokens=max_new_tokens,
        pad_token_id=model.config.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=_find_ends(loaded),
    )
    tensors = {"input_ids": torch.from_numpy(ids).to(device), "attention_mask": torch.from_numpy(mask).to(device)}
    with torch.inference_mode():
        generated = model.generate(**tensors, generation_config=config)[:, longest:].cpu().numpy()
    return [_decode_new(tokenizer, prompt, new) for prompt, new in zip(prompts, generated, strict=True)]


def _decode_new(tokenizer: PreTrainedTokenizerBase, prompt: np.ndarray[Any, Any], new: np.ndarray[Any, Any]) -> str:
    # Decoded with the prompt before it, because many tokenizers drop the space in front of a first word.
    before = str(tokenizer.decode(prompt, skip_special_tokens=True))
    both = str(tokenizer.decode(np.concatenate([prompt, new]), skip_special_tokens=True))
    return (
        both.removeprefix(before) if both.startswith(before) else str(tokenizer.decode(new, skip_special_tokens=True))
    )


def _find_ends(loaded: LoadedModel) -> int | list[int] | None:
    """The tokens that end a text: the model's own, else the tokenizer's."""
    ends: int | list[int] | None = loaded.model.generation_config.eos_token_id
    return ends if ends is not None else loaded.encoder.eos_token_id
