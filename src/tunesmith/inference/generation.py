"""A generation model that answers with one token after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tunesmith.errors import CallError
from tunesmith.evaluation.served import find_served_model
from tunesmith.kinds import find_kind
from tunesmith.modeling.out_of_memory import is_out_of_memory
from tunesmith.modeling.placing import place as place_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CAUSAL = "AutoModelForCausalLM"
HALF_A_CHARACTER = "\ufffd"
"""What a decoder puts where the bytes of a character are not all there yet."""
CONTEXT_TOKENS = 8
"""Tokens of a prompt that an answer is decoded behind: many tokenizers drop the space in front of a first word."""

FinishReason = Literal["stop", "length", "interrupted"]


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        max_new_tokens: The most tokens of an answer, from 1.
        temperature: From 0, which always takes the most likely token, to 2.
        top_p: In (0, 1]: only the most likely tokens that together are so probable are chosen from.
        seed: Of the choice.
    """

    max_new_tokens: int = 256
    temperature: float = 0.7
    top_p: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise CallError(f"max-new-tokens is {self.max_new_tokens}; it must be at least 1")
        if not 0 <= self.temperature <= 2:
            raise CallError(f"temperature is {self.temperature:g}; it must be from 0 (the most likely token) to 2")
        if not 0 < self.top_p <= 1:
            raise CallError(f"top-p is {self.top_p:g}; it must be above 0, and 1 (all tokens) at most")


@dataclass(frozen=True)
class Generated:
    """An answer.

    Attributes:
        text: The new text.
        num_new_tokens: Tokens generated; the one that ends a text is among them.
        seconds: How long it took.
        finish_reason: The model ended its text, the tokens ran out, or somebody pressed Ctrl-C.
    """

    text: str
    num_new_tokens: int
    seconds: float
    finish_reason: FinishReason


class Generator:
    """A text-generation model, ready to answer.

    Args:
        folder: A model that Tunesmith exported.

    Raises:
        CallError: It is of another kind, or of another format.
    """

    def __init__(self, folder: Path) -> None:
        from tunesmith.modeling.load import load_tokenizer

        place, served = find_served_model(folder)
        if find_kind(served.examples).AUTO_CLASS != CAUSAL:
            raise CallError(
                f"{folder}: is a model for {served.examples.kind}, which does not write text. `tunesmith predict` "
                "answers with it; chat needs one for text-generation."
            )
        if not any(place.glob("*.safetensors")):
            found = ", ".join(sorted(path.name for path in place.rglob("*.onnx"))) or "no weights"
            raise CallError(
                f"{place}: holds {found}; chat needs the model as safetensors. Name the folder that the export stage "
                "wrote, or models:/<name>@champion."
            )
        self.model: Any = served.load(place)
        place_model(self.model)
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(place)

    @property
    def max_length(self) -> int | None:
        """Tokens that the model takes, prompt and answer together; None where it has no limit."""
        limit: int | None = getattr(self.model.config, "max_position_embeddings", None)
        return limit

    @property
    def ends(self) -> tuple[int, ...]:
        """The tokens that end an answer: the model's own, else the tokenizer's."""
        found = self.model.generation_config.eos_token_id
        found = self.tokenizer.eos_token_id if found is None else found
        return () if found is None else tuple(found) if isinstance(found, list) else (found,)

    def encode(self, text: str) -> list[int]:
        """A text as the beginning of a longer one; never empty, and not closed by an end token."""
        ids = [int(number) for number in self.tokenizer(text, truncation=False, verbose=False)["input_ids"]]
        if ids and ids[-1] == self.tokenizer.eos_token_id:
            ids.pop()
        starts = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, 0)
        return ids or [next(int(start) for start in starts if start is not None)]

    def generate(self, prompt: Sequence[int], sampling: Sampling, write: Callable[[str], None]) -> Generated:
        """Go on from a prompt until the text ends; Ctrl-C stops it, and what is there by then is the answer.

        Args:
            prompt: Token ids; with `max_new_tokens` behind them no more than `max_length`.
            sampling: How the next token is chosen. It sets the seed of this process's random numbers.
            write: Gets the text in parts, as soon as whole characters are there.

        Raises:
            CallError: The memory ran out.
        """
        import torch

        streamed = _Streamed(self.tokenizer, prompt, write)
        ids = torch.tensor([list(prompt)], device=self.model.device)
        torch.manual_seed(sampling.seed)
        start, is_interrupted = time.perf_counter(), False
        try:
            with torch.inference_mode():
                self.model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    generation_config=self._configure(sampling),
                    streamer=streamed,
                )
        except KeyboardInterrupt:
            is_interrupted = True
            streamed.end()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise CallError(
                f"{ids.numel() + len(streamed.new):,} tokens of prompt and answer do not fit into the memory of "
                f"{self.model.device}. Begin anew with a shorter prompt, or lower max-new-tokens."
            ) from None
        new = streamed.new
        ended: FinishReason = "stop" if new and new[-1] in self.ends else "length"
        reason = "interrupted" if is_interrupted else ended
        return Generated(streamed.text, len(new), time.perf_counter() - start, reason)

    def _configure(self, sampling: Sampling) -> Any:
        from transformers import GenerationConfig

        chosen = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        return GenerationConfig(  # type: ignore[no-untyped-call]  # its __init__ has no types
            do_sample=sampling.temperature > 0,
            num_beams=1,
            max_new_tokens=sampling.max_new_tokens,
            pad_token_id=self.model.config.pad_token_id,
            bos_token_id=self.tokenizer.bos_token_id,
            eos_token_id=list(self.ends) or None,
            **(chosen if sampling.temperature > 0 else {}),
        )


class _Streamed:
    """What transformers' `generate` tells of each token, the prompt first."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int], write: Callable[[str], None]) -> None:
        self.tokenizer, self.context, self.write = tokenizer, list(prompt[-CONTEXT_TOKENS:]), write
        self.before = self._decode(self.context)
        self.new: list[int] = []
        self.text = ""
        self._is_prompt = True

    def put(self, value: Any) -> None:
        """Take the next token; the first call brings the prompt."""
        if self._is_prompt:
            self._is_prompt = False
            return
        self.new += [int(number) for number in value.reshape(-1)]
        text = self._decode_new()
        if not text.endswith(HALF_A_CHARACTER):
            self._grow(text)

    def end(self) -> None:
        """Write what was held back."""
        self._grow(self._decode_new())

    def _grow(self, text: str) -> None:
        if text.startswith(self.text) and len(text) > len(self.text):
            part, self.text = text[len(self.text) :], text  # first: Ctrl-C while it is written must not write it twice
            self.write(part)

    def _decode_new(self) -> str:
        both = self._decode([*self.context, *self.new])
        return both.removeprefix(self.before) if both.startswith(self.before) else self._decode(self.new)

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))
