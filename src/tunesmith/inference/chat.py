"""A dialogue with a generation model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ConfigDict

from tunesmith.errors import CallError
from tunesmith.inference.generation import FinishReason, Generated, Generator, Sampling


class Answer(BaseModel):
    """What a model answered."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    text: str
    """The answer alone."""
    num_prompt_tokens: int
    """Tokens that the model read."""
    num_new_tokens: int
    """Tokens that it wrote; the one that ends a text is among them."""
    seconds: float
    """How long the answer took."""
    tokens_per_second: float
    """Tokens written per second, reading the prompt included."""
    finish_reason: FinishReason
    """`stop`: the model ended its text; `length`: the tokens ran out; `interrupted`: somebody pressed Ctrl-C."""
    num_dropped_turns: int
    """Oldest turns, each a question and its answer, that were left out because the model takes no more."""


@dataclass(frozen=True)
class _Turn:
    question: str
    answer: str


class Chat:
    """A dialogue, in the form of the model's chat template; a model without one continues each text on its own.

    Args:
        generator: The model.
        sampling: How it chooses its words; each answer has a seed of its own.
        system: What the model is told before everything.

    Raises:
        CallError: The model has no chat template that takes the system's text, or no room for an answer.
    """

    def __init__(self, generator: Generator, sampling: Sampling, system: str | None = None) -> None:
        self.generator, self.sampling, self.system = generator, sampling, system
        self.turns: list[_Turn] = []
        self.has_template = bool(generator.tokenizer.chat_template)
        self._num_answers = 0
        if system is not None and not self.has_template:
            raise CallError("the model has no chat template, so it continues texts, and --system has no effect")
        limit = generator.max_length
        if limit is not None and sampling.max_new_tokens >= limit:
            raise CallError(
                f"max-new-tokens is {sampling.max_new_tokens}, but the model takes {limit} tokens, prompt included. "
                f"Set it to {limit - 1} or less."
            )

    def answer(self, question: str, write: Callable[[str], None]) -> Answer:
        """Answer, and remember both; Ctrl-C stops the answer.

        Args:
            question: What is asked, or the text to continue.
            write: Gets the answer in parts while it is made.

        Raises:
            CallError: The question alone is longer than the model takes.
        """
        turns, prompt = self._fit(question)
        sampling = replace(self.sampling, seed=self.sampling.seed + self._num_answers)
        generated = self.generator.generate(prompt, sampling, write)
        num_dropped, self._num_answers = len(self.turns) - len(turns), self._num_answers + 1
        if self.has_template:
            self.turns = [*turns, _Turn(question, generated.text)]
        return _describe(generated, len(prompt), num_dropped)

    def _fit(self, question: str) -> tuple[list[_Turn], list[int]]:
        """The turns that there is room for, and the prompt that they make with the question."""
        limit = self.generator.max_length
        for first in range(len(self.turns) + 1):
            prompt = self._encode(self.turns[first:], question)
            if limit is None or len(prompt) <= limit - self.sampling.max_new_tokens:
                return self.turns[first:], prompt
        assert limit is not None
        raise CallError(
            f"the text has {len(prompt)} tokens; the model takes {limit}, of which {self.sampling.max_new_tokens} are "
            "kept for the answer. Shorten the text, or lower --max-new-tokens."
        )

    def _encode(self, turns: list[_Turn], question: str) -> list[int]:
        if not self.has_template:
            return self.generator.encode(question)
        from jinja2 import TemplateError

        messages = [] if self.system is None else [{"role": "system", "content": self.system}]
        for turn in turns:
            messages += [
                {"role": "user", "content": turn.question},
                {"role": "assistant", "content": turn.answer},
            ]
        messages.append({"role": "user", "content": question})
        try:
            made: Any = self.generator.tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=True
            )
        except TemplateError as error:
            raise CallError(
                f"the model's chat template refuses the dialogue: {error}. Try without --system."
            ) from error
        return [int(number) for number in made["input_ids"]]


def _describe(generated: Generated, num_prompt_tokens: int, num_dropped_turns: int) -> Answer:
    return Answer(
        text=generated.text,
        num_prompt_tokens=num_prompt_tokens,
        num_new_tokens=generated.num_new_tokens,
        seconds=generated.seconds,
        tokens_per_second=generated.num_new_tokens / generated.seconds if generated.seconds else 0.0,
        finish_reason=generated.finish_reason,
        num_dropped_turns=num_dropped_turns,
    )
