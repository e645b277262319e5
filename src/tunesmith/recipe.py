"""The recipe: one YAML file that says where the data comes from, what to train, how to judge it and where to keep it.

Its sections lie beside the code that they configure. A recipe is checked once, and then handed down in parts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, cast, get_args

from pydantic import Field, ValidationError, field_validator

from tunesmith.data.sources import DataConfig
from tunesmith.data.split_config import SplitConfig
from tunesmith.errors import CallError, Mistake, RecipeError
from tunesmith.evaluation.evaluate import EvaluateConfig
from tunesmith.evaluation.gate_config import GateConfig
from tunesmith.export.config import ExportConfig
from tunesmith.features.encode import TokenizeConfig
from tunesmith.home import Home
from tunesmith.kinds import Examples
from tunesmith.kinds.protocol import Kind
from tunesmith.modeling.config import ModelConfig
from tunesmith.modeling.locate import GGUF_SUFFIX
from tunesmith.recipe_file import MAX_FILE_BYTES, apply_override, read_recipe_text
from tunesmith.recipe_judging import find_judging_conflicts
from tunesmith.recipe_mistakes import explain, mistake_at
from tunesmith.recipe_schema import DIALECT, RecipeSchema, find_nearest
from tunesmith.recipe_streaming import find_streaming_conflicts, section_of
from tunesmith.recipe_tree import Node
from tunesmith.section import Conflict, Section
from tunesmith.store.config import StoreConfig
from tunesmith.tracking.config import RegistryConfig, TrackingConfig
from tunesmith.training.config import TrainConfig


class Recipe(Section):
    """One model that is kept fresh: its data, its training, its judgement, its place in the registry."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    """What runs, the experiment and the registered model are called: letters, digits, `.`, `_` and `-`."""
    examples: Examples
    """The kind of task, and which columns hold what."""
    data: DataConfig
    """Where the rows come from, how the files are read, and how the rows are cleaned."""
    split: SplitConfig = SplitConfig()
    """Which share of the rows validates and which tests; the rest trains."""
    model: ModelConfig
    """The base model, and whether all of it is trained or an adapter."""
    tokenize: TokenizeConfig = TokenizeConfig()
    """How texts become tokens."""
    train: TrainConfig = TrainConfig()
    """How the base model is fine-tuned."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """How the candidate is judged."""
    gate: GateConfig = GateConfig()
    """What the candidate must do to become the champion."""
    export: ExportConfig = ExportConfig()
    """How the candidate is exported."""
    tracking: TrackingConfig = TrackingConfig()
    """Where every number of a run is kept."""
    registry: RegistryConfig = RegistryConfig()
    """Under which name versions are registered."""
    store: StoreConfig = StoreConfig()
    """Where artifacts lie."""

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if not value.isascii() or not value[:1].isalnum() or not all(char.isalnum() or char in "._-" for char in value):
            raise ValueError(
                f"{value!r} cannot be a name; use letters, digits, '.', '_' and '-', a letter or digit first"
            )
        return value

    @classmethod
    def find_conflicts(cls, values: Mapping[str, Any]) -> Iterable[Conflict]:
        """What each section sees, and what no section can see by itself: values of several that do not go together."""
        for name, section in _sections().items():
            for place, text in section.find_conflicts(section_of(values, name)):
                yield (name, *place), text
        yield from _find_between_sections(values)

    @classmethod
    def load(
        cls, path: str | Path, overrides: Sequence[str] = (), *, environ: Mapping[str, str] | None = None
    ) -> Recipe:
        """Read a recipe, check all of it, and fill in where this machine keeps things.

        Args:
            path: The YAML file. Paths in it are relative to its folder.
            overrides: Values to use instead of the file's, such as `train.num_epochs=2`.
            environ: Where TUNESMITH_HOME and MLFLOW_TRACKING_URI are looked up; by default this process's environment.

        Raises:
            RecipeError: All the mistakes, each with its line.
            CallError: There is no such file.
        """
        path = Path(path)
        root, mistakes = read_recipe_text(_read_file(path))
        if root is None:
            raise RecipeError(str(path), _in_order(mistakes))
        mistakes += [mistake for override in overrides if (mistake := apply_override(root, override)) is not None]
        recipe, found = check(root, path.absolute().parent)
        if recipe is None or mistakes:
            raise RecipeError(str(path), _in_order([*mistakes, *found]))
        return _fill_in(recipe, path.absolute().parent, os.environ if environ is None else environ)


def recipe_schema() -> dict[str, Any]:
    """The recipe's JSON schema, draft 2020-12, described by the docstrings of its fields."""
    return {"$schema": DIALECT, **Recipe.model_json_schema()}


