"""What makes a model's folder one that MLflow loads and serves: an MLmodel file, its environment and its loader.

The files are written here and not by MLflow, which would put the time and a random id into them: the same model has the
same bytes, and its digest says which one it is.
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tunesmith.evaluation.served import ServedModel
from tunesmith.modeling.locate import PACKAGE
from tunesmith.store.keys import folder_digest

LOADER = Path(__file__).with_name("pyfunc_loader")
LIBRARIES = ("mlflow", "numpy", "pandas", "safetensors", "torch", "transformers")
"""What a served model needs, in the versions that it was proved with."""
CODE = "code"
MODEL_FILE = "MLmodel"
PYFUNC_FILES = (CODE, MODEL_FILE, "requirements.txt", "python_env.yaml", "conda.yaml")
"""What `write_pyfunc` adds to a folder."""


def write_pyfunc(folder: Path, served: ServedModel) -> None:
    """Make a model's folder loadable by `mlflow.pyfunc` where there is no Tunesmith; nothing in it is pickled.

    Args:
        folder: Holds the weights, the tokenizer and tunesmith.json.
        served: What tunesmith.json says.
    """
    from tunesmith.export.pyfunc_loader import describe_columns

    # Two models in one process may come with two loaders: modules of one name would be one.
    module = f"tunesmith_loader_{folder_digest(LOADER)[:12]}"
    shutil.copytree(LOADER, folder / CODE / module, ignore=shutil.ignore_patterns("__pycache__"))
    inputs, outputs = describe_columns(served.model_dump(mode="json"))
    packages = [f"{name}=={version(name).partition('+')[0]}" for name in _find_libraries(served)]
    (folder / "requirements.txt").write_text("\n".join(packages) + "\n", encoding="utf-8")
    python = platform.python_version()
    files: Mapping[str, Mapping[str, Any]] = {
        "python_env.yaml": {"python": python, "dependencies": ["-r requirements.txt"]},
        "conda.yaml": {
            "name": "mlflow-env",
            "channels": ["conda-forge"],
            "dependencies": [f"python={python}", "pip", {"pip": packages}],
        },
        MODEL_FILE: {
            "flavors": {
                "python_function": {
                    "code": CODE,
                    "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
                    "loader_module": module,
                    "python_version": python,
                }
            },
            "mlflow_version": version("mlflow"),
            "signature": {"inputs": _columns(inputs, required=True), "outputs": _columns(outputs, required=False)},
        },
    }
    for name, document in files.items():
        _write_yaml(folder / name, document)


def _find_libraries(served: ServedModel) -> list[str]:
    """The distributions that the model needs where it is served; the one that its base model lies in included."""
    if served.base is None:
        return [*LIBRARIES]
    package = PACKAGE.fullmatch(served.base.base)
    holding = [] if package is None else packages_distributions()[package["package"]]
    return sorted({*LIBRARIES, "peft", *holding})


def _columns(types: Mapping[str, str], *, required: bool) -> str:
    """Columns as MLflow's signature has them: JSON in a string."""
    return json.dumps([{"type": kind, "name": name, "required": required} for name, kind in types.items()])


def _write_yaml(path: Path, document: Mapping[str, Any]) -> None:
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)
