"""Base models: where their files lie, what identifies them, and how long an input they take."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from tunesmith.errors import ModelError
from tunesmith.modeling.config import ModelConfig
from tunesmith.modeling.locate import GGUF_SUFFIX, TOKENIZER_FILES, locate_base
from tunesmith.store.keys import compute_key, file_sha256

log = logging.getLogger(__name__)

_VOCABULARY_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
_BYTE_TOKENIZERS = frozenset({"ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer"})
"""Tokenizers of bytes or characters, which have no vocabulary file."""
PACK_MULTIPLE = 32
"""A pack is filled up to a multiple of so many tokens: a product of matrices is prepared for its shape, and few shapes
come again and again."""

POSITIONS_AFTER_PADDING = frozenset(
    {
        "camembert",
        "data2vec-text",
        "esm",
        "ibert",
        "lilt",
        "longformer",
        "luke",
        "markuplm",
        "mpnet",
        "roberta",
        "roberta-prelayernorm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
    }
)
"""Model types that number positions from the padding id plus one, and so take that many tokens fewer."""
_POSITION_FIELDS = ("max_position_embeddings", "n_positions", "max_seq_len")
_NO_LIMIT = 1_000_000
"""transformers writes 1e30 for a tokenizer without a limit."""


@dataclass(frozen=True)
class Base:
    """A base model on this machine.

    Attributes:
        folder: Its files.
        tokenizer: The sha256 of its configuration and of each file of its tokenizer, by name.
        weights: The other files that shape a result; hashed only when their digest is asked for.
        max_length: The longest input that the model takes, in tokens; None where it has no limit.
        vocab_size: Number of token ids that the model knows; None where the configuration does not say.
    """

    folder: Path
    tokenizer: Mapping[str, str]
    weights: tuple[Path, ...]
    max_length: int | None = field(default=None, compare=False)
    vocab_size: int | None = field(default=None, compare=False)

    @cached_property
    def digest(self) -> str:
        """Identifies the weights, the configuration and the tokenizer: the same bytes, the same digest."""
        return compute_key(self.files)

    @cached_property
    def files(self) -> dict[str, str]:
        """The sha256 of each of these files, by its name."""
        return {**self.tokenizer, **_hash(self.weights)}

    @cached_property
    def tokenizer_digest(self) -> str:
        """Identifies the configuration and the tokenizer alone."""
        return compute_key(self.tokenizer)


def find_base(config: ModelConfig) -> Base:
    """Find the files of a base model that shape a result.

    Raises:
        ModelError: There is no such folder, package or Hub model, or its files cannot be used; says what to do.
    """
    folder = locate_base(config.base, config.revision)
    if config.is_gguf:
        from tunesmith.modeling.gguf import ensure_converted

        folder = ensure_converted(folder, _find_cache(config))
    if not folder.is_dir():
        raise ModelError(f"model.base: there is no folder {folder}. Correct the path in the recipe.")
    return open_base(folder, find_weights(folder))


def open_base(folder: Path, weights: Iterable[Path]) -> Base:
    """Look at the files of a model in a folder.

    Args:
        folder: Holds its configuration and its tokenizer.
        weights: The files of its weights; none of a model whose weights do not matter, as an adapter's do not to those
            who look for its tokenizer.

    Raises:
        ModelError: There is no configuration or no tokenizer, or the weights are quantized.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: there is no config.json, so this is not a model that transformers saved.")
    settings = read_json(folder / "config.json")
    _check_not_quantized(folder, settings)
    check_tokenizer_files(folder)
    return Base(
        folder=folder,
        tokenizer=_hash([folder / "config.json", *_matching(folder, TOKENIZER_FILES)]),
        weights=(*weights, *_matching(folder, ("generation_config.json",))),
        max_length=_find_max_length(folder, settings),
        vocab_size=find_vocab_size(settings),
    )


