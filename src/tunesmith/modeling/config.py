"""The recipe's section on the model: the base model, the adapter, and what training begins from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field

from tunesmith.modeling.locate import GGUF_SUFFIX, is_file_or_folder, resolve_base
from tunesmith.section import NOT_IN_KEY, Conflict, Section

ALL_LINEAR = "all-linear"
"""All linear layers but the output layer."""

Quantization = Literal["nf4"]
"""How the weights of a base model are stored while an adapter is trained on them."""


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

    @classmethod
    def find_conflicts(cls, values: Mapping[str, Any]) -> Iterable[Conflict]:
        """Options of the model that have no effect, or do not go with another."""
        base, start, quantization = values.get("base"), values.get("start", "base"), values.get("quantization")
        if isinstance(base, str) and values.get("revision") is not None and is_file_or_folder(base):
            yield ("revision",), "has no effect: the base is not a Hub id; remove it"
        if isinstance(base, str) and values.get("cache") and not _is_gguf(base):
            yield ("cache",), "has no effect on a base that is no .gguf file; remove it"
        replay = values.get("replay_fraction", 1)
        if isinstance(replay, (int, float)) and replay != 1 and start == "base":
            text = "has no effect on training from the base model, to which all rows are new; remove it, or set start:"
            yield ("replay_fraction",), f"{replay:g} {text} champion"
        if quantization not in get_args(Quantization):
            return
        if values.get("lora") is None:
            text = "is for an adapter: weights in 4 bits cannot be trained. Add model.lora, or remove it"
            yield ("quantization",), f"{quantization} {text}"
        if start == "champion":
            text = "does not go with start: champion, whose weights are merged in full precision; remove one of them"
            yield ("quantization",), text

    @property
    def is_gguf(self) -> bool:
        """Whether the base model is a GGUF file."""
        return _is_gguf(self.base)

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


def _is_gguf(base: str) -> bool:
    return is_file_or_folder(base) and base.endswith(GGUF_SUFFIX)


def adapter_libraries(config: ModelConfig) -> tuple[str, ...]:
    """The distributions whose version shapes an adapter, and what comes of merging it."""
    peft = () if config.lora is None else ("peft",)
    return peft if config.quantization is None else (*peft, "bitsandbytes")
