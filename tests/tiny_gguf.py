"""GGUF files of tiny Llamas, written as llama.cpp's converter does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np

CHAT_TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write_gguf(
    llama: Path,
    target: Path,
    *,
    quantization: str = "Q8_0",
    splitting: str = "gpt-2",
    leave_out: str = "",
    pieces: Sequence[str] = (),
) -> Path:
    """Write a Llama that transformers saved, with its byte-level tokenizer, as one GGUF file.

    Args:
        llama: The model's folder.
        target: The file.
        quantization: What the matrices become; the vectors stay in F32.
        splitting: How the tokenizer says that it splits a text.
        leave_out: A weight that the file will not have, by its GGUF name.
        pieces: Instead of the tokenizer that is there, one of SentencePiece with these and the 256 bytes.

    Returns:
        The file.
    """
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(llama)
    config = model.config
    target.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    if pieces:
        _add_sentencepiece(writer, pieces)
    else:
        _add_tokenizer(writer, llama, splitting)
    for name, weight in model.state_dict().items():
        if _gguf_name(name) != leave_out:
            _add_weight(writer, name, weight.numpy(), config, gguf.GGMLQuantizationType[quantization])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def _add_tokenizer(writer: gguf.GGUFWriter, llama: Path, splitting: str) -> None:
    definition = json.loads((llama / "tokenizer.json").read_text())
    vocabulary = definition["model"]["vocab"]
    special = {token["content"] for token in definition["added_tokens"]}
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splitting)
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in definition["model"]["merges"]])
    writer.add_bos_token_id(vocabulary["<s>"])
    writer.add_eos_token_id(vocabulary["</s>"])
    writer.add_add_bos_token(True)
    writer.add_chat_template(CHAT_TEMPLATE)


def _add_sentencepiece(writer: gguf.GGUFWriter, pieces: Sequence[str]) -> None:
    specials, num_bytes = ["<unk>", "<s>", "</s>"], 256
    types = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([*specials, *(f"<0x{byte:02X}>" for byte in range(num_bytes)), *pieces])
    writer.add_token_scores([0.0] * (len(specials) + num_bytes) + [-float(rank) for rank in range(len(pieces))])
    writer.add_token_types([*types, *([gguf.TokenType.BYTE] * num_bytes), *([gguf.TokenType.NORMAL] * len(pieces))])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def _add_weight(
    writer: gguf.GGUFWriter, name: str, weight: np.ndarray, config: Any, quantization: gguf.GGMLQuantizationType
) -> None:
    if ".q_proj." in name or ".k_proj." in name:
        # llama.cpp rotates neighbouring pairs of a head, and transformers its two halves.
        heads = config.num_attention_heads if ".q_proj." in name else config.num_key_value_heads
        weight = weight.reshape(heads, 2, -1, weight.shape[-1]).swapaxes(1, 2).reshape(weight.shape)
    if weight.ndim == 1:
        quantization = gguf.GGMLQuantizationType.F32
    packed = gguf.quants.quantize(weight, quantization)
    writer.add_tensor(_gguf_name(name), packed, raw_dtype=quantization)


def _gguf_name(name: str) -> str:
    whole = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    stem = name.removesuffix(".weight")
    if stem in whole:
        return f"{whole[stem]}.weight"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{_NAMES[part]}.weight"
