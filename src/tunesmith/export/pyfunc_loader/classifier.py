"""Classifying: the label of each text or pair of texts, with texts cut as training cut them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import transformers

from .loading import load
from .rows import cut_by_length, find_padding, find_start, pad, read_texts

Run = tuple[int, int]
"""Tokens that follow one another in a row: the first, and the one behind the last."""
Array = np.ndarray[Any, Any]


class Classifier:
    """The label of each text or pair of texts, and how probable each label is."""

    def __init__(self, folder: Path, served: dict[str, Any]) -> None:
        self.model, self.tokenizer = load(transformers.AutoModelForSequenceClassification, folder, served)
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
        texts = [read_texts(rows, column) for column in self.columns]
        examples = [(number, ids, types) for number in range(len(rows)) for ids, types in self._encode(texts, number)]
        logits = np.zeros((len(examples), len(self.labels)), np.float32)
        for numbers in cut_by_length([len(ids) for _, ids, _ in examples]):
            batch = pad([examples[number][1:] for number in numbers], find_padding(self.model, self.tokenizer))
            with torch.inference_mode():
                answer = self.model(**{name: values.to(self.model.device) for name, values in batch.items()})
            logits[numbers] = answer.logits.float().cpu().numpy()
        return self._answer(logits, np.array([number for number, _, _ in examples], np.int64), len(rows))

    def _encode(self, texts: Sequence[Sequence[str]], number: int) -> Iterator[tuple[list[int], list[int] | None]]:
        """The examples that a row makes: its token ids, and its token types where the model has them."""
        row = self.tokenizer(*(column[number] for column in texts), truncation=False, verbose=False)
        ids, types = row["input_ids"], row.get("token_type_ids")
        ends_once = self.model.config.is_encoder_decoder
        runs = list[Run]()
        if ends_once or len(ids) > self.served["max_length"]:  # only then, as it takes longer than the rest
            runs = [_find_text(self.tokenizer, row, texts, number, part) for part in range(len(texts))]
        if ends_once:
            ids, types, runs = _end_once(ids, types, runs, self.tokenizer.eos_token_id)
        if not ids:
            ids, types = [find_start(self.tokenizer)], None if types is None else [0]
        if len(ids) <= self.served["max_length"]:
            yield ids, types
            return
        if self.served["on_overflow"] == "stop":
            raise ValueError(
                f"row {number} has {len(ids)} tokens; the model takes {self.served['max_length']}, and its recipe "
                "refuses longer texts. Shorten the text."
            )
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
        best = means.argmax(axis=1)
        names = [self.labels[label] if count else None for label, count in zip(best, counts, strict=True)]
        by_label = {f"probability_{label}": probabilities[:, place] for place, label in enumerate(self.labels)}
        numbers = {"probability": probabilities.max(axis=1), **by_label}
        predictions = pd.Series(names, dtype=object)  # as text, what is missing would be a NaN, which is no JSON
        if not counts.all():
            numbers = {
                name: pd.Series(values, dtype=object).where(counts > 0, None) for name, values in numbers.items()
            }
        return pd.DataFrame({"prediction": predictions, **numbers})


def _end_once(ids: list[int], types: list[int] | None, runs: list[Run], end: int | None) -> Any:
    """A row without the token that ends a text where a text names it: these models look at where that is."""
    written = {place for start, stop in runs for place in range(start, stop) if ids[place] == end}
    kept = [place for place in range(len(ids)) if place not in written]
    moved = [(bisect_left(kept, start), bisect_left(kept, stop)) for start, stop in runs]
    return [ids[place] for place in kept], None if types is None else [types[place] for place in kept], moved


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
