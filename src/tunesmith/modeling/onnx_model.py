"""A model as an ONNX file, computed by onnxruntime, in the place of a model of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tunesmith.errors import CallError, ModelError
from tunesmith.modeling.tokenizer import OFFLINE, first_line

if TYPE_CHECKING:
    import torch
    from onnxruntime import InferenceSession
    from transformers import PretrainedConfig

ONNX_FILE = "model.onnx"


@dataclass(frozen=True)
class OnnxResult:
    """What a forward pass gives, under the name that transformers has for it.

    Attributes:
        logits: On the CPU, fp32.
    """

    logits: torch.Tensor


class OnnxModel:
    """A model that is called like one of transformers: `model(**batch).logits`; made by `load_onnx`."""

    def __init__(self, folder: Path, session: InferenceSession, config: PretrainedConfig) -> None:
        self.config = config
        """The configuration beside the file."""
        self._folder, self._session = folder, session
        self._inputs = {entry.name for entry in session.get_inputs()}

    def __call__(self, **batch: torch.Tensor) -> OnnxResult:
        """Compute the logits.

        Args:
            batch: Integer tensors of shape (num_examples, longest); what the graph does not read is left alone.
        """
        import torch

        fed: Mapping[str, Any] = {name: values.cpu().numpy() for name, values in batch.items() if name in self._inputs}
        return OnnxResult(torch.from_numpy(self._session.run(["logits"], fed)[0]))

    @property
    def device(self) -> torch.device:
        """The CPU: where its inputs are read from."""
        import torch

        return torch.device("cpu")

    @property
    def generation_config(self) -> NoReturn:
        """Refuse: the graph has no cache of keys and values, and generates nothing.

        Raises:
            CallError: Always.
        """
        raise CallError(
            f"{self._folder}: an ONNX export scores texts, and cannot continue them. Predict with the folder `model` "
            "of the same export, or with models:/NAME@champion."
        )


def load_onnx(folder: Path) -> OnnxModel:
    """The model in a folder with `model.onnx` and `config.json`, on the CPU.

    Raises:
        ModelError: onnxruntime cannot load it.
    """
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf
    from transformers import AutoConfig

    try:
        session = onnxruntime.InferenceSession(str(folder / ONNX_FILE), providers=["CPUExecutionProvider"])
    except (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf) as error:
        raise ModelError(
            f"{folder / ONNX_FILE}: onnxruntime cannot load it: {first_line(error)}. Export the model again."
        ) from error
    return OnnxModel(folder, session, AutoConfig.from_pretrained(folder, **OFFLINE))
