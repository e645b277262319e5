"""What MLflow's pyfunc loads a model of Tunesmith with. A copy of this file lies in the model's folder, below code/.

It must never import tunesmith: the model answers where there is none. What it answers is what `tunesmith predict` does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import transformers

BATCH_EXAMPLES = 32
"""Examples in a forward pass, of like length."""

Run = tuple[int, int]
"""Tokens that follow one another in a row: the first, and the one behind the last."""
Array = np.ndarray[Any, Any]


def describe_columns(served: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """The columns that a model reads, and those that it answers with, by name, with MLflow's name of their type.

    Args:
        served: What tunesmith.json says.

    Raises:
        KeyError: The kind of task is unknown here.
    """
    inputs, outputs = KINDS[served["examples"]["kind"]].describe_columns(served)
    return inputs, outputs


class Classifier:
    """The label of each text or pair of texts, and how probable each label is."""

    def __init__(self, folder: Path, served: dict[str, Any]) -> None:
        self.model, self.tokenizer = _load(transformers.AutoModelForSequenceClassification, folder)
        self.served, self.labels = served, list(served["labels"])
        self.columns = [*self.describe_columns(served)[0]]

    @staticmethod
    def describe_columns(served: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
        """Input and output columns; a text that training would have left out has no prediction."""
        names = [served["examples"]["text"], served["examples"].get("text_pair")]
        by_label = {f"probability_{label}": "double" for label in served["labels"]}
        inputs = {name: "string" for name in names if name is not None}
        return inputs, {"prediction": "string", "probability": "double", **by_label}

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Answer each row, in their order.

        Raises:
            ValueError: A text is missing, or is too long for a model whose recipe refuses such rows.
        """
        texts = [_read_texts(rows, column) for column in self.columns]
        examples = [(number, ids, types) for number in range(len(rows)) for ids, types in self._encode(texts, number)]
        logits = np.zeros((len(examples), len(self.labels)), np.float32)
        for numbers in _cut_by_length([len(ids) for _, ids, _ in examples]):
            batch = _pad([examples[number][1:] for number in numbers], _find_padding(self.model, self.tokenizer))
            with torch.inference_mode():
                answer = self.model(**{name: values.to(self.model.device) for name, values in batch.items()})
            logits[numbers] = answer.logits.float().cpu().numpy()
        return self._answer(logits, np.array([number for number, _, _ in examples], np.int64), len(rows))

    def _encode(self, texts: Sequence[Sequence[str]], number: int) -> Iterator[tuple[list[int], list[int] | None]]:
        """The examples that a row makes: its token ids, and its token types where the model has them."""
        row = self.tokenizer(*(column[number] for column in texts), truncation=False, verbose=False)
        ids, types = row["input_ids"], row.get("token_type_ids")
        if len(ids) <= self.served["max_length"]:
            yield ids, types
            return
        if self.served["on_overflow"] == "stop":
            raise ValueError(
                f"row {number} has {len(ids)} tokens; the model takes {self.served['max_length']}, and its recipe "
                "refuses longer texts. Shorten the text."
            )
        runs = [_find_text(self.tokenizer, row, texts, number, part) for part in range(len(texts))]
        for example in cut_row(len(ids), runs, self.served, self.tokenizer):
            places = [place for start, stop in example for place in range(start, stop)]
            yield [ids[place] for place in places], None if types is None else [types[place] for place in places]

    def _answer(self, logits: Array, owners: Array, num_rows: int) -> pd.DataFrame:
        sums = np.zeros((num_rows, len(self.labels)))
        np.add.at(sums, owners, logits.astype(np.float64))
        counts = np.bincount(owners, minlength=num_rows)
        means = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32).astype(np.float64)
        means = (means.astype(np.float32) / np.float32(self.served.get("temperature") or 1.0)).astype(np.float64)
        probabilities = np.exp(means - means.max(axis=1, keepdims=True))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        probabilities[counts == 0] = np.nan
        best = means.argmax(axis=1)
        names = [self.labels[label] if count else None for label, count in zip(best, counts, strict=True)]
        by_label = {f"probability_{label}": probabilities[:, place] for place, label in enumerate(self.labels)}
        predictions = pd.Series(names, dtype=object)  # as text, what is missing would be a NaN
        return pd.DataFrame({"prediction": predictions, "probability": probabilities.max(axis=1), **by_label})


