"""What a model that was trained before is trained on: all rows that are new to it, and a share of the old ones.

Trained on new rows alone, a model forgets the old ones. The row itself decides whether it is in the share: so the same
old rows are replayed each time, and appending changes none of them.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.partition import ROW_ID
from tunesmith.data.row_sets import NAME_DIGITS, RowNumbers, find_members, number_rows
from tunesmith.data.rows import as_fractions, hash_rows
from tunesmith.features.files import FeaturesFile, SplitFiles, read_split, write_features, write_index
from tunesmith.store.sealed import find_damage, publish, seal

PURPOSE = "tunesmith replay"
"""How `hash_rows` draws the rows that are replayed. Never changed: others would be."""
SLICE_ROWS = 65_536
"""Examples that are copied at once."""

Mask = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class RowChoice:
    """Which rows of the train split a model is trained on.

    Attributes:
        names: Their names, in the order of the split.
        is_new: Which of them the model was never trained on, shape (num_rows,).
        is_drawn: Which of them are in the share that is replayed, were they old, shape (num_rows,).
    """

    names: pa.ChunkedArray
    is_new: Mask
    is_drawn: Mask

    @classmethod
    def make(cls, names: pa.ChunkedArray, seen: RowNumbers, replay_fraction: float) -> RowChoice:
        """Choose among rows.

        Args:
            names: The rows of the train split.
            seen: The rows that the model was trained on.
            replay_fraction: The share of these that it is trained on again, in [0, 1].
        """
        return cls(names, ~find_members(number_rows(names), seen), draw(names, replay_fraction))

    @property
    def is_chosen(self) -> Mask:
        """Which rows are trained on."""
        return self.is_new | self.is_drawn

    @property
    def counts(self) -> dict[str, int]:
        """Rows that are new, that are old, and how many of the old ones are replayed."""
        num_new = int(self.is_new.sum())
        return {
            "num_new_rows": num_new,
            "num_old_rows": len(self.is_new) - num_new,
            "num_replayed_rows": int((self.is_drawn & ~self.is_new).sum()),
        }


def draw(names: pa.ChunkedArray, fraction: float) -> Mask:
    """Which rows are in a share of all rows: a larger share has the rows of a smaller one, and equal rows go together.

    Args:
        names: The rows.
        fraction: The share, in [0, 1].
    """
    table = pa.table({ROW_ID: pc.utf8_slice_codeunits(names, 0, NAME_DIGITS)})
    return np.asarray(as_fractions(hash_rows(table, [ROW_ID], purpose=PURPOSE, num_bytes=8)) < fraction)


def choose_examples(examples: pa.ChunkedArray, rows: RowChoice, *, joins_rows: bool) -> np.ndarray[Any, Any]:
    """The numbers of the examples that are trained on.

    An example that holds several rows is trained on when one of them is new, or its first one is drawn.

    Args:
        examples: The name of each example of the train split: of its row, or of where in which row it begins.
        rows: Which rows are trained on.
        joins_rows: Whether an example holds several rows.
    """
    first = pc.index_in(pc.replace_substring_regex(examples, r"\+\d+$", ""), value_set=rows.names.combine_chunks())
    begins = np.asarray(first.to_numpy())
    if not joins_rows:
        return np.flatnonzero(rows.is_chosen[begins])
    # An example goes on to where the next one begins, and into that row unless it begins with it.
    is_inside = ~pc.ends_with(examples, "+0").to_numpy().astype(bool)
    ends = np.append(begins[1:] + is_inside[1:], len(rows.is_new))
    num_new_before = np.concatenate([[0], np.cumsum(rows.is_new)])
    has_new = num_new_before[np.maximum(ends, begins + 1)] > num_new_before[begins]
    return np.flatnonzero(has_new | rows.is_chosen[begins])


def ensure_chosen(features: Path, chosen: np.ndarray[Any, Any], folder: Path) -> None:
    """Put features into a folder, of the train split only those that are trained on; they stay where they are there.

    Args:
        features: The folder of the encode artifact.
        chosen: The numbers of the examples.
        folder: The new folder, which a training that was killed finds again.
    """
    if folder.exists() and find_damage(folder) is None:
        return
    aside = folder.with_name(f"{folder.name}.aside")
    for leftover in (aside, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    shutil.copytree(features / "tokenizer", aside / "tokenizer")
    _write_train(features, chosen, aside)
    index = SplitFiles.model_validate_json((features / "validation.json").read_bytes())
    for name in {chunk.file for chunk in index.chunks}:
        _link(features / name, aside / name)
    shutil.copyfile(features / "validation.json", aside / "validation.json")
    seal(aside, {"num_examples": len(chosen)})
    publish(aside, folder)


def _write_train(features: Path, chosen: np.ndarray[Any, Any], folder: Path) -> None:
    table, files = read_split(features, "train"), []
    for start in range(0, table.num_rows, SLICE_ROWS):
        numbers = chosen[(chosen >= start) & (chosen < start + SLICE_ROWS)] - start
        if len(numbers):
            name = f"chosen-{start:012d}.arrow"
            write_features(folder / name, table.slice(start, SLICE_ROWS).take(pa.array(numbers)))
            files.append(FeaturesFile(file=name, num_examples=len(numbers)))
    write_index(folder, "train", files)


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(path, target)
