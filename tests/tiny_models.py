"""Models small enough for a test, made on the spot: real architectures, real tokenizers, random weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tunesmith.modeling.quiet import quiet_libraries

BERT_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'"


WORDS = ["good", "bad", "film", "story", "the", "a", "was", "very", "and", "not", "we", "liked", "it"]
TEXTS = ["once upon a time there was a good film.", "the story was very bad and we liked it.", "the end."]


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny encoder; a conftest.py imports this fixture. Tests only read it."""
    return make_bert(tmp_path_factory.mktemp("models") / "bert", WORDS)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny causal model; a conftest.py imports this fixture. Tests only read it."""
    return make_llama(tmp_path_factory.mktemp("models") / "llama", TEXTS)


def make_bert(folder: Path, vocab_words: Iterable[str], *, max_length: int = 64, dtype: str = "float32") -> Path:
    """Save an encoder without a head: one layer, hidden size 32, a WordPiece tokenizer that knows the words.

    Args:
        folder: Made if it is missing.
        vocab_words: Words that are one token each; any other is spelled letter by letter.
        max_length: Positions of the model.
        dtype: Of the saved weights.

    Returns:
        The folder.
    """
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    quiet_libraries()
    letters = [*LETTERS, *(f"##{letter}" for letter in LETTERS)]
    words = list(dict.fromkeys([*BERT_SPECIALS, *letters, *(word.lower() for word in vocab_words)]))
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=max_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=max_length,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).to(getattr(torch, dtype)).save_pretrained(folder)
    return folder


def make_llama(folder: Path, texts: Iterable[str], *, max_length: int = 64, has_eos: bool = True) -> Path:
    """Save a causal language model without a padding token: one layer, hidden size 32, byte-level BPE of the texts.

    Args:
        folder: Made if it is missing.
        texts: What the tokenizer is trained on; it can encode any other text too.
        max_length: Positions of the model.
        has_eos: Whether the tokenizer has an end-of-text token.

    Returns:
        The folder.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    quiet_libraries()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<s>", "</s>"] if has_eos else ["<s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=specials, initial_alphabet=sorted(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator(list(texts), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 0)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>" if has_eos else None,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=64,
        max_position_embeddings=max_length,
        bos_token_id=0,
        eos_token_id=1 if has_eos else None,
        pad_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def make_bart(folder: Path, texts: Iterable[str]) -> Path:
    """Save an encoder with a decoder, each of one layer; the tokenizer ends each text with `</s>`, a pair as well."""
    import torch
    from tokenizers import processors
    from transformers import AutoTokenizer, BartConfig, BartModel

    make_llama(folder, texts)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained(folder)
    layers = {f"{part}_{name}": size for part in ("encoder", "decoder") for name, size in _BART_LAYERS.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ids = {
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": tokenizer.pad_token_id,
            "decoder_start_token_id": 1,
        }
        config = BartConfig(vocab_size=len(tokenizer), d_model=32, max_position_embeddings=64, **layers, **ids)
        BartModel(config).save_pretrained(folder)
    return folder


def make_mixtral(folder: Path, texts: Iterable[str]) -> Path:
    """Save a causal language model most of whose weights are those of four experts; all else is that of make_llama."""
    import torch
    from transformers import MixtralConfig, MixtralForCausalLM

    make_llama(folder, texts)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = MixtralConfig(vocab_size=320, intermediate_size=64, num_local_experts=4, **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        MixtralForCausalLM(config).save_pretrained(folder)
    return folder


_BART_LAYERS = {"layers": 1, "attention_heads": 2, "ffn_dim": 64}


def copy_without_special_tokens(base: Path, target: Path) -> Path:
    """Copy a model to a new folder; its tokenizer then adds nothing to a text, as those of GPT-2 and Qwen."""
    shutil.copytree(base, target)
    definition = json.loads((base / "tokenizer.json").read_text())
    (target / "tokenizer.json").write_text(json.dumps({**definition, "post_processor": None}))
    return target


def copy_without_dropout(base: Path, target: Path) -> Path:
    """Copy a base model to a new folder; its training then draws no random numbers."""
    shutil.copytree(base, target)
    config = json.loads((base / "config.json").read_text())
    config |= {name: 0.0 for name in config if name.endswith("dropout_prob")}
    (target / "config.json").write_text(json.dumps(config))
    return target


def nudge(model: Any) -> Any:
    """As if trained: every trainable weight a little different."""
    import torch

    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model
