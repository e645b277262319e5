"""A model from its folder: whole, or an adapter that is put onto its base model."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
import transformers

from .pinned_base import find_base

OPTIONS: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
SAFE = {"dtype": torch.float32, "use_safetensors": True, **OPTIONS}


def load(auto_class: Any, folder: Path, served: dict[str, Any]) -> tuple[Any, Any]:
    """The model, on the accelerator where there is one, and its tokenizer.

    Args:
        auto_class: The Auto class of transformers.
        folder: The model's files.
        served: What tunesmith.json says.

    Raises:
        OSError: The base model of an adapter is not there, or is another one.
    """
    base = served.get("base")
    model = auto_class.from_pretrained(folder, **SAFE) if base is None else _load_adapted(auto_class, folder, base)
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **OPTIONS)
    return model.to(accelerator or torch.device("cpu")).eval(), tokenizer


def _load_adapted(auto_class: Any, folder: Path, base: dict[str, Any]) -> Any:
    import peft

    config = transformers.AutoConfig.from_pretrained(folder, **OPTIONS)
    folder_of_base, verbosity = find_base(base), transformers.logging.get_verbosity()
    transformers.logging.set_verbosity(logging.ERROR)  # of a head that the base model lacks: the adapter brings it
    try:
        model = auto_class.from_pretrained(folder_of_base, config=config, ignore_mismatched_sizes=True, **SAFE)
    finally:
        transformers.logging.set_verbosity(verbosity)
    return peft.PeftModel.from_pretrained(model, folder).merge_and_unload()
