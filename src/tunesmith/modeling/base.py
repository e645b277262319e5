"""Base models: where their files lie, what identifies them, and how long an input they take."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from tunesmith.errors import ModelError
from tunesmith.modeling.locate import GGUF_SUFFIX, TOKENIZER_FILES, is_file_or_folder, locate_base, resolve_base
from tunesmith.section import NOT_IN_KEY, Section, refuse_at
from tunesmith.store.keys import compute_key, file_sha256

log = logging.getLogger(__name__)

ALL_LINEAR = "all-linear"
"""All linear layers but the output layer."""

Quantization = Literal["nf4"]
"""How the weights of a base model are stored while an adapter is trained on them."""

_VOCABULARY_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
_BYTE_TOKENIZERS = frozenset({"ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer"})
"""Tokenizers of bytes or characters, which have no vocabulary file."""
PACK_MULTIPLE = 32
"""A pack is filled up to a multiple of so many tokens: a product of matrices is prepared for its shape, and few shapes
come again and again."""

POSITIONS_AFTER_PADDING = frozenset({"roberta", "xlm-roberta", "camembert", "roberta-prelayernorm", "xmod", "mpnet"})
"""Model types that number positions from the padding id plus one, and so take that many tokens fewer."""
_POSITION_FIELDS = ("max_position_embeddings", "n_positions", "max_seq_len")
_NO_LIMIT = 1_000_000
"""transformers writes 1e30 for a tokenizer without a limit."""


def _check_targets(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    if not value or (not isinstance(value, str) and "" in value):
        raise ValueError("names no layer: write all-linear, a list of names, or a regular expression")
    if isinstance(value, str):
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"is no regular expression ({error}); or write a list of names of linear layers") from None
    return value


class LoraConfig(Section):
    """Train a low-rank adapter, and leave the base model as it is."""

    r: int = Field(8, ge=1)
    """Rank of the adapter: more can learn more, and takes more memory."""
    lora_alpha: int = Field(16, ge=1)
    """Scale of the adapter; its update is multiplied by lora_alpha / r."""
    use_rslora: bool = False
    """Multiply the update by lora_alpha / sqrt(r): at a high rank it learns as fast as at a low one."""
    use_dora: bool = False
    """DoRA: learn the norm of each weight's rows apart from their direction; learns more per rank, and takes longer."""
    lora_dropout: float = Field(0.0, ge=0.0, lt=1.0)
    """Fraction of the adapter's inputs that are dropped in training."""
    target_modules: Annotated[str | tuple[str, ...], AfterValidator(_check_targets)] = ALL_LINEAR
    """The layers that get an adapter: `all-linear`, names such as `[q_proj, v_proj]`, or a regular expression for whole
    names, such as `.*layer\\.[0-3]\\..*(query|value)`."""


class ModelConfig(Section):
    """The base model, and whether all of it is trained or an adapter. Its content, not its name, is in the keys."""

    base: Annotated[str, AfterValidator(resolve_base), NOT_IN_KEY]
    """`./folder` beside the recipe, `package:<import name>/<folder>` in an installed Python package, or a Hub id; for
    the first two also a .gguf file, which is converted once."""
    revision: Annotated[str | None, NOT_IN_KEY] = None
    """Branch, tag or commit of a Hub id; by default its main branch."""
    lora: LoraConfig | None = None
    """The adapter to train; without it, every weight is trained."""
    start: Annotated[Literal["base", "champion"], NOT_IN_KEY] = "base"
    """What training begins from: the base model, or the registered champion, once there is one."""
    replay_fraction: Annotated[float, Field(ge=0, le=1), NOT_IN_KEY] = 1.0
    """With `start: champion`, the share of the rows that it was trained on that are trained on again; the row decides
    whether it is among them. Rows that are new to it always are."""
    quantization: Quantization | None = None
    """QLoRA: train the adapter on the base model in 4 bits. Takes an eighth of its memory, and longer."""
    cache: Annotated[str, NOT_IN_KEY] = ""
    """For a .gguf file, this machine's folder for what it is converted to; by default in TUNESMITH_HOME."""

    @model_validator(mode="after")
    def _check_revision(self) -> Self:
        if self.revision is not None and is_file_or_folder(self.base):
            raise ValueError(f"revision {self.revision!r} has no effect: {self.base!r} is not a Hub id; remove it")
        return self

    @model_validator(mode="after")
    def _check_replay(self) -> Self:
        if self.replay_fraction != 1 and self.start != "champion":
            raise ValueError(
                f"replay_fraction {self.replay_fraction:g} has no effect on training from the base model, to which all "
                "rows are new; remove it, or set start: champion"
            )
        return self

    @model_validator(mode="after")
    def _check_cache(self) -> Self:
        if self.cache and not self.is_gguf:
            refuse_at(type(self), {"cache": "has no effect on a base that is no .gguf file; remove it"})
        return self

    @model_validator(mode="after")
    def _check_quantization(self) -> Self:
        if self.quantization is not None and self.lora is None:
            text = "is for an adapter: weights in 4 bits cannot be trained. Add model.lora, or remove it"
            refuse_at(type(self), {"quantization": f"{self.quantization} {text}"})
        if self.quantization is not None and self.start == "champion":
            text = "does not go with start: champion, whose weights are merged in full precision; remove one of them"
            refuse_at(type(self), {"quantization": text})
        return self

    @property
    def is_gguf(self) -> bool:
        """Whether the base model is a GGUF file."""
        return is_file_or_folder(self.base) and self.base.endswith(GGUF_SUFFIX)

    def located(self, folder: Path, home_bases: str) -> ModelConfig:
        """This configuration with everything filled in.

        Args:
            folder: What a relative cache is relative to.
            home_bases: The folder for converted base models in TUNESMITH_HOME.
        """
        if not self.is_gguf:
            return self
        cache = str((folder / self.cache).absolute()) if self.cache else home_bases
        return self.model_copy(update={"cache": cache})


def adapter_libraries(config: ModelConfig) -> tuple[str, ...]:
    """The distributions whose version shapes an adapter, and what comes of merging it."""
    peft = () if config.lora is None else ("peft",)
    return peft if config.quantization is None else (*peft, "bitsandbytes")


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
        return compute_key({**self.tokenizer, **_hash(self.weights)})

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
    settings = read_json(folder / "config.json") if (folder / "config.json").is_file() else None
    weights = find_weights(folder)
    if settings is None:
        raise ModelError(f"{folder}: there is no config.json, so this is not a model that transformers saved.")
    check_tokenizer_files(folder)
    return Base(
        folder=folder,
        tokenizer=_hash([folder / "config.json", *_matching(folder, TOKENIZER_FILES)]),
        weights=(*weights, *_matching(folder, ("generation_config.json",))),
        max_length=_find_max_length(folder, settings),
        vocab_size=settings.get("vocab_size"),
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


def _matching(folder: Path, patterns: Iterable[str]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def _hash(paths: Iterable[Path]) -> dict[str, str]:
    return {path.name: _hash_unchanged(path, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(paths)}


@lru_cache(maxsize=256)
def _hash_unchanged(path: Path, _size_bytes: int, _mtime_ns: int) -> str:
    # Four stages ask for the digest of one base, and 90 MB take 0.3 s.
    return file_sha256(path)
