from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from apple_gpu import AppleTensor
from small_memory import run_out_beyond
from table_rows import TableRows
from tiny_models import TEXTS, make_llama
from tunesmith.errors import DataError, ModelError
from tunesmith.features.batching import make_collator
from tunesmith.kinds import text_generation as kind
from tunesmith.kinds.limit import Limit
from tunesmith.kinds.protocol import Encoded, LoadedModel
from tunesmith.kinds.ragged import FeatureRows, Ragged
from tunesmith.kinds.text_generation import TextGeneration
from tunesmith.modeling.load import build_model
from tunesmith.modeling.tokenizer import load_tokenizer, make_encoder

EXAMPLES = TextGeneration(kind="text-generation", text="text", max_new_tokens=8)
BLOCKS = Limit(max_length=32)


def make_table(texts: list[str]) -> pa.Table:
    return pa.table({"row_id": [f"row{number}" for number in range(len(texts))], "text": texts})


def encode_with(tokenizer: Any, texts: list[str], max_length: int) -> Encoded:
    return kind.encode(make_table(texts), make_encoder(tokenizer), EXAMPLES, (), Limit(max_length=max_length))


def encode(texts: list[str], folder: Path, max_length: int) -> tuple[list[list[int]], Any]:
    encoded = encode_with(load_tokenizer(folder), texts, max_length)
    return encoded.features["input_ids"].to_pylist(), encoded.counts


def load(folder: Path, examples: TextGeneration = EXAMPLES) -> LoadedModel:
    tokenizer = load_tokenizer(folder)
    return LoadedModel(build_model(folder, examples, (), None, seed=0).eval(), tokenizer, make_encoder(tokenizer))


def generate(folder: Path, texts: list[str], batch_size: int = 4, examples: TextGeneration = EXAMPLES) -> list[str]:
    table = kind.predict(load(folder, examples), pa.table({"text": texts}), examples, (), BLOCKS, batch_size)
    return [str(text) for text in table["prediction"].to_pylist()]


def test_a_text_column_of_true_and_false_is_refused() -> None:
    with pytest.raises(DataError, match=r"t\.csv:0: column 'text' holds true/false values, not text"):
        kind.check_rows(pa.table({"text": [True]}), EXAMPLES, lambda row: f"t.csv:{row}")


def test_data_without_rows_is_refused() -> None:
    kind.check_whole(TableRows(make_table(["a"])), EXAMPLES)
    with pytest.raises(DataError, match="no rows are left"):
        kind.check_whole(TableRows(make_table([])), EXAMPLES)


def test_every_text_ends_with_the_end_token_and_blocks_hold_all_tokens(llama: Path) -> None:
    tokenizer = load_tokenizer(llama)
    blocks, counts = encode([*TEXTS, ""], llama, 7)
    expected = [token for text in [*TEXTS, ""] for token in [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]]
    assert [token for block in blocks for token in block] == expected
    assert {len(block) for block in blocks[:-1]} == {7}
    assert (counts["num_tokens"], counts["num_tokens_lost"], counts["num_truncated"]) == (len(expected), 0, 0)
    assert counts["num_tokens_read"] == len(expected)