def find_weights(folder: Path) -> list[Path]:
    """The safetensors files that hold a model's weights, with the index where there are several.

    Raises:
        ModelError: There are none, or one that the index names is missing.
    """
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        raise ModelError(f"{folder}: there is no model.safetensors. {_advice_on_weights(folder)}")
    shards = sorted(set(read_json(index).get("weight_map", {}).values()))
    for name in shards:
        if not (folder / name).is_file():
            raise ModelError(f"{index}: names {name}, which is missing. Fetch the model again, all of its files.")
    return [index, *(folder / name for name in shards)]


def check_tokenizer_files(folder: Path) -> None:
    """Refuse a folder without a tokenizer: transformers would make up one of five tokens, and not say so.

    Raises:
        ModelError: There is no vocabulary; says which files to add.
    """
    if _matching(folder, _VOCABULARY_FILES):
        return
    settings = folder / "tokenizer_config.json"
    if settings.is_file() and read_json(settings).get("tokenizer_class") in _BYTE_TOKENIZERS:
        return
    raise ModelError(
        f"{folder}: there are no tokenizer files (looked for {', '.join(_VOCABULARY_FILES)}). "
        "Save the tokenizer beside the model: tokenizer.save_pretrained(folder)."
    )


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a model's file.

    Raises:
        ModelError: The file is no JSON object.
    """
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise ModelError(f"{path}: is not valid JSON ({error}). Fetch the model again.") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path}: holds no JSON object. Fetch the model again.")
    return value


def _check_not_quantized(folder: Path, settings: Mapping[str, Any]) -> None:
    """Refuse weights that training could not change, and that an adapter could be merged into only with a loss."""
    quantization = settings.get("quantization_config")
    if quantization:
        method = dict(quantization).get("quant_method", "in an unknown way")
        raise ModelError(
            f"{folder}: its weights are quantized ({method}). Name the model that they were made from; with "
            "model.lora, model.quantization: nf4 stores it in 4 bits while the adapter is trained."
        )


def _find_cache(config: ModelConfig) -> Path:
    if not config.cache:
        raise ModelError(
            f"model.cache: {config.base} is converted once, and kept in a folder. Name the folder, or load the recipe "
            "from its file: then it lies in TUNESMITH_HOME."
        )
    return Path(config.cache)


def _advice_on_weights(folder: Path) -> str:
    if (folder / "adapter_config.json").is_file():
        return "It holds an adapter; merge it into its base model first, or name that base model."
    files = _matching(folder, (f"*{GGUF_SUFFIX}",))
    if files:
        return f"It holds GGUF weights; name the file itself in model.base, such as {files[0].name}."
    if _matching(folder, ("*.bin", "*.pt", "*.h5", "*.msgpack")):
        return (
            "It holds weights in another format, which can run code when they are read. Convert them once: "
            "AutoModel.from_pretrained(folder).save_pretrained(folder)."
        )
    return "Name a folder that transformers saved with save_pretrained."


def _find_max_length(folder: Path, settings: Mapping[str, Any]) -> int | None:
    limits = [settings[name] for name in _POSITION_FIELDS if isinstance(settings.get(name), int)]
    if settings.get("model_type") in POSITIONS_AFTER_PADDING:
        limits = [limit - int(settings.get("pad_token_id") or 0) - 1 for limit in limits]
    tokenizer = folder / "tokenizer_config.json"
    if tokenizer.is_file():
        limits.append(read_json(tokenizer).get("model_max_length"))
    return min((int(limit) for limit in limits if limit and 0 < limit < _NO_LIMIT), default=None)


def find_vocab_size(settings: Mapping[str, Any]) -> int | None:
    """The number of token ids that a model knows, by its config.json; None where that does not say."""
    of_text = settings.get("text_config")  # of a model that reads more than text
    sizes = [part.get("vocab_size") for part in (of_text, settings) if isinstance(part, Mapping)]
    return next((size for size in sizes if size is not None), None)


def _matching(folder: Path, patterns: Iterable[str]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def _hash(paths: Iterable[Path]) -> dict[str, str]:
    return {path.name: _hash_unchanged(path, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(paths)}


@lru_cache(maxsize=256)
def _hash_unchanged(path: Path, _size_bytes: int, _mtime_ns: int) -> str:
    # Four stages ask for the digest of one base, and 90 MB take 0.3 s.
    return file_sha256(path)
