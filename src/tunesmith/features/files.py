"""The files of an encode artifact: features as Arrow streams, some thousand rows each, and a list of them per split."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

SPLITS = ("train", "validation", "test")
SUFFIX = ".arrow"
BATCH_ROWS = 1000
"""Rows of a record batch: what is read from the disk at once."""


class FeaturesFile(BaseModel):
    """A file with some examples of a split."""

    model_config = ConfigDict(frozen=True)

    file: str
    num_examples: int


class SplitFiles(BaseModel):
    """The file `<split>.json`: where the examples of a split lie, in their order."""

    model_config = ConfigDict(frozen=True)

    chunks: tuple[FeaturesFile, ...]


def write_features(path: Path, features: pa.Table) -> None:
    """Write examples as an Arrow stream, which is mapped from the disk when it is read."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, features.schema) as stream:
        stream.write_table(features.combine_chunks(), max_chunksize=BATCH_ROWS)


def write_index(folder: Path, split: str, files: Iterable[FeaturesFile]) -> None:
    """Write down which files hold the examples of a split."""
    index = SplitFiles(chunks=tuple(files))
    (folder / f"{split}.json").write_text(json.dumps(index.model_dump(mode="json"), indent=1), encoding="utf-8")


def read_split(folder: Path, split: str) -> pa.Table:
    """The features of a split, mapped from the disk and not read into memory.

    Args:
        folder: The folder of an encode artifact.
        split: `train`, `validation` or `test`.
    """
    index = SplitFiles.model_validate_json((folder / f"{split}.json").read_bytes())
    return pa.concat_tables([map_features(folder / chunk.file) for chunk in index.chunks])


def map_features(path: Path) -> pa.Table:
    """The examples of one file, mapped from the disk."""
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as reader:
        return reader.read_all()
