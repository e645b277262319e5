"""A model keeps no keys and values while it is trained, and has its own setting afterwards."""

import torch
import transformers

from tunesmith.kinds.text_generation import TextGeneration
from tunesmith.modeling.caching import without_cache
from tunesmith.modeling.load import build_model

SIZE = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}


def test_nothing_is_kept_while_a_model_is_trained(llama):
    model = build_model(llama, TextGeneration(kind="text-generation", text="text"), (), None, 0)
    ids = torch.tensor([[0, 5, 6]])
    assert model(input_ids=ids).past_key_values is not None
    with without_cache(model):
        assert model(input_ids=ids).past_key_values is None
    assert model(input_ids=ids).past_key_values is not None


def test_what_others_set_meanwhile_is_taken_back():
    config = transformers.DistilBertConfig(vocab_size=20, dim=32, n_layers=1, n_heads=2, hidden_dim=64)
    before = config.to_dict()
    model = transformers.DistilBertModel(config)
    with without_cache(model):
        model.config.use_cache = False
    assert model.config.to_dict() == before


def test_of_a_model_that_sees_pictures_the_part_for_texts_keeps_nothing_either():
    text = {**SIZE, "vocab_size": 320, "num_key_value_heads": 1, "head_dim": 16}
    config = transformers.Gemma3Config(text_config=text, vision_config={**SIZE, "image_size": 28, "patch_size": 14})
    with torch.device("meta"):
        model = transformers.Gemma3ForConditionalGeneration(config)
    before = model.config.to_dict()
    with without_cache(model):
        assert not model.config.text_config.use_cache
    assert model.config.to_dict() == before
