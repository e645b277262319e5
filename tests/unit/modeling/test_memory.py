"""Memory of a training, from the shapes of the weights alone."""

import math
import shutil

import pytest

from tiny_models import WORDS, make_bert
from tunesmith.errors import ModelError
from tunesmith.kinds.text_classification import TextClassification
from tunesmith.kinds.text_generation import TextGeneration
from tunesmith.modeling.config import LoraConfig
from tunesmith.modeling.load import build_model
from tunesmith.modeling.memory import check_targets, estimate_training_bytes

CLASSES = TextClassification(kind="text-classification", text="text", label="label")
TEXT = TextGeneration(kind="text-generation", text="text")


def test_full_training_takes_sixteen_bytes_a_parameter(tmp_path):
    from transformers import AutoModel

    folder = make_bert(tmp_path / "bert", WORDS)
    num_parameters = sum(p.numel() for p in AutoModel.from_pretrained(folder).parameters())
    assert estimate_training_bytes(folder, None, 8) == num_parameters * 16
    assert estimate_training_bytes(folder, None, 0) == num_parameters * 8


def test_an_adapter_takes_its_own_parameters_and_the_frozen_weights(tmp_path):
    from transformers import AutoModel

    folder = make_bert(tmp_path / "bert", WORDS)
    num_parameters = sum(p.numel() for p in AutoModel.from_pretrained(folder).parameters())
    query_only = LoraConfig(r=4, target_modules=("query",))
    assert estimate_training_bytes(folder, query_only, 8) == num_parameters * 4 + 4 * (32 + 32) * 16
    assert estimate_training_bytes(folder, LoraConfig(r=4), 8) > estimate_training_bytes(folder, query_only, 8)


def test_quantized_weights_take_half_a_byte_where_they_are_quantized(bert):
    lora = LoraConfig(r=4, target_modules=("query",))
    model = build_model(bert, CLASSES, ("a", "b"), lora, 0, quantization="nf4")
    packed = [p for p in model.parameters() if type(p).__name__ == "Params4bit"]
    num_packed = sum(math.prod(p.quant_state.shape) for p in packed)
    plain = estimate_training_bytes(bert, lora, 8)
    assert estimate_training_bytes(bert, lora, 8, "nf4") == pytest.approx(plain - num_packed * (4 - 0.516), abs=2)


@pytest.mark.parametrize(
    "targets",
    [
        "all-linear",
        ("query", "self.value"),
        ("bert.encoder.layer.0.attention.self.query", "encoder.layer.0.attention.self.key"),
        r"encoder\.layer\.0\..*query",
        r"bert\.encoder\.layer\.0\..*query",
        ".*key",
    ],
)
@pytest.mark.parametrize("with_prefix", [False, True])
def test_layers_that_the_files_have_pass_there_and_in_training(tmp_path, targets, with_prefix):
    base = make_bert(tmp_path / "bert", WORDS)
    if with_prefix:
        build_model(base, CLASSES, ("a", "b"), None, 0).save_pretrained(base)
    lora = LoraConfig(target_modules=targets)
    check_targets(base, lora)
    build_model(base, CLASSES, ("a", "b"), lora, 0)


@pytest.mark.parametrize("body", ["", r"gpt_neox\."])
def test_an_output_layer_called_an_embedding_hides_no_layer(llama, tmp_path, body):
    from safetensors import safe_open
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    folder = shutil.copytree(llama, tmp_path / "neox")
    config = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    GPTNeoXForCausalLM(GPTNeoXConfig(**config, vocab_size=320)).save_pretrained(folder)
    with safe_open(folder / "model.safetensors", "pt") as weights:
        assert "embed_out.weight" in weights.keys()  # noqa: SIM118 - no mapping
    lora = LoraConfig(target_modules=rf"{body}layers\.\d+\.attention\.query_key_value")
    check_targets(folder, lora)
    build_model(folder, TEXT, (), lora, 0)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (
            ("query", "valeu"),
            r"has no layer 'valeu'\. Did you mean 'value'\? Its matrices are called dense, key",
        ),
        ("query", r"has no layer 'query'.*regular expression for whole names"),
        (r"layer\.7\..*", r"has no layer 'layer.*regular expression for whole names, such as '\.\*dense'"),
    ],
)
def test_layers_that_no_file_has_are_refused_before_anything_is_loaded(bert, targets, message):
    with pytest.raises(ModelError, match=message):
        check_targets(bert, LoraConfig(target_modules=targets))
