"""One format of a model that was exported before, for `tunesmith export`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from tunesmith.data.column_types import settle
from tunesmith.data.files import find_local_files
from tunesmith.data.source_rows import OPTIONS, look_through
from tunesmith.errors import CallError, TunesmithError
from tunesmith.evaluation.served import ServedModel, copy_tokenizer, find_served_model
from tunesmith.export.clean_process import PlainModel
from tunesmith.export.config import ADAPTER, NO_GGUF, ONNX, ONNX_INT8, SAFETENSORS, ExportConfig
from tunesmith.export.formats import PARITY_FILE, FormatReport, add_report, read_reports
from tunesmith.export.parity import ParitySet, compute_reference
from tunesmith.export.writing import Measuring, add_onnx, save_model
from tunesmith.features.files import read_split
from tunesmith.kinds import Kind, find_kind
from tunesmith.store.folder import FolderStore
from tunesmith.store.sealed import find_damage

FORMATS = (SAFETENSORS, ONNX, ONNX_INT8)


class ConvertResult(BaseModel):
    """What `tunesmith export` wrote."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    model_folder: str
    """The model that was exported again."""
    format: str
    """The format."""
    target: str
    """The folder of the format; it is there only where the format is shipped."""
    examples: str
    """The examples that it was compared on."""
    report: FormatReport
    """What was found."""

    def check(self) -> None:
        """Refuse a format that is not near enough.

        Raises:
            TunesmithError: It is not.
        """
        if not self.report.is_shipped:
            raise TunesmithError(
                f"{self.format} is not written: {self.report.reason}. {Path(self.target).parent / PARITY_FILE} has all "
                "numbers. If so much is acceptable, raise --max-disagreement."
            )


def check_format(format: str) -> None:
    """Refuse the name of a format that cannot be written.

    Raises:
        CallError: It cannot; says why and what can.
    """
    if format == "gguf":
        raise CallError(f"--format gguf: {NO_GGUF}.")
    if format in ("merged", ADAPTER):
        what = "what `safetensors` writes" if format == "merged" else "beside the model in its MLflow run, as `adapter`"
        raise CallError(f"--format {format}: this is {what}; there are {', '.join(FORMATS)}.")
    if format not in FORMATS:
        raise CallError(f"--format {format}: there are {', '.join(FORMATS)}.")


def convert(
    model_folder: Path,
    format: str,
    target: Path,
    store: FolderStore,
    *,
    data: Path | None = None,
    metric: str | None = None,
    max_disagreement_fraction: float | None = None,
) -> ConvertResult:
    """Write a model in another format, with parity.json beside it, which keeps what it says of other formats.

    Args:
        model_folder: A model that the export stage wrote, as safetensors.
        format: `safetensors`, `onnx` or `onnx-int8`.
        target: The folder that gets a folder of the format's name, and parity.json.
        store: Where the examples lie that the model was judged on.
        data: A file with labeled rows to compare on instead.
        metric: The metric whose delta is measured; by default the kind's own.
        max_disagreement_fraction: The share of the predictions that `onnx-int8` may make otherwise.

    Returns:
        What was written, or why not.

    Raises:
        CallError: The model, the format or the target cannot be used, or there are no examples.
        DataError: The file cannot be read, or its rows are not labeled as the model's were.
        TunesmithError: The format cannot be written or loaded.
    """
    check_format(format)
    place, served = find_served_model(model_folder)
    if not any(place.glob("*.safetensors")):
        raise CallError(f"{place}: holds no safetensors. Name the folder `model` of the same export.")
    if (target / format).exists():
        raise CallError(f"{target / format}: exists already; name another folder with --out, or remove it")
    told, config = read_reports(target), _make_config(format, max_disagreement_fraction)
    kind = find_kind(served.examples)
    features, where = _find_examples(served, kind, place, store, data)
    _make_folder(target)
    with tempfile.TemporaryDirectory(prefix=".tunesmith-", dir=target) as name:
        aside = Path(name)
        report = _write(place, served, format, features, config, metric or kind.PRIMARY_METRIC, aside)
        add_report(told, format, report, config, target)
        if report.is_shipped:
            (aside / format).rename(target / format)
    return ConvertResult(
        model_folder=str(place), format=format, target=str(target / format), examples=where, report=report
    )


