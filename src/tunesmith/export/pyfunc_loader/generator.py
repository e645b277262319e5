"""Generating: the most likely continuation of each text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import transformers

from .loading import load
from .rows import cut_by_length, find_padding, find_start, read_texts


class Generator:
    """The most likely continuation of each text."""

    def __init__(self, folder: Path, served: dict[str, Any]) -> None:
        self.model, self.tokenizer = load(transformers.AutoModelForCausalLM, folder, served)
        self.column, self.max_new_tokens = served["examples"]["text"], served["examples"]["max_new_tokens"]
        self.padding = find_padding(self.model, self.tokenizer)

    @staticmethod
    def describe_columns(served: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
        """Input and output columns."""
        return {served["examples"]["text"]: "string"}, {"prediction": "string"}

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Continue each text, in their order; of one too long for the model, its end is read.

        Raises:
            ValueError: A text is missing, or so much is generated that a prompt has no room.
        """
        prompts = [self._encode(text) for text in read_texts(rows, self.column)]
        answers = [""] * len(prompts)
        for numbers in cut_by_length([len(prompt) for prompt in prompts]):
            for number, answer in zip(numbers, self._generate([prompts[place] for place in numbers]), strict=True):
                answers[number] = answer
        return pd.DataFrame({"prediction": answers})

    def _encode(self, text: str) -> list[int]:
        ids = list(self.tokenizer(text, truncation=False, verbose=False)["input_ids"])
        if ids and ids[-1] == self.tokenizer.eos_token_id:
            ids.pop()
        if not ids:
            return [find_start(self.tokenizer)]
        limit = getattr(self.model.config, "max_position_embeddings", None)
        if limit is None:
            return ids
        if self.max_new_tokens >= limit:
            raise ValueError(
                f"max_new_tokens is {self.max_new_tokens}, but the model takes {limit} tokens, prompt included. Export "
                "it again with a smaller examples.max_new_tokens."
            )
        return ids[-(limit - self.max_new_tokens) :]

    def _generate(self, prompts: Sequence[list[int]]) -> list[str]:
        longest = max(map(len, prompts))
        ids = torch.tensor([[self.padding] * (longest - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        ends = self.model.generation_config.eos_token_id
        config = transformers.GenerationConfig(  # type: ignore[no-untyped-call]  # its __init__ has no types
            do_sample=False,
            num_beams=1,
            max_new_tokens=self.max_new_tokens,
            pad_token_id=self.padding,
            bos_token_id=self.tokenizer.bos_token_id,
            eos_token_id=self.tokenizer.eos_token_id if ends is None else ends,
        )
        tensors = {"input_ids": ids.to(self.model.device), "attention_mask": mask.to(self.model.device)}
        with torch.inference_mode():
            new = self.model.generate(**tensors, generation_config=config)[:, longest:].tolist()
        return [self._decode(prompt, tokens) for prompt, tokens in zip(prompts, new, strict=True)]

    def _decode(self, prompt: list[int], new: list[int]) -> str:
        # Decoded with the prompt before it, because many tokenizers drop the space in front of a first word.
        before, both, alone = (
            str(self.tokenizer.decode(ids, skip_special_tokens=True)) for ids in (prompt, prompt + new, new)
        )
        return both.removeprefix(before) if both.startswith(before) else alone
