"""GGUF files as base models: each is converted once, to a folder like any other base model's, and kept.

The weights are in fp32, exactly what the file's blocks stand for, and the tokenizer is the one that the file describes.
"""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr
from functools import lru_cache
from pathlib import Path
from typing import Any

from tunesmith.errors import ModelError
from tunesmith.modeling.quiet import quiet_libraries
from tunesmith.modeling.tokenizer import OFFLINE, first_line
from tunesmith.store.derivation import Derivation, compose_ingredients
from tunesmith.store.folder import FolderStore
from tunesmith.store.keys import file_sha256
from tunesmith.store.ref import Facts

_BYTE_LEVEL = "gpt2"
"""What GGUF calls a byte-level tokenizer; how it splits a text first stands apart, by a name of llama.cpp's."""
_SPLITS_AS_GPT2 = frozenset({"gpt-2", "jais", "mpt", "olmo", "phi-2"})
"""The names of what transformers takes every name for that it does not know."""
_SPLITS_DIGITS_FIRST = frozenset({"command-r", "refact", "smollm", "starcoder"})
"""Names that transformers does not know: of the same kind, but each digit is cut out first."""


_SPACE_WHERE_NONE_IS = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
"""What transformers makes of a SentencePiece tokenizer: a text that begins with a space gets no other."""
_SPACE_ALWAYS = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ],
}
"""What SentencePiece and llama.cpp do, and Llama 2's own tokenizer."""


def ensure_converted(path: Path, cache: Path) -> Path:
    """The folder that a GGUF file was converted to; it is verified, or made again.

    Args:
        path: The file.
        cache: The folder in which converted files are kept, by their content.

    Raises:
        ModelError: There is no such file, it is damaged, or it holds no causal language model that transformers knows.
    """
    if not path.is_file():
        raise ModelError(f"model.base: there is no file {path}. Correct the path in the recipe.")
    stat = path.stat()
    return _ensure(path.absolute(), cache, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=16)
def _ensure(path: Path, cache: Path, _size_bytes: int, _mtime_ns: int) -> Path:
    # Six stages ask for one base, and verifying what was converted takes a second for 500 MB.
    derivation = Derivation(
        kind="base",
        ingredients=compose_ingredients(
            config={},
            inputs={"GGUF file": file_sha256(path)},
            code=(__name__,),
            libraries=("gguf", "safetensors", "tokenizers", "torch", "transformers"),
        ),
        build=lambda folder: _convert(path, folder),
    )
    return FolderStore(cache).ensure(derivation).folder


def _convert(path: Path, folder: Path) -> Facts:
    quiet_libraries()
    try:
        with redirect_stderr(io.StringIO()):  # a progress bar that nothing turns off
            tokenizer = _load_tokenizer(path)
            model, loading = _load_model(path)
    except ModelError:
        raise
    except Exception as error:  # the readers of a damaged file fail in any way
        raise ModelError(
            f"{path}: transformers cannot read it as a causal language model in GGUF: {first_line(error)}. It is "
            "damaged or cut short, or its architecture is not known; fetch it again, or name the model that it was "
            "made from."
        ) from error
    _check(path, model, loading, len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {"num_parameters": sum(parameter.numel() for parameter in model.parameters())}


def _load_model(path: Path) -> tuple[Any, dict[str, Any]]:
    import torch
    import transformers

    make_config: Any = transformers.GgufConfig  # transformers gives its constructor no types
    loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        quantization_config=make_config(dequantize=True),
        dtype=torch.float32,
        output_loading_info=True,
        **OFFLINE,
    )
    model, loading = loaded
    return model, loading


def _load_tokenizer(path: Path) -> Any:
    import tokenizers
    import transformers
    from transformers.integrations.gguf.gguf_tokenizer_mapping import get_gguf_tokenizer

    _, described, _ = get_gguf_tokenizer(str(path))
    loaded: Any = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, **OFFLINE)
    definition = json.loads(loaded.backend_tokenizer.to_str())
    # transformers adds GPT-2's own <|endoftext|> where the file has none, with an id that the model does not know.
    definition["added_tokens"] = [one for one in definition["added_tokens"] if one["id"] < len(described["tokens"])]
    if described["tokenizer_type"] == _BYTE_LEVEL and _splits_digits_first(path, described.get("pre_tokenizer_type")):
        digits = {"type": "Digits", "individual_digits": True}
        definition["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, definition["pre_tokenizer"]]}
    if definition["pre_tokenizer"] == _SPACE_WHERE_NONE_IS:
        definition["pre_tokenizer"], definition["normalizer"] = None, _SPACE_ALWAYS
    make_tokenizer: Any = transformers.PreTrainedTokenizerFast  # transformers gives its constructor no types
    return make_tokenizer(
        tokenizer_object=tokenizers.Tokenizer.from_str(json.dumps(definition)),
        chat_template=loaded.chat_template,
        **loaded.special_tokens_map,
    )


def _splits_digits_first(path: Path, splitting: str | None) -> bool:
    """Whether a byte-level tokenizer cuts out each digit before all else, which transformers leaves out.

    Raises:
        ModelError: Nothing but a name says how it splits: transformers would split as GPT-2 does, and not say so.
    """
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    if splitting not in _SPLITS_AS_GPT2 | _SPLITS_DIGITS_FIRST | GGUF_PRE_TOKENIZER_SPLITS.keys():
        raise ModelError(
            f"{path}: its tokenizer splits texts in a way of which only the name is known, {splitting!r}; it would "
            "give other tokens than the model was trained with. Name the model that the file was made from."
        )
    return splitting in _SPLITS_DIGITS_FIRST


def _check(path: Path, model: Any, loading: dict[str, Any], num_tokens: int) -> None:
    lacking = {*loading["missing_keys"], *(str(entry[0]) for entry in loading["mismatched_keys"])}
    if lacking:
        raise ModelError(
            f"{path}: {len(lacking)} weights are missing or have another shape ({', '.join(sorted(lacking)[:3])}), and "
            "would be random. Fetch the file again, or name the model that it was made from."
        )
    broken = next((name for name, weight in model.named_parameters() if not weight.isfinite().all()), None)
    if broken is not None:
        raise ModelError(f"{path}: is damaged: {broken} holds numbers that are not finite. Fetch the file again.")
    if num_tokens > model.config.vocab_size:
        raise ModelError(
            f"{path}: its tokenizer has {num_tokens} tokens, but its model knows {model.config.vocab_size}: the two do "
            "not belong together. Fetch the file again, or name the model that it was made from."
        )
