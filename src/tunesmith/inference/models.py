"""The model to predict with: a folder, or a version in the registry whose files are verified before they are used."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from tunesmith.errors import CallError, ModelError
from tunesmith.evaluation.served import ServedModel
from tunesmith.home import Home
from tunesmith.kinds.protocol import AnyModel, LoadedModel
from tunesmith.modeling.placing import place as place_model
from tunesmith.store.folder import FolderStore
from tunesmith.store.keys import folder_digest
from tunesmith.tracking.config import TrackingConfig
from tunesmith.tracking.registry import find_named
from tunesmith.tracking.version_files import fetch_model, resolve_model

REGISTERED = "models:/"
ModelFormat = Literal["model", "onnx", "onnx-int8"]
Precision = Literal["fp32", "bf16"]


def pin_model(model: str, tracking: TrackingConfig) -> str:
    """The name of a model that no promotion moves: the version behind an alias; a folder stays as it is.

    Raises:
        ModelError: There is no such version.
        TunesmithError: MLflow cannot be reached.
    """
    return find_named(model, tracking).uri if model.startswith(REGISTERED) else model


def find_model_folder(model: str, model_format: ModelFormat, home: Home, tracking: TrackingConfig) -> Path:
    """The folder of a model in one of its formats.

    Args:
        model: `models:/<name>@<alias>`, `models:/<name>/<version>`, or the folder of an exported model.
        model_format: Which of the folders that exporting wrote.
        home: Its store is asked for a version's files before MLflow is; its folder `models` keeps them. What lies there
            is verified, and fetched again if it is damaged.
        tracking: Where MLflow is.

    Raises:
        CallError: There is no such folder, or the model has no such format; those that it has are listed.
        ModelError: There is no such version, or its files are gone or damaged.
        TunesmithError: MLflow cannot be reached.
    """
    if not model.startswith(REGISTERED):
        return _choose_format(Path(model), model_format)
    store, cache = FolderStore(Path(home.store_uri)), home.folder / "models"
    found = find_named(model, tracking)
    if found.lineage is None:  # from another tool, or registered before versions said what their files are
        return _choose_format(resolve_model(model, tracking, cache), model_format)
    part = found.lineage.part if model_format == "model" else model_format
    wanted = found.lineage.files.get(part)
    if wanted is None:
        raise CallError(f"{found.uri}: has no {model_format}; it has {', '.join(sorted(found.lineage.files))}")
    target = cache / found.model_name / f"{found.mlflow_run_id}-{wanted[:16]}"
    if target.is_dir() and folder_digest(target) == wanted:
        return target
    aside = cache / f".{uuid.uuid4().hex}"
    try:
        fetch_model(found, found.lineage, part, store, tracking, aside)
        shutil.rmtree(target, ignore_errors=True)  # what is there is damaged
        target.parent.mkdir(parents=True, exist_ok=True)
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def load_served(place: Path, served: ServedModel, precision: Precision) -> LoadedModel:
    """A model that is ready to predict, on the accelerator where there is one; an ONNX file stays on the CPU.

    Raises:
        CallError: bf16 was asked of an ONNX file, whose precision is in it.
    """
    from tunesmith.modeling.load import load_tokenizer
    from tunesmith.modeling.onnx_model import ONNX_FILE, load_onnx
    from tunesmith.modeling.tokenizer import make_encoder

    tokenizer, temperature = load_tokenizer(place), served.temperature or 1.0
    if (place / ONNX_FILE).is_file():
        if precision != "fp32":
            raise CallError(f"{place}: the precision of an ONNX file is in it; leave out --precision {precision}")
        return LoadedModel(load_onnx(place), tokenizer, make_encoder(tokenizer), temperature)
    model = served.load(place)
    place_model(model)
    if precision == "bf16":
        model.forward = _autocast(model)
    return LoadedModel(model, tokenizer, make_encoder(tokenizer), temperature)


def _autocast(model: AnyModel) -> Callable[..., Any]:
    import torch

    forward = model.forward

    def forward_in_bf16(*args: Any, **options: Any) -> Any:
        with torch.autocast(model.device.type, torch.bfloat16):
            return forward(*args, **options)

    return forward_in_bf16


def _choose_format(folder: Path, model_format: ModelFormat) -> Path:
    if model_format == "model":
        return folder
    place = next((place for place in (folder / model_format, folder.parent / model_format) if place.is_dir()), None)
    if place is None:
        raise ModelError(f"{folder}: has no folder {model_format}; add {model_format} to export.formats and run again")
    return place
