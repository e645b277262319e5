"""The folders of an exported model, one a format; each is all that predicting needs."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from tunesmith.evaluation.served import ServedModel
from tunesmith.export.clean_process import PlainModel
from tunesmith.export.config import ONNX, ONNX_INT8, ExportConfig
from tunesmith.export.formats import FormatReport, judge
from tunesmith.export.onnx_files import quantize_onnx, write_onnx
from tunesmith.export.parity import ParitySet, Reference, measure_format
from tunesmith.export.pyfunc import write_pyfunc
from tunesmith.kinds.protocol import AnyModel

log = logging.getLogger(__name__)

MODEL, ADAPTER_FOLDER = "model", "adapter"


@dataclass(frozen=True)
class Measuring:
    """How a format is compared with the model that was judged.

    Attributes:
        test: The test set.
        reference: What the judged model gives for it.
        judged: The prediction table that it was judged by.
        metric: The metric whose delta is measured.
        config: The limits.
        num_threads: Threads of a forward pass.
    """

    test: ParitySet
    reference: Reference
    judged: pa.Table
    metric: str
    config: ExportConfig
    num_threads: int

    def measure(self, format: str, model: PlainModel) -> FormatReport:
        """Load a format in a clean process, compare it and say whether it is near enough."""
        log.info("export: loading %s in a clean process, to compare it on %d examples", format, len(self.judged))
        measured = measure_format(
            model,
            self.test,
            self.reference,
            self.judged,
            self.metric,
            title=f"comparing: {format}",
            num_threads=self.num_threads,
        )
        return judge(format, measured, self.config)


def save_model(merged: AnyModel, tokenizer: Path, served: ServedModel, target: Path) -> None:
    """Write a folder that plain transformers and MLflow's pyfunc load: weights, configuration, tokenizer and more.

    Args:
        merged: A plain model, without an adapter.
        tokenizer: The folder of the tokenizer's files.
        served: What tunesmith.json says.
        target: The folder.
    """
    merged.save_pretrained(target)
    shutil.copytree(tokenizer, target, dirs_exist_ok=True)  # it cuts texts where training did
    served.save(target)
    write_pyfunc(target, served)


def save_adapter(trained: AnyModel, adapter: Path, tokenizer: Path, served: ServedModel, target: Path) -> None:
    """Write a folder with all that predicting needs but the weights of the base model, which `served` names.

    Args:
        trained: The base model with the adapter.
        adapter: The folder of the adapter as training saved it.
        tokenizer: The folder of the tokenizer's files.
        served: What tunesmith.json says.
        target: The folder.
    """
    shutil.copytree(adapter, target)
    trained.get_base_model().config.save_pretrained(target)  # which head the two have
    shutil.copytree(tokenizer, target, dirs_exist_ok=True)
    served.save(target)
    write_pyfunc(target, served)


def add_onnx(
    merged: AnyModel, tokenizer: Path, served: ServedModel, formats: Sequence[str], measuring: Measuring, folder: Path
) -> Iterator[tuple[str, FormatReport]]:
    """Write the ONNX formats that are asked for, each into a folder of its name; one too far off is taken away again.

    Args:
        merged: A plain model, without an adapter, on the CPU.
        tokenizer: The folder of the tokenizer's files.
        served: What tunesmith.json says.
        formats: `onnx`, `onnx-int8` or both.
        measuring: How each is compared.
        folder: Where the folders go.

    Yields:
        The name of each format and its report.
    """
    inputs = [name for name in measuring.test.collate(measuring.test.find_median(1)) if name != "labels"]
    log.info("export: writing onnx")
    write_onnx(merged, inputs, folder / ONNX)
    if ONNX_INT8 in formats:
        log.info("export: writing onnx-int8")
        quantize_onnx(folder / ONNX, folder / ONNX_INT8)
    auto_class = measuring.test.kind.AUTO_CLASS
    for format in (ONNX, ONNX_INT8):
        target = folder / format
        if format not in formats:
            shutil.rmtree(target, ignore_errors=True)
            continue
        merged.config.save_pretrained(target)
        shutil.copytree(tokenizer, target, dirs_exist_ok=True)
        served.save(target)
        report = measuring.measure(format, PlainModel("onnx", target, auto_class))
        if not report.is_shipped:
            shutil.rmtree(target)
        yield format, report