def test_a_block_is_named_after_the_row_and_the_token_that_it_begins_with(llama: Path) -> None:
    tokenizer, texts = load_tokenizer(llama), [*TEXTS, "", "the end."]
    encoded = encode_with(tokenizer, texts, 5)
    ends = {
        f"row{number}": [*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for number, text in enumerate(texts)
    }
    names = encoded.features["row_id"].to_pylist()
    assert len({*names}) == len(names)
    for name, block in zip(names, encoded.features["input_ids"].to_pylist(), strict=True):
        row, _, place = name.partition("+")
        assert block[0] == ends[row][int(place)]


def test_an_end_token_that_the_tokenizer_adds_itself_is_not_doubled(tmp_path: Path) -> None:
    from tokenizers import processors

    folder = make_llama(tmp_path, TEXTS)
    tokenizer = load_tokenizer(folder)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    features = encode_with(tokenizer, ["the end.", "a"], 64).features
    assert features["input_ids"].to_pylist()[0].count(tokenizer.eos_token_id) == 2


def test_a_single_token_left_over_is_no_block(llama: Path) -> None:
    num_tokens = sum(len(block) for block in encode(["the story"], llama, 64)[0])
    blocks, counts = encode(["the story"], llama, num_tokens - 1)
    assert [len(block) for block in blocks] == [num_tokens - 1]
    assert (counts["num_tokens"], counts["num_tokens_lost"]) == (num_tokens - 1, 1)


def test_texts_without_a_token_give_no_block(tmp_path: Path) -> None:
    from tokenizers import processors

    tokenizer = load_tokenizer(make_llama(tmp_path, TEXTS, has_eos=False))
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    encoded = encode_with(tokenizer, [""], 8)
    assert (encoded.features.num_rows, encoded.counts["num_tokens"]) == (0, 0)


def test_no_rows_give_no_blocks(llama: Path) -> None:
    assert encode([], llama, 8)[0] == []


def test_a_tokenizer_without_an_end_token_just_joins(tmp_path: Path) -> None:
    folder = make_llama(tmp_path, TEXTS, has_eos=False)
    tokenizer = load_tokenizer(folder)
    blocks, _ = encode(["the end.", "a"], folder, 64)
    assert blocks == [[*tokenizer("the end.")["input_ids"], *tokenizer("a")["input_ids"]]]


def make_rows(*ids: list[int]) -> FeatureRows:
    return FeatureRows({"input_ids": Ragged(np.concatenate(ids), np.array([len(row) for row in ids]))}, {})


def test_padding_is_not_learned() -> None:
    batch = kind.collate(make_rows([1, 2, 3], [4, 5]), pad_token_id=1)
    assert batch["labels"].tolist() == [[1, 2, 3], [4, 5, -100]]
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, 5, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]


def test_a_block_is_scored_as_the_model_scores_it_whatever_it_is_padded_with(llama: Path) -> None:
    model = build_model(llama, EXAMPLES, (), None, seed=0).eval()
    rows = [[0, 5, 9, 20, 7], [0, 8, 3]]
    collate = make_collator(kind, pad_token_id=0)
    batch = collate(make_rows(*rows))
    with torch.inference_mode():
        summary = kind.summarize(model(**batch).logits, batch)
        losses = [float(model(**collate(make_rows(row))).loss) for row in rows]
    assert summary["num_tokens"].tolist() == [4, 2]
    assert summary["nll"].tolist() == pytest.approx([losses[0] * 4, losses[1] * 2], rel=1e-5)


def test_a_correct_token_is_one_that_the_tokens_before_it_make_most_likely() -> None:
    labels = torch.tensor([[0, 1, 2, -100]])
    logits = torch.full((1, 4, 3), -10.0)
    logits[0, 0, 1] = logits[0, 1, 0] = logits[0, 2, 2] = 10.0
    summary = kind.summarize(logits, {"labels": labels})
    assert (summary["num_correct"].tolist(), summary["num_tokens"].tolist()) == ([1], [2])


def test_logits_in_half_precision_are_summed_in_full() -> None:
    logits = torch.randn(1, 50, 30, generator=torch.Generator().manual_seed(0)).bfloat16()
    labels = torch.zeros(1, 50, dtype=torch.int64)
    exact = torch.nn.functional.cross_entropy(logits[0, :-1].double(), labels[0, 1:], reduction="sum")
    assert float(kind.summarize(logits, {"labels": labels})["nll"]) == pytest.approx(float(exact), rel=1e-6)


def test_a_gpu_without_numbers_of_64_bits_gives_the_same_sums() -> None:
    logits = torch.randn(3, 50, 30, generator=torch.Generator().manual_seed(0))
    labels = torch.ones(3, 50, dtype=torch.int64)
    on_cpu = kind.summarize(logits, {"labels": labels})
    found = kind.summarize(logits.as_subclass(AppleTensor), {"labels": labels.as_subclass(AppleTensor)})
    for name, values in on_cpu.items():
        assert torch.equal(found[name].cpu(), values)


