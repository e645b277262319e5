"""What a model's folder says of itself, so that predicting needs the folder alone."""

from __future__ import annotations

import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tunesmith.errors import CallError
from tunesmith.kinds import Examples
from tunesmith.kinds.limit import Limit, OnOverflow
from tunesmith.kinds.protocol import AnyModel
from tunesmith.modeling.base import open_base
from tunesmith.modeling.pinned import PinnedBase

SERVED_FILE, CONFIG = "tunesmith.json", "config.json"


class ServedModel(BaseModel):
    """The file tunesmith.json beside a model's weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    examples: Examples
    """The recipe's section on the examples: which columns hold the text, and which kind of task it is."""
    labels: tuple[str, ...]
    """The label set in id order; empty for a kind without labels."""
    max_length: int
    """Tokens that an example may have."""
    on_overflow: OnOverflow = "truncate"
    """What became of a longer row in training, and becomes of it in predicting."""
    stride: int = 0
    """Tokens that two windows of one text share."""
    temperature: float | None = None
    """What logits are divided by before they become probabilities; None where they are taken as they are."""
    candidate: str
    """The key of the train artifact that the weights come from."""
    base: PinnedBase | None = None
    """Where the folder has an adapter alone, the base model that it belongs to; None where it has all weights."""

    @property
    def limit(self) -> Limit:
        """How long an example may be, and what becomes of a longer row."""
        return Limit(max_length=self.max_length, on_overflow=self.on_overflow, stride=self.stride)

    @property
    def whole(self) -> ServedModel:
        """What the folder says once the adapter is merged into its base model."""
        return self.model_copy(update={"base": None})

    def save(self, folder: Path) -> None:
        """Write tunesmith.json into a model's folder."""
        (folder / SERVED_FILE).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    def load(self, place: Path) -> AnyModel:
        """The model in a folder, whole and without an adapter, in evaluation mode and in fp32.

        Args:
            place: The folder that tunesmith.json lies in, with safetensors.

        Raises:
            ModelError: It cannot be loaded, or the base model of its adapter is gone or is another one.
        """
        from tunesmith.modeling.load import build_model, load_adapted, merge

        if self.base is None:
            # Nothing is at random here: the folder holds every weight, so the seed is without effect.
            return build_model(place, self.examples, self.labels, None, seed=0).eval()
        return merge(load_adapted(place, self.base.find(), self.examples, self.labels))

    def save_whole(self, place: Path, target: Path) -> None:
        """Write the model in a folder to another one as transformers saves it: an adapter is merged.

        Args:
            place: What `load` takes.
            target: The folder to write: configuration, weights and tokenizer.

        Raises:
            ModelError: What `load` raises.
        """
        self.load(place).save_pretrained(target)
        copy_tokenizer(place, target)


def copy_tokenizer(place: Path, target: Path) -> Path:
    """Copy the tokenizer of a model's folder to another folder, which is made where it is missing; gives that."""
    target.mkdir(exist_ok=True)
    for name in open_base(place, weights=()).tokenizer:
        if name != CONFIG:
            shutil.copyfile(place / name, target / name)
    return target


def find_served_model(folder: Path) -> tuple[Path, ServedModel]:
    """The model in a folder: in the folder itself, or in its `model/` or `adapter/` as the export stage leaves it.

    Returns:
        The folder that transformers loads, and what it says of itself.

    Raises:
        CallError: There is no such folder, or no model that Tunesmith exported in it.
    """
    for place in (folder, folder / "model", folder / "adapter"):
        path = place / SERVED_FILE
        if path.is_file():
            try:
                return place, ServedModel.model_validate_json(path.read_bytes())
            except ValidationError as error:
                raise CallError(f"{path}: {_first_problem(error)}; export the model again") from error
    if not folder.is_dir():
        raise CallError(f"{folder}: there is no such folder. Name the folder of an exported model.")
    raise CallError(f"{folder}: there is no {SERVED_FILE}, so this is not a model that Tunesmith exported.")


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else first["msg"]