def _sections() -> dict[str, type[Section]]:
    """The sections whose form does not depend on the kind of task, by name."""
    return _parts(Recipe)


def _find_between_sections(recipe: Mapping[str, Any]) -> list[Conflict]:
    kind = section_of(recipe, "examples").get("kind")
    examples = _find_examples(kind)
    if examples is None:
        return [*_find_fsdp_conflict(recipe), *find_streaming_conflicts(recipe, needs_labels=False)]
    module = import_module(examples.__module__)
    return [
        *find_judging_conflicts(recipe, cast(Kind, module)),
        *_find_overflow_conflict(section_of(recipe, "tokenize"), kind, cuts_texts=module.CUTS_TEXTS),
        *_find_fsdp_conflict(recipe),
        *_find_adapter_conflict(recipe),
        *_find_batching_conflict(section_of(recipe, "train"), kind, has_padding=module.CUTS_TEXTS),
        *_find_weights_conflict(recipe, kind, has_labels="labels" in examples.model_fields),
        *find_streaming_conflicts(recipe, needs_labels="labels" in examples.model_fields),
    ]


def _find_overflow_conflict(tokenize: Mapping[str, Any], kind: object, *, cuts_texts: bool) -> list[Conflict]:
    if cuts_texts or tokenize.get("on_overflow", "truncate") == "truncate":
        return []
    text = f"{tokenize['on_overflow']} has no effect on {kind}, which cuts no text short; remove it"
    return [(("tokenize", "on_overflow"), text)]


def _find_batching_conflict(train: Mapping[str, Any], kind: object, *, has_padding: bool) -> list[Conflict]:
    asked = train.get("batching")
    if has_padding or asked not in ("packed", "grouped"):
        return []
    return [(("train", "batching"), f"{asked} has no effect on {kind}, whose examples are equally long; remove it")]


def _find_fsdp_conflict(recipe: object) -> list[Conflict]:
    if section_of(recipe, "train").get("fsdp") is not True or not section_of(recipe, "model").get("quantization"):
        return []
    return [(("train", "fsdp"), "does not go with model.quantization: bits are not shared out; remove one of them")]


def _find_adapter_conflict(recipe: object) -> list[Conflict]:
    model, place = section_of(recipe, "model"), ("export", "merged")
    if section_of(recipe, "export").get("merged") is not False:
        return []
    if model.get("lora") is None:
        return [(place, "false has no effect without model.lora: there is no adapter; remove it")]
    found = []
    if model.get("quantization"):
        found.append("false does not go with model.quantization: peft would put the adapter onto other values")
    if str(model.get("base", "")).endswith(GGUF_SUFFIX):
        found.append("false does not go with a .gguf base, which no plain library puts an adapter onto")
    return [(place, text) for text in found]


def _find_weights_conflict(recipe: object, kind: object, *, has_labels: bool) -> list[Conflict]:
    weights, place = section_of(recipe, "train").get("class_weights"), ("train", "class_weights")
    if weights is None:
        return []
    if not has_labels:
        return [(place, f"has no effect on {kind}, which has no labels; remove it")]
    labels = section_of(recipe, "examples").get("labels")
    if not isinstance(weights, Mapping) or not isinstance(labels, list):
        return []
    unknown = [name for name in weights if name not in labels]
    return [((*place, name), f"is none of examples.labels ({', '.join(map(str, labels))})") for name in unknown]


