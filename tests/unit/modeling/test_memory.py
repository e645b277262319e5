"""Memory of a training, from the shapes of the weights alone."""

from tiny_models import WORDS, make_bert
from tunesmith.modeling.base import LoraConfig
from tunesmith.modeling.memory import estimate_training_bytes


def test_full_training_takes_sixteen_bytes_a_parameter(tmp_path):
    from transformers import AutoModel

    folder = make_bert(tmp_path / "bert", WORDS)
    num_parameters = sum(p.numel() for p in AutoModel.from_pretrained(folder).parameters())
    assert estimate_training_bytes(folder, None) == num_parameters * 16


def test_an_adapter_takes_its_own_parameters_and_the_frozen_weights(tmp_path):
    from transformers import AutoModel

    folder = make_bert(tmp_path / "bert", WORDS)
    num_parameters = sum(p.numel() for p in AutoModel.from_pretrained(folder).parameters())
    query_only = LoraConfig(r=4, target_modules=("query",))
    assert estimate_training_bytes(folder, query_only) == num_parameters * 4 + 4 * (32 + 32) * 16
    assert estimate_training_bytes(folder, LoraConfig(r=4)) > estimate_training_bytes(folder, query_only)
