"""The export stage: folders that plain libraries load, and the proof that each answers as the judged model did."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pyarrow.parquet as pq

from tunesmith.errors import ModelError
from tunesmith.evaluation.calibrate import find_temperature
from tunesmith.evaluation.evaluate import CANDIDATE
from tunesmith.evaluation.served import ServedModel
from tunesmith.export.clean_process import PlainModel
from tunesmith.export.config import ADAPTER, SAFETENSORS, ExportConfig
from tunesmith.export.formats import FormatReport, require, write_reports
from tunesmith.export.merging import MergeReport, compute_loss
from tunesmith.export.parity import ParitySet, compute_reference
from tunesmith.export.pyfunc import LIBRARIES
from tunesmith.export.writing import ADAPTER_FOLDER, MODEL, Measuring, add_onnx, save_adapter, save_model
from tunesmith.features.files import read_split
from tunesmith.kinds import Examples, find_kind, kind_module
from tunesmith.kinds.protocol import AnyModel
from tunesmith.modeling.base import find_base
from tunesmith.modeling.config import ModelConfig, adapter_libraries
from tunesmith.modeling.pinned import PinnedBase
from tunesmith.store.derivation import Derivation, compose_ingredients
from tunesmith.store.folder import FolderStore
from tunesmith.store.keys import folder_digest
from tunesmith.store.ref import Facts, Ref

log = logging.getLogger(__name__)

ONNX_LIBRARIES = ("onnx", "onnxruntime", "onnxscript")


def derive_export(
    candidate: Ref, features: Ref, report: Ref, examples: Examples, model: ModelConfig, export: ExportConfig
) -> Derivation:
    """What an exported model is made of.

    Args:
        candidate: The train artifact.
        features: The encode artifact.
        report: The evaluate artifact, with the predictions that the candidate was judged by.
        examples: The kind of task.
        model: The base model.
        export: The formats, and how far each may be from the candidate.
    """

    def build(folder: Path) -> Facts:
        return _export(folder, candidate, features, report, examples, model, export)

    # What lies apart from its adapter is in the artifact by its name.
    base = {} if export.merged else {"base": {"base": model.base, "revision": model.revision}}
    return Derivation(
        kind="export",
        ingredients=compose_ingredients(
            # All fields, also those in no other key: tunesmith.json holds them for predicting.
            config={"examples": examples.model_dump(mode="json"), "export": export.key_fields(), **base},
            inputs={"candidate": candidate.key, "features": features.key, "report": report.key},
            code=(
                "tunesmith.export.export",
                "tunesmith.export.plain_reader",
                "tunesmith.export.pyfunc_loader",
                kind_module(examples),
            ),
            libraries=(*LIBRARIES, *adapter_libraries(model), *(ONNX_LIBRARIES if export.formats else ())),
        ),
        build=build,
    )


def export(
    candidate: Ref,
    features: Ref,
    report: Ref,
    examples: Examples,
    model: ModelConfig,
    export: ExportConfig,
    store: FolderStore,
) -> Ref:
    """Export a candidate to folders that plain transformers and onnxruntime load; takes what `derive_export` takes.

    Returns:
        model/ (weights, configuration, tokenizer, tunesmith.json, and what MLflow's pyfunc loads),
        adapter/ where one was trained, onnx/ and onnx-int8/
        where they are asked for and near enough, parity.json, and merge.json where the adapter was trained on a
        quantized base model. With `merged: false`, adapter/ with all that model/ has but the weights of the base model.
        The facts hold a `FormatReport` of each format.

    Raises:
        TunesmithError: The model's logits are not the candidate's; nothing is published.
    """
    return store.ensure(derive_export(candidate, features, report, examples, model, export))


def check_start(start: Ref, export: ExportConfig) -> None:
    """Refuse to train what has no adapter where the adapter is to be exported alone.

    Args:
        start: The start artifact, or what is known of it before it is made.
        export: The recipe's section.

    Raises:
        ModelError: Training would go on from a whole model; the adapter would be merged into that.
    """
    if not export.merged and start.facts["part"] == MODEL:
        raise ModelError(
            "export.merged: false does not go with a training from version "
            f"{start.facts['start']['version']}, which is a whole model: the new adapter is merged into that, and "
            "there is none to export alone. Set model.start: base for one run, or export.merged: true."
        )


def _export(
    folder: Path,
    candidate: Ref,
    features: Ref,
    report: Ref,
    examples: Examples,
    model: ModelConfig,
    config: ExportConfig,
) -> Facts:
    import torch

    from tunesmith.modeling.load import load_trained, merge

    kind, labels = find_kind(examples), tuple(features.facts["labels"])
    temperature = find_temperature(report.facts)
    test = ParitySet(read_split(features.folder, "test"), kind, labels, features.facts["pad_token_id"], temperature)
    base = find_base(model).folder
    trained = load_trained(candidate.folder, base, examples, labels)
    reference = compute_reference(trained, test)  # before merging, which changes the model in place
    judged = pq.read_table(report.folder / CANDIDATE)
    threads = torch.get_num_threads()
    measuring = Measuring(test, reference, judged, report.facts["primary_metric"], config, threads)
    tokenizer, served = features.folder / "tokenizer", _describe(candidate, features, report, examples)
    if not config.merged:
        served = served.model_copy(update={"base": PinnedBase.pin(model)})
        save_adapter(trained, candidate.folder / ADAPTER_FOLDER, tokenizer, served, folder / ADAPTER_FOLDER)
        found = {ADAPTER: _measure_adapter(base, measuring, folder / ADAPTER_FOLDER, folder / ADAPTER_FOLDER)}
        require(ADAPTER, found[ADAPTER])
        return {"formats": write_reports(found, config, folder), "files": _digest_folders(folder)}
    merged = merge(trained)
    save_model(merged, tokenizer, served, folder / MODEL)
    found = {SAFETENSORS: measuring.measure(SAFETENSORS, PlainModel("transformers", folder / MODEL, kind.AUTO_CLASS))}
    require(SAFETENSORS, found[SAFETENSORS])
    if (candidate.folder / ADAPTER_FOLDER).is_dir():
        found[ADAPTER] = _export_adapter(candidate, base, measuring, model, folder)
    if config.formats:
        found |= add_onnx(merged, tokenizer, served, config.formats, measuring, folder)
    facts: Facts = {"formats": write_reports(found, config, folder), "files": _digest_folders(folder)}
    _tell(found)
    if model.quantization is None:
        return facts
    merging = _compare_merges(merged, candidate, features, examples, base)
    merging.save(folder)
    return {**facts, "merging": merging.model_dump()}


def _describe(candidate: Ref, features: Ref, report: Ref, examples: Examples) -> ServedModel:
    return ServedModel(
        examples=examples,
        labels=tuple(features.facts["labels"]),
        max_length=features.facts["max_length"],
        on_overflow=features.facts["on_overflow"],
        stride=features.facts["stride"],
        temperature=find_temperature(report.facts),
        candidate=candidate.key,
    )


def _export_adapter(candidate: Ref, base: Path, measuring: Measuring, model: ModelConfig, folder: Path) -> FormatReport:
    target = folder / ADAPTER_FOLDER
    shutil.copytree(candidate.folder / ADAPTER_FOLDER, target)
    report = _measure_adapter(base, measuring, target, folder / MODEL)
    if model.quantization is not None:
        # It was trained on other values than those of the base model: what that costs is in merge.json, and no fault.
        return report.model_copy(update={"is_shipped": True, "reason": None})
    require(ADAPTER, report)  # a later training goes on from it
    return report


def _measure_adapter(base: Path, measuring: Measuring, adapter: Path, config: Path) -> FormatReport:
    """Compare an adapter on its base model; the configuration says what head the two have."""
    auto_class = measuring.test.kind.AUTO_CLASS
    return measuring.measure(ADAPTER, PlainModel("peft", adapter, auto_class, base=base, config=config))


def _digest_folders(folder: Path) -> dict[str, str]:
    return {path.name: folder_digest(path) for path in sorted(folder.iterdir()) if path.is_dir()}


def _tell(found: dict[str, FormatReport]) -> None:
    for name, report in found.items():
        if not report.is_shipped:
            log.warning("export: %s is not shipped: %s", name, report.reason)


def _compare_merges(merged: AnyModel, candidate: Ref, features: Ref, examples: Examples, base: Path) -> MergeReport:
    from tunesmith.modeling.load import load_on_original, merge

    test, kind, padding = read_split(features.folder, "test"), find_kind(examples), features.facts["pad_token_id"]
    loss = compute_loss(merged, test, kind, padding)
    original = merge(load_on_original(candidate.folder, base, examples, tuple(features.facts["labels"])))
    return MergeReport(
        loss=loss,
        original_base_loss=compute_loss(original, test, kind, padding),
        num_examples=test.num_rows,
    )
