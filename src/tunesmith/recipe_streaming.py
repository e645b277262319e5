"""What does not go together with `data.streaming`: all that needs every row, or the end of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tunesmith.section import Conflict

TRANSFORMS = {
    "drop_duplicates": "drop the duplicates where the files are written",
    "take": "use `sample` with `fraction`, or set train.max_steps",
    "shuffle": "remove it: data.streaming.shuffle_buffer shuffles",
}
"""Transforms that look at all rows, and what to do instead."""

TOGETHER = "a stream never has all rows together"


def find_streaming_conflicts(recipe: object, *, needs_labels: bool) -> list[Conflict]:
    """What a recipe asks for that a stream cannot give, or what it asks for in vain because nothing is streamed.

    Args:
        recipe: What the recipe says, as JSON values; what has another form than a recipe has is no conflict.
        needs_labels: Whether the kind of task has a label set.

    Returns:
        The place to change and what to do, for each conflict.
    """
    train = section_of(recipe, "train")
    if not isinstance(section_of(recipe, "data").get("streaming"), Mapping):
        if train.get("validation_steps") is None:
            return []
        text = "has no effect without data.streaming: a validation follows each epoch; remove it"
        return [(("train", "validation_steps"), text)]
    return [
        *_find_in_examples(section_of(recipe, "examples"), needs_labels=needs_labels),
        *_find_in_data(section_of(recipe, "data")),
        *_find_in_split(section_of(recipe, "split")),
        *_find_in_train(train),
        *_find_in_model(section_of(recipe, "model")),
    ]


def _find_in_examples(examples: Mapping[str, Any], *, needs_labels: bool) -> Iterable[Conflict]:
    if needs_labels and examples.get("labels") is None:
        yield ("examples", "labels"), f"needed with data.streaming: {TOGETHER} to find the labels in; list them"


def _find_in_data(data: Mapping[str, Any]) -> Iterable[Conflict]:
    for index, transform in enumerate(_items(data.get("transforms"))):
        for name, value in transform.items() if isinstance(transform, Mapping) else ():
            cure = TRANSFORMS.get(name)
            if name == "sample" and isinstance(value, Mapping) and "num_rows" in value:
                cure = "use `sample` with `fraction`"
            if cure is not None:
                yield ("data", "transforms", index), f"{name} looks at all rows, and {TOGETHER}; {cure}"
    columns = section_of(section_of(data, "contract"), "columns")
    for name, column in columns.items():
        if isinstance(column, Mapping) and column.get("unique"):
            place = ("data", "contract", "columns", name, "unique")
            yield place, f"looks at all rows, and {TOGETHER}; remove it"


def _find_in_split(split: Mapping[str, Any]) -> Iterable[Conflict]:
    for way in ("stratify", "time", "predefined"):
        if split.get(way) is not None:
            text = "not with data.streaming; leave it out: then each row's inputs decide, or set split.group"
            yield ("split", way), text
    policy = section_of(split, "leakage").get("policy")
    if policy in ("drop", "stop"):
        text = f"{policy} looks at all rows, and {TOGETHER}; `report` looks at the sample"
        yield ("split", "leakage", "policy"), text


def _find_in_train(train: Mapping[str, Any]) -> Iterable[Conflict]:
    if train.get("num_epochs") is not None:
        yield ("train", "num_epochs"), "not with data.streaming, whose end is not known; remove it, max_steps decides"
    if train.get("max_steps") is None:
        yield ("train", "max_steps"), "needed with data.streaming: the steps of the training, as a stream has no end"
    if train.get("validation_steps") is None:
        yield ("train", "validation_steps"), "needed with data.streaming: the steps between two validations"
    if train.get("class_weights") == "balanced":
        yield ("train", "class_weights"), f"balanced counts all rows, and {TOGETHER}; write a weight for each label"


def _find_in_model(model: Mapping[str, Any]) -> Iterable[Conflict]:
    if model.get("start", "base") != "base":
        text = f"{model['start']} asks which rows are new to it, and {TOGETHER}; remove it"
        yield ("model", "start"), text


def section_of(values: object, name: str) -> Mapping[str, Any]:
    """A section of a recipe's JSON values; empty where it is none."""
    section = values.get(name) if isinstance(values, Mapping) else None
    return section if isinstance(section, Mapping) else {}


def _items(values: object) -> Sequence[Any]:
    return values if isinstance(values, (list, tuple)) else ()
