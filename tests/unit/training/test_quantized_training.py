"""QLoRA: an adapter is trained on a base model in 4 bits, and is worth the same wherever it is loaded."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from killable_training import CLASSIFICATION, Trainings
from tunesmith.errors import ModelError
from tunesmith.modeling import quantize
from tunesmith.modeling.config import LoraConfig, ModelConfig
from tunesmith.modeling.load import build_model, count_parameters, load_trained
from tunesmith.store.folder import FolderStore
from tunesmith.store.sealed import read_manifest
from tunesmith.training.config import TrainConfig
from tunesmith.training.gradient import GradientSum
from tunesmith.training.loss import Loss
from tunesmith.training.train import derive_train
from tunesmith.training.validation import compute_validation_loss

ENGINES = pytest.mark.parametrize("engine", ["loop", "trainer"])
IDS = [[2, 10, 11, 12, 3, 30, 31]]

PLAIN_READER = """
import json, sys
from pathlib import Path
import peft, torch, transformers
base, adapter, auto_class, ids = sys.argv[1:]
how = transformers.BitsAndBytesConfig.from_dict(json.loads((Path(adapter) / "quantization_config.json").read_text()))
model = getattr(transformers, auto_class).from_pretrained(base, quantization_config=how, dtype=torch.float32)
model = peft.PeftModel.from_pretrained(model.dequantize(), adapter).eval()
print(json.dumps(model(input_ids=torch.tensor(json.loads(ids))).logits.tolist()))
"""


@ENGINES
@pytest.mark.parametrize("generation", [False, True])
def test_the_loss_falls_and_the_weights_are_counted_as_what_they_stand_for(
    engine, generation, tmp_path, make_job, train_here
):
    options = {"engine": engine, "generation": generation, "lora": True, "learning_rate": 5e-3, "num_epochs": 8}
    job = make_job(tmp_path / "quantized", quantization="nf4", **options)
    train_here(job)
    told = [json.loads(line)["metrics"] for line in (job.result / "metrics.jsonl").read_text().splitlines()]
    losses = [metrics["train/epoch_loss"] for metrics in told if "train/epoch_loss" in metrics]
    assert losses[-1] < losses[0] - 0.01
    plain = make_job(tmp_path / "plain", **options)
    total, trained = count_parameters(build_model(plain.base, plain.examples, plain.labels, plain.lora, 0))
    facts = read_manifest(job.result).header["facts"]
    assert (facts["num_parameters"], facts["num_trainable_parameters"]) == (total, trained)


@pytest.mark.parametrize(("engine", "auto_class"), [("loop", "ForCausalLM"), ("trainer", "ForSequenceClassification")])
def test_plain_peft_gives_the_logits_in_a_clean_process(engine, auto_class, tmp_path, make_job, train_here):
    generation = auto_class == "ForCausalLM"
    job = make_job(
        tmp_path, engine=engine, generation=generation, lora=True, quantization="nf4", learning_rate=2e-2, num_epochs=1
    )
    train_here(job)
    model = load_trained(job.result, job.base, job.examples, job.labels)
    with torch.inference_mode():
        ours = model(input_ids=torch.tensor(IDS)).logits
    arguments = [str(job.base), str(job.result / "adapter"), f"AutoModel{auto_class}", json.dumps(IDS)]
    command = [sys.executable, "-I", "-c", PLAIN_READER, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    assert torch.allclose(torch.tensor(json.loads(done.stdout)), ours, atol=1e-5)


@ENGINES
def test_the_validation_loss_is_that_of_the_model_that_is_handed_over(engine, tmp_path, make_job, train_here):
    from tunesmith.training.prepared import prepare
    from tunesmith.training.reporter import Reporter

    job = make_job(tmp_path, engine=engine, lora=True, quantization="nf4", learning_rate=1e-2, precision="fp32")
    train_here(job)
    told = read_manifest(job.result).header["facts"]["validation_loss"]
    model = load_trained(job.result, job.base, job.examples, job.labels)
    gradient = GradientSum(Loss(TrainConfig(), None), torch.device("cpu"), None, print)
    found = compute_validation_loss(model, prepare(job), gradient, Reporter(job), may_stop=False)
    assert found == pytest.approx(told, abs=1e-6)


def test_it_is_another_training_with_another_key_and_the_library_is_in_it(tmp_path, features, bert):
    def derive(quantization):
        model = ModelConfig(base=str(bert), lora=LoraConfig(), quantization=quantization)
        return derive_train(features, CLASSIFICATION, model, TrainConfig(), FolderStore(tmp_path))

    assert derive("nf4").key != derive(None).key
    assert "bitsandbytes" in derive("nf4").ingredients["libraries"]
    assert "bitsandbytes" not in derive(None).ingredients["libraries"]


def test_a_process_trains_it_and_says_how_much_and_logs_nothing(tmp_path, features, bert, caplog):
    caplog.set_level("INFO", logger="tunesmith")
    trainings = Trainings(tmp_path, features, bert, lora=True, quantization="nf4", num_epochs=1)
    log = trainings.work / "worker.log"
    seen = []

    class Observer:
        def started(self, _key, _facts): ...

        def rows(self, _rows): ...

        def ended(self, _status):
            seen.append(log.read_text())

    ref = trainings.here(Observer())
    assert seen == [""]
    assert (ref.folder / "adapter" / "quantization_config.json").is_file()


def test_without_bitsandbytes_a_plan_already_refuses_it(tmp_path, features, bert, monkeypatch):
    monkeypatch.setattr(quantize, "find_spec", lambda _name: None)
    model = ModelConfig(base=str(bert), lora=LoraConfig(), quantization="nf4")
    with pytest.raises(ModelError, match=r"needs bitsandbytes.*pip install 'tunesmith\[qlora\]'") as caught:
        derive_train(features, CLASSIFICATION, model, TrainConfig(), FolderStore(tmp_path))
    assert caught.value.exit_code == 2