def _make_folder(target: Path) -> None:
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CallError(f"{target}: cannot be made a folder ({error.strerror}); name another one with --out") from None


def _make_config(format: str, max_disagreement_fraction: float | None) -> ExportConfig:
    if max_disagreement_fraction is None:
        return ExportConfig()
    if format != ONNX_INT8:
        raise CallError(f"--max-disagreement has no effect on {format}; leave it out.")
    if not 0 <= max_disagreement_fraction <= 1:
        raise CallError(f"--max-disagreement is {max_disagreement_fraction}; it must be from 0 to 1")
    return ExportConfig(formats=(ONNX_INT8,), max_disagreement_fraction=max_disagreement_fraction)


def _write(
    place: Path,
    served: ServedModel,
    format: str,
    features: pa.Table,
    config: ExportConfig,
    metric: str,
    folder: Path,
) -> FormatReport:
    import torch

    kind = find_kind(served.examples)
    model = served.load(place)
    test = ParitySet(features, kind, served.labels, model.config.pad_token_id, served.temperature)
    reference = compute_reference(model, test)
    measuring = Measuring(test, reference, reference.predictions, metric, config, torch.get_num_threads())
    if format == SAFETENSORS:
        if served.base is None:
            shutil.copytree(place, folder / format)
        else:
            save_model(model, copy_tokenizer(place, folder / "tokenizer"), served.whole, folder / format)
        return measuring.measure(format, PlainModel("transformers", folder / format, kind.AUTO_CLASS))
    tokenizer = copy_tokenizer(place, folder / "tokenizer")
    (report,) = (report for _, report in add_onnx(model, tokenizer, served.whole, [format], measuring, folder))
    return report


def _find_examples(
    served: ServedModel, kind: Kind, place: Path, store: FolderStore, data: Path | None
) -> tuple[pa.Table, str]:
    """The features to compare on, and where they come from."""
    if data is not None:
        return _encode(served, kind, place, data), str(data)
    for request in store.list_requests("export"):
        inputs = request.ingredients.get("inputs", {})
        folder = store.find_folder("encode", inputs.get("features", ""))
        if inputs.get("candidate") == served.candidate and folder is not None and find_damage(folder) is None:
            return read_split(folder, "test"), "the test examples that it was judged on"
    raise CallError(
        f"{place}: the store does not have the examples that this model was judged on ({store.root}); name the store "
        "with --store, or a file with labeled rows with --data FILE."
    )


def _encode(served: ServedModel, kind: Kind, place: Path, data: Path) -> pa.Table:
    from tunesmith.modeling.load import load_tokenizer
    from tunesmith.modeling.tokenizer import make_encoder

    rows = pa.concat_tables(_read(data, kind.input_columns(served.examples)), promote_options="permissive")
    rows = rows.append_column("row_id", pa.array([f"{number:016x}" for number in range(rows.num_rows)]))

    def name(number: int) -> str:
        return f"{data}: row {number + 1}"

    kind.check_rows(rows, served.examples, name)
    encoder = make_encoder(load_tokenizer(place))
    features = kind.encode(rows, encoder, served.examples, served.labels, served.limit).features
    if not features.num_rows:
        raise CallError(f"{data}: there is no row to compare on. Name a file with labeled rows.")
    return features


def _read(data: Path, input_columns: Sequence[str]) -> Iterator[pa.Table]:
    if not data.is_file():
        raise CallError(f"{data}: there is no such file")
    rows = look_through(find_local_files([str(data)], OPTIONS), input_columns)
    for _, part in rows.read_shards(rows.num_rows, {0}):
        texts = [
            part.inputs[name] if name in input_columns else settle(part.table[name]) for name in part.table.column_names
        ]
        yield pa.table(dict(zip(part.table.column_names, texts, strict=True)))
