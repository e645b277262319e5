"""The export stage: a folder that plain transformers loads, and the proof that it gives the same logits."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from tunesmith.errors import TunesmithError
from tunesmith.evaluation.served import ServedModel
from tunesmith.export.merging import MergeReport, compute_loss
from tunesmith.export.parity import ParityReport, compute_logits, make_batches, measure_parity
from tunesmith.export.pyfunc import LIBRARIES, write_pyfunc
from tunesmith.features.files import read_split
from tunesmith.kinds import Examples, find_kind, kind_module
from tunesmith.modeling.base import ModelConfig, adapter_libraries, find_base
from tunesmith.section import Section
from tunesmith.store.derivation import Derivation, compose_ingredients
from tunesmith.store.folder import FolderStore
from tunesmith.store.keys import folder_digest
from tunesmith.store.ref import Facts, Ref

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class ExportConfig(Section):
    """How a candidate is exported."""

    max_logit_difference: Annotated[float, Field(ge=0, le=1)] = 1e-4
    """The largest allowed distance between a logit of the candidate and the same logit of the exported model; where
    there are logits above 1, as a share of the largest."""


def derive_export(
    candidate: Ref, features: Ref, examples: Examples, model: ModelConfig, export: ExportConfig
) -> Derivation:
    """What an exported model is made of."""

    def build(folder: Path) -> Facts:
        return _export(folder, candidate, features, examples, model, export)

    return Derivation(
        kind="export",
        ingredients=compose_ingredients(
            # All fields, also those in no other key: tunesmith.json holds them for predicting.
            config={"examples": examples.model_dump(mode="json"), "export": export.key_fields()},
            inputs={"candidate": candidate.key, "features": features.key},
            code=(
                "tunesmith.export.export",
                "tunesmith.export.plain_reader",
                "tunesmith.export.pyfunc_loader",
                kind_module(examples),
            ),
            libraries=(*LIBRARIES, *adapter_libraries(model)),
        ),
        build=build,
    )


def export(
    candidate: Ref,
    features: Ref,
    examples: Examples,
    model: ModelConfig,
    export: ExportConfig,
    store: FolderStore,
) -> Ref:
    """Export a candidate to a folder that plain transformers loads.

    Returns:
        model/ (weights, configuration, tokenizer, tunesmith.json, and what MLflow's pyfunc loads), adapter/ where one
        was trained, parity.json, and merge.json where that was on a quantized base model.

    Raises:
        TunesmithError: The exported model's logits are not the candidate's; nothing is published.
    """
    return store.ensure(derive_export(candidate, features, examples, model, export))


def _export(
    folder: Path, candidate: Ref, features: Ref, examples: Examples, model: ModelConfig, config: ExportConfig
) -> Facts:
    from tunesmith.modeling.load import load_trained, merge

    kind, labels, target = find_kind(examples), tuple(features.facts["labels"]), folder / "model"
    batches = make_batches(read_split(features.folder, "test"), kind, features.facts["pad_token_id"])
    base = find_base(model).folder
    trained = load_trained(candidate.folder, base, examples, labels)
    expected = compute_logits(trained, batches)  # before merging, which changes the model in place
    served = ServedModel(
        examples=examples,
        labels=labels,
        max_length=features.facts["max_length"],
        on_overflow=features.facts["on_overflow"],
        stride=features.facts["stride"],
        candidate=candidate.key,
    )
    merged = merge(trained)
    _save(merged, features.folder / "tokenizer", served, target)
    formats = ["safetensors"]
    if (candidate.folder / "adapter").is_dir():
        shutil.copytree(candidate.folder / "adapter", folder / "adapter")
        formats.append("adapter")
    parity = measure_parity(expected, target, kind.AUTO_CLASS, batches)
    _check_parity(parity, config)
    report = {**asdict(parity), "limit": config.max_logit_difference}
    (folder / "parity.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    size_bytes = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    facts: Facts = {
        "max_logit_difference": parity.max_logit_difference,
        "size_bytes": size_bytes,
        "formats": formats,
        "files": {name: folder_digest(folder / name) for name in ("model", "adapter") if (folder / name).is_dir()},
    }
    if model.quantization is None:
        return facts
    merging = _compare_merges(merged, candidate, features, examples, base)
    merging.save(folder)
    return {**facts, "merging": merging.model_dump()}


def _compare_merges(
    merged: PreTrainedModel, candidate: Ref, features: Ref, examples: Examples, base: Path
) -> MergeReport:
    from tunesmith.modeling.load import load_on_original, merge

    test, kind, padding = read_split(features.folder, "test"), find_kind(examples), features.facts["pad_token_id"]
    loss = compute_loss(merged, test, kind, padding)
    original = merge(load_on_original(candidate.folder, base, examples, tuple(features.facts["labels"])))
    return MergeReport(
        loss=loss,
        original_base_loss=compute_loss(original, test, kind, padding),
        num_examples=test.num_rows,
    )


def _save(merged: PreTrainedModel, tokenizer_folder: Path, served: ServedModel, target: Path) -> None:
    merged.save_pretrained(target)
    shutil.copytree(tokenizer_folder, target, dirs_exist_ok=True)  # it cuts texts where training did
    served.save(target)
    write_pyfunc(target, served)


def _check_parity(parity: ParityReport, config: ExportConfig) -> None:
    found = parity.max_logit_difference
    limit = config.max_logit_difference * max(1.0, parity.largest_logit)
    if not found <= limit:  # a NaN is refused, too
        raise TunesmithError(
            f"the exported model's logits differ by up to {found:.3g} from the candidate's on {parity.num_examples} "
            f"test examples; export.max_logit_difference allows {limit:.3g} beside logits of up to "
            f"{parity.largest_logit:.3g}. Nothing is published. If so much is acceptable, raise it in the recipe."
        )
