"""What a model's folder says of itself, so that predicting needs the folder alone."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tunesmith.errors import CallError
from tunesmith.kinds import Examples
from tunesmith.kinds.limit import Limit, OnOverflow

SERVED_FILE = "tunesmith.json"


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

    @property
    def limit(self) -> Limit:
        """How long an example may be, and what becomes of a longer row."""
        return Limit(max_length=self.max_length, on_overflow=self.on_overflow, stride=self.stride)

    def save(self, folder: Path) -> None:
        """Write tunesmith.json into a model's folder."""
        (folder / SERVED_FILE).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")


def find_served_model(folder: Path) -> tuple[Path, ServedModel]:
    """The model in a folder: in the folder itself, or in its `model/` as the export stage leaves it.

    Returns:
        The folder that transformers loads, and what it says of itself.

    Raises:
        CallError: There is no such folder, or no model that Tunesmith exported in it.
    """
    for place in (folder, folder / "model"):
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
