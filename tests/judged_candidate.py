"""Features and a candidate small enough for a test, as the encode and train stages would leave them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from split_rows import write_splits
from tunesmith.evaluation.evaluate import EvaluateConfig, evaluate
from tunesmith.evaluation.gate_config import GateConfig
from tunesmith.evaluation.slicing import slice_rows
from tunesmith.features.encode import TokenizeConfig, encode
from tunesmith.kinds import Examples
from tunesmith.kinds.text_classification import TextClassification
from tunesmith.kinds.text_generation import TextGeneration
from tunesmith.modeling.config import LoraConfig, ModelConfig, Quantization
from tunesmith.store.folder import FolderStore
from tunesmith.store.ref import Ref

CLASSIFICATION = TextClassification(kind="text-classification", text="review", label="verdict")
GENERATION = TextGeneration(kind="text-generation", text="review", max_new_tokens=5)
LORA = LoraConfig(r=4)
TOKENIZE = TokenizeConfig(max_length=16)
WORDS = ("good", "bad", "film", "story", "the", "very", "and", "not")


@dataclass(frozen=True)
class Candidate:
    """What the stages after training are given."""

    store: FolderStore
    examples: Examples
    model: ModelConfig
    splits: Ref
    features: Ref
    candidate: Ref

    @property
    def judged(self) -> tuple[Ref, Ref, Ref, Ref, Examples, ModelConfig]:
        """What the evaluate stage looks at."""
        return self.candidate, self.splits, self.slice(), self.features, self.examples, self.model

    @property
    def exported(self) -> tuple[Ref, Ref, Ref, Examples, ModelConfig]:
        """What the export stage looks at."""
        report = evaluate(*self.judged, EvaluateConfig(), self.store)
        return self.candidate, self.features, report, self.examples, self.model

    def slice(self, *slices: Any) -> Ref:
        """The slice artifact."""
        return slice_rows(self.splits, EvaluateConfig(slices=slices), GateConfig(), self.store)

    def replace_weights(self, value: float) -> None:
        """Set every weight of a full candidate to one value."""
        from safetensors.torch import load_file, save_file

        path = self.candidate.folder / "model" / "model.safetensors"
        weights = {name: tensor.fill_(value) for name, tensor in load_file(path).items()}
        save_file(weights, path, metadata={"format": "pt"})


def make_candidate(
    folder: Path,
    base: Path,
    examples: Examples,
    *,
    lora: LoraConfig | None = None,
    num_test_rows: int = 30,
    tokenize: TokenizeConfig = TOKENIZE,
    quantization: Quantization | None = None,
) -> Candidate:
    """Encode splits and save a model with its head, its adapter moved away from zero."""
    store = FolderStore(folder / "store")
    splits = Ref(kind="split", key="splits", uri=str(folder / "splits"))
    sizes = {"train": 20, "validation": 10, "test": num_test_rows}
    write_splits(splits, {split: make_rows(num_rows) for split, num_rows in sizes.items()}, store.chunks)
    model = ModelConfig(base=str(base), lora=lora, quantization=quantization)
    features = encode(splits, examples, model, tokenize, store)
    candidate = Ref(kind="train", key="candidate", uri=str(folder / "candidate"))
    _save(candidate.folder, model, examples, features)
    return Candidate(store, examples, model, splits, features, candidate)


def make_rows(num_rows: int) -> pa.Table:
    """Rows of different lengths, a third of them of the class `bad`."""
    texts = [" ".join(WORDS[(row * step) % len(WORDS)] for step in range(1, 2 + row % 9)) for row in range(num_rows)]
    labels = ["bad" if row % 3 == 0 else "good" for row in range(num_rows)]
    return pa.table({"row_id": [f"{row:016x}" for row in range(num_rows)], "review": texts, "verdict": labels})


def _save(folder: Path, asked: ModelConfig, examples: Examples, features: Ref) -> None:
    import torch

    from tunesmith.modeling.load import build_model
    from tunesmith.modeling.quantize import save_quantization

    lora, quantization, base = asked.lora, asked.quantization, Path(asked.base)
    model: Any = build_model(base, examples, features.facts["labels"], lora, seed=0, quantization=quantization)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if lora is None or "lora_B" in name:  # zeros at first: an adapter that changes nothing would prove nothing
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    model.save_pretrained(folder / ("model" if lora is None else "adapter"))
    if quantization is not None:
        save_quantization(model, folder / "adapter")
    if lora is None:
        shutil.copytree(features.folder / "tokenizer", folder / "model", dirs_exist_ok=True)
