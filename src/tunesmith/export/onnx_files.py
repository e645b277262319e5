"""ONNX files: a model as a graph that onnxruntime computes, and the same with integers of 8 bits for its weights.

A causal model is exported without a cache of keys and values: the graph scores texts, and does not continue them.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.errors import TunesmithError
from tunesmith.kinds.protocol import AnyModel
from tunesmith.modeling.onnx_model import ONNX_FILE

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import Tensor

OPSET = 18
"""The operators' version: what torch's exporter writes without a conversion."""
MAX_FILE_BYTES = 2**31 - 2**20
"""What a protobuf may take, less some room; the weights of a larger model lie in a file beside it."""
QUANTIZED = ("MatMul", "Gemm", "Gather")
"""What has its weights quantized: the linear layers, and the embeddings, which are half of a small encoder."""
TRACED_SHAPE = (3, 7)
"""Unlike axes, and none of 1: a tracer takes such a one for a constant."""


def write_onnx(model: AnyModel, inputs: Sequence[str], folder: Path) -> None:
    """Write `model.onnx`, whose batch and sequence may have any size that the model takes; the same bytes each time.

    Args:
        model: A plain model of transformers on the CPU, in evaluation mode, without an adapter.
        inputs: The names of its inputs; each is an integer tensor of shape (batch, sequence).
        folder: Where the file goes; made if it is missing.

    Raises:
        TunesmithError: torch's exporter cannot follow the model.
    """
    import torch
    from onnx import load
    from torch.onnx.errors import OnnxExporterError

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ONNX_FILE
    example = [_make_example(name, torch.int64) for name in inputs]
    is_large = sum(weight.numel() * weight.element_size() for weight in model.parameters()) > MAX_FILE_BYTES
    with _quiet_exporter():
        try:
            torch.onnx.export(
                _Logits(model, inputs),
                tuple(example),
                path,
                input_names=list(inputs),
                output_names=["logits"],
                dynamic_shapes=(tuple({0: "batch", 1: "sequence"} for _ in inputs),),
                opset_version=OPSET,
                external_data=is_large,
                dynamo=True,
                verbose=False,
            )
        except OnnxExporterError as error:
            words = " ".join(str(error).split())[:300]
            raise TunesmithError(
                f"onnx: torch's exporter cannot follow {type(model).__name__}: {words}. Remove onnx and onnx-int8 from "
                "export.formats; the other formats do not need it."
            ) from error
    graph = load(path, load_external_data=False)
    _forget_tracing(graph)
    path.write_bytes(graph.SerializeToString(deterministic=True))


def quantize_onnx(source: Path, folder: Path) -> None:
    """Write `model.onnx` of a folder with 8-bit weights into another folder, whose activations are quantized when run.

    Args:
        source: A folder that `write_onnx` wrote.
        folder: Where the file goes; made if it is missing.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    folder.mkdir(parents=True, exist_ok=True)
    graph = onnx.load(source / ONNX_FILE)
    # torch's exporter has folded the constants and inferred the shapes already.
    add_pre_process_metadata(graph)
    is_large = (source / f"{ONNX_FILE}.data").exists()
    quantize_dynamic(
        graph,
        folder / ONNX_FILE,
        op_types_to_quantize=list(QUANTIZED),
        per_channel=True,
        weight_type=QuantType.QInt8,
        # 7 of the 8 bits: the sums of 8-bit products overflow on CPUs without VNNI, which would answer otherwise.
        reduce_range=True,
        use_external_data_format=is_large,
    )


def _make_example(name: str, dtype: Any) -> Tensor:
    import torch

    example = torch.ones(TRACED_SHAPE, dtype=dtype)
    if name == "token_type_ids":
        return torch.zeros_like(example)
    if name == "attention_mask":
        example[1, -2:] = 0
    return example


def _Logits(model: AnyModel, inputs: Sequence[str]) -> Any:  # noqa: N802  # torch's classes are heavy to import
    """A module that takes the inputs in their order, and gives the logits alone."""
    import torch

    options = {"use_cache": False} if getattr(model.config, "use_cache", None) is not None else {}

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: Tensor) -> Tensor:
            logits: Tensor = self.model(**dict(zip(inputs, tensors, strict=True)), **options).logits
            return logits

    return Logits().eval()


def _forget_tracing(graph: ModelProto) -> None:
    """Leave out where in Python each operator came from: it says nothing to a user, and differs each time."""
    del graph.metadata_props[:]
    del graph.graph.metadata_props[:]
    for part in (*graph.graph.node, *graph.graph.value_info, *graph.graph.input, *graph.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    for weight in graph.graph.initializer:
        del weight.metadata_props[:]
    graph.graph.doc_string = ""


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep what the exporter says of its own workings off the user's screen."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