def _find_examples(kind: object) -> type[Section] | None:
    for section in get_args(Recipe.model_fields["examples"].annotation):
        if kind in get_args(section.model_fields["kind"].annotation):
            found: type[Section] = section
            return found
    return None


def check(root: Node, folder: Path) -> tuple[Recipe | None, list[Mistake]]:
    """Check a recipe's tree.

    Args:
        root: What `read_recipe_text` gave.
        folder: What relative paths in it are relative to.

    Returns:
        The recipe, or None and its mistakes.
    """
    _open_empty_sections(root)
    try:
        return Recipe.model_validate_json(json.dumps(root.plain()), context={"folder": str(folder)}), []
    except ValidationError as error:
        errors = error.errors(include_url=False)
    # Asked once more: a section with a wrong value has not come to look for its conflicts.
    conflicts = [*Recipe.find_conflicts(cast(dict[str, Any], root.plain()))]
    others = [item for item in errors if (item["loc"], item["msg"]) not in conflicts]
    mistakes = explain(others, root, RecipeSchema(recipe_schema()))
    return None, [*mistakes, *(mistake_at(root, place, text) for place, text in conflicts)]


def _open_empty_sections(root: Node) -> None:
    """Take a section whose keys are all commented out for one that says nothing, and not for a null."""
    for name in ("examples", *_sections()):
        node = root.child(name)
        if node is not None and node.value is None and not node.is_reported:
            node.value = {}
    for name, section in _sections().items():
        _open_empty_parts(root.child(name), section)


def _open_empty_parts(node: Node | None, section: type[Section]) -> None:
    """The same for the sections within a section; but a null that is written, or put there, says that there is none."""
    for name, part in _parts(section).items():
        child = None if node is None else node.child(name)
        if child is None:
            continue
        if child.value is None and not (child.text or child.is_override or child.is_reported):
            child.value = {}
        _open_empty_parts(child, part)


def _parts(section: type[Section]) -> dict[str, type[Section]]:
    """The sections within a section, by name, whether it may lack them or not."""
    found: dict[str, type[Section]] = {}
    for name, field in section.model_fields.items():
        choices = get_args(field.annotation) if isinstance(field.annotation, UnionType) else (field.annotation,)
        parts = [part for part in choices if isinstance(part, type) and issubclass(part, Section)]
        if len(parts) == 1:
            found[name] = parts[0]
    return found


def _fill_in(recipe: Recipe, folder: Path, environ: Mapping[str, str]) -> Recipe:
    home = Home.locate(environ, Path.cwd())
    tracking, registry = recipe.tracking, recipe.registry
    uri = tracking.uri or home.find_tracking_uri(environ)
    return recipe.model_copy(
        update={
            "model": recipe.model.located(folder, home.base_folder),
            "store": recipe.store.located(folder, home.store_uri, recipe.name),
            "tracking": tracking.model_copy(update={"uri": uri, "experiment": tracking.experiment or recipe.name}),
            "registry": registry.model_copy(update={"model_name": registry.model_name or recipe.name}),
        }
    )


def _in_order(mistakes: Sequence[Mistake]) -> list[Mistake]:
    return sorted(mistakes, key=lambda mistake: (mistake.line is None, mistake.line or 0))


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        near = find_nearest(path.name, [other.name for other in path.parent.glob("*.y*ml")])
        hint = "`tunesmith init KIND FILE` writes one" if near is None else f"did you mean {path.parent / near}?"
        raise CallError(f"{path}: there is no such recipe; {hint}") from None
    except OSError as error:
        raise CallError(f"{path}: cannot be read: {error.strerror}") from error