def test_metrics_weigh_every_token_the_same() -> None:
    class Metric:
        def __init__(self, name: str) -> None:
            self.name = name

        def compute(self, num_tokens: list[int], **sums: list[float]) -> dict[str, float]:
            (values,) = sums.values()
            mean = sum(values) / sum(num_tokens)
            return {self.name: math.exp(mean) if self.name == "perplexity" else mean}

    summary = {"nll": np.array([3.0, 1.0]), "num_tokens": np.array([3, 1]), "num_correct": np.array([0, 1])}
    predictions = kind.prediction_table(summary, pa.table({"row_id": ["block-0", "block-1"]}), ())
    metrics = kind.compute_metrics(predictions, (), Metric)
    assert (metrics["perplexity"], metrics["token_accuracy"]) == (pytest.approx(math.e), 0.25)


def test_the_baseline_is_the_untouched_base_model() -> None:
    assert kind.baseline_predictions(pa.table({}), pa.table({}), ()) is None
    assert kind.baseline_name(pa.table({}), ()) == "untouched base model"


def test_texts_that_do_not_fit_into_the_memory_together_are_continued_in_parts(llama: Path) -> None:
    texts, loaded = ["once upon", "", "the story was very bad and"], load(llama)
    loaded.model.register_forward_hook(run_out_beyond(1), with_kwargs=True)
    found = kind.predict(loaded, pa.table({"text": texts}), EXAMPLES, (), BLOCKS, 4)["prediction"].to_pylist()
    assert found == generate(llama, texts)


def test_each_text_is_continued_the_same_alone_and_in_a_batch(llama: Path) -> None:
    texts = ["once upon", "", "the story was very bad and", "🎬 سلام " * 40]
    assert generate(llama, texts, batch_size=4) == generate(llama, texts, batch_size=1)
    assert generate(llama, texts) == generate(llama, texts)


def test_only_the_new_text_comes_back_and_is_greedy(llama: Path) -> None:
    model, tokenizer = build_model(llama, EXAMPLES, (), None, seed=0).eval(), load_tokenizer(llama)
    ids = tokenizer("once upon")["input_ids"]
    for _ in range(EXAMPLES.max_new_tokens):
        with torch.inference_mode():
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == tokenizer.eos_token_id:
            break
    whole = tokenizer.decode(ids, skip_special_tokens=True)
    assert "once upon" + generate(llama, ["once upon"])[0] == whole


def test_generating_says_nothing(llama: Path, capfd: pytest.CaptureFixture[str]) -> None:
    generate(llama, ["once upon", "a"])
    assert capfd.readouterr() == ("", "")


def test_a_model_whose_own_settings_sample_is_still_greedy_and_quiet(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers import GenerationConfig

    folder = make_llama(tmp_path, TEXTS)
    GenerationConfig(do_sample=True, temperature=5.0, top_k=0, eos_token_id=1).save_pretrained(folder)
    capfd.readouterr()
    assert len({generate(folder, ["once upon"])[0] for _ in range(3)}) == 1
    assert capfd.readouterr() == ("", "")


def test_more_new_tokens_than_the_model_has_room_for_are_refused(llama: Path) -> None:
    with pytest.raises(ModelError, match=r"max_new_tokens is 64, but the model takes 64.*Set it to 63"):
        generate(llama, ["a"], examples=EXAMPLES.model_copy(update={"max_new_tokens": 64}))


def test_of_a_prompt_too_long_for_the_model_the_end_is_read(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(llama)
    read: list[torch.Tensor] = []

    def generate(input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
        read.append(input_ids)
        return input_ids

    monkeypatch.setattr(loaded.model, "generate", generate)
    text = "the story was very bad. " * 30
    kind.predict(loaded, pa.table({"text": [text]}), EXAMPLES, (), BLOCKS, 1)
    assert read[0][0].tolist() == loaded.tokenizer(text)["input_ids"][-(64 - 8) :]