class Generator:
    """The most likely continuation of each text."""

    def __init__(self, folder: Path, served: dict[str, Any]) -> None:
        self.model, self.tokenizer = _load(transformers.AutoModelForCausalLM, folder)
        self.column, self.max_new_tokens = served["examples"]["text"], served["examples"]["max_new_tokens"]
        self.padding = _find_padding(self.model, self.tokenizer)

    @staticmethod
    def describe_columns(served: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
        """Input and output columns."""
        return {served["examples"]["text"]: "string"}, {"prediction": "string"}

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Continue each text, in their order; of one too long for the model, its end is read.

        Raises:
            ValueError: A text is missing.
        """
        prompts = [self._encode(text) for text in _read_texts(rows, self.column)]
        answers = [""] * len(prompts)
        for numbers in _cut_by_length([len(prompt) for prompt in prompts]):
            for number, answer in zip(numbers, self._generate([prompts[place] for place in numbers]), strict=True):
                answers[number] = answer
        return pd.DataFrame({"prediction": answers})

    def _encode(self, text: str) -> list[int]:
        ids = list(self.tokenizer(text, truncation=False, verbose=False)["input_ids"])
        if ids and ids[-1] == self.tokenizer.eos_token_id:
            ids.pop()
        if not ids:
            starts = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, 0)
            return [next(start for start in starts if start is not None)]
        limit = getattr(self.model.config, "max_position_embeddings", None)
        return ids if limit is None else ids[-(limit - self.max_new_tokens) :]

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


KINDS: dict[str, type[Classifier] | type[Generator]] = {
    "text-classification": Classifier,
    "text-generation": Generator,
}


def cut_row(num_tokens: int, texts: Sequence[Run], served: dict[str, Any], tokenizer: Any) -> list[list[Run]]:
    """The tokens of each example that a row makes which is too long, as training cut it.

    Args:
        num_tokens: Of the row.
        texts: Where its one or two texts lie in it; what is around them is in each example.
        served: The limit.
        tokenizer: Says at which end a text is cut.
    """
    if served["on_overflow"] == "drop":
        return []
    keeps_end = tokenizer.truncation_side == "left"
    sizes = [stop - start for start, stop in texts]
    room = served["max_length"] - (num_tokens - sum(sizes))
    shares = [room] if len(sizes) == 1 else _share(sizes, room, favors_first=not tokenizer.is_fast)
    kept = [
        (stop - share, stop) if keeps_end else (start, start + share)
        for (start, stop), share in zip(texts, shares, strict=True)
    ]
    if served["on_overflow"] == "truncate":
        return [_complete(num_tokens, texts, kept)]
    longer = 0 if len(sizes) == 1 or sizes[0] > sizes[1] else 1
    (start, stop), width = texts[longer], shares[longer]
    step = width - served["stride"]
    moves = [number * step for number in range(1 + max(0, -(-(stop - start - width) // step)))]
    windows = [
        (max(start, stop - move - width), stop - move) if keeps_end else (start + move, min(start + move + width, stop))
        for move in moves
    ]
    return [_complete(num_tokens, texts, [*kept[:longer], window, *kept[longer + 1 :]]) for window in windows]


def _share(sizes: Sequence[int], room: int, *, favors_first: bool) -> list[int]:
    """The longer text is cut until both are equal, then both are cut."""
    shorter = min(*sizes, room // 2)
    is_first_greater = sizes[0] > sizes[1] or (favors_first and shorter < min(sizes))
    return [room - shorter, shorter] if is_first_greater else [shorter, room - shorter]


def _complete(num_tokens: int, texts: Sequence[Run], kept: Sequence[Run]) -> list[Run]:
    runs, done = [], 0
    for (start, stop), part in sorted(zip(texts, kept, strict=True)):
        runs += [(done, start), part]
        done = stop
    return [*runs, (done, num_tokens)]


def _find_text(tokenizer: Any, row: Any, texts: Sequence[Sequence[str]], number: int, part: int) -> Run:
    """Where one of a row's texts lies in it."""
    if tokenizer.is_fast:
        owners = row.sequence_ids(0)
    else:
        plain = [tokenizer(column[number], add_special_tokens=False, verbose=False)["input_ids"] for column in texts]
        marked = [[-1 - place] * len(ids) for place, ids in enumerate(plain)]
        owners = [-1 - owner for owner in tokenizer.build_inputs_with_special_tokens(*marked)]
    count = owners.count(part)
    start = owners.index(part) if count else 0
    return start, start + count


def _read_texts(rows: pd.DataFrame, column: str) -> list[str]:
    texts: list[str] = rows[column].tolist()
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"row {number}: column {column!r} holds {text!r}; it must hold text.")
    return texts


def _cut_by_length(lengths: Sequence[int]) -> list[list[int]]:
    order = np.argsort(-np.array(lengths, np.int64), kind="stable").tolist()
    return [order[start : start + BATCH_EXAMPLES] for start in range(0, len(order), BATCH_EXAMPLES)]


def _pad(examples: Sequence[tuple[list[int], list[int] | None]], padding: int) -> dict[str, torch.Tensor]:
    longest = max(len(ids) for ids, _ in examples)
    batch = {
        "input_ids": [ids + [padding] * (longest - len(ids)) for ids, _ in examples],
        "attention_mask": [[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in examples],
    }
    types = [kinds + [0] * (longest - len(kinds)) for _, kinds in examples if kinds is not None]
    return {name: torch.tensor(values) for name, values in {**batch, "token_type_ids": types}.items() if values}


def _find_padding(model: Any, tokenizer: Any) -> int:
    ids = (model.config.pad_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return int(next(number for number in ids if number is not None))


def _load(auto_class: Any, folder: Path) -> tuple[Any, Any]:
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    model = auto_class.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, **options)
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options)
    return model.to(accelerator or torch.device("cpu")).eval(), tokenizer


def _load_pyfunc(data_path: str) -> Classifier | Generator:
    """What MLflow calls."""
    folder = Path(data_path)
    served = json.loads((folder / "tunesmith.json").read_text(encoding="utf-8"))
    return KINDS[served["examples"]["kind"]](folder, served)
