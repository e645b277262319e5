"""The recipe's section on exports: which formats, and how far each may be from the model that was judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import Field, field_validator

from tunesmith.section import Conflict, Section

SAFETENSORS: Final = "safetensors"
ADAPTER: Final = "adapter"
ONNX: Final = "onnx"
ONNX_INT8: Final = "onnx-int8"
Format = Literal["onnx", "onnx-int8"]

DISAGREEMENT_FRACTION = 0.02
"""What 8 bits may change unless the recipe says otherwise; a small encoder changes 0.3 to 0.6 %."""
NO_GGUF = (
    "no kept library writes GGUF files from a model of transformers (the package gguf alone writes none). Export "
    "safetensors, and call convert_hf_to_gguf.py of llama.cpp on the folder `model`"
)


class ExportConfig(Section):
    """How a candidate is exported: as safetensors, and where an adapter was trained, as that, too."""

    merged: bool = True
    """Whether an adapter is merged into its base model. If not, it is exported and registered alone, and the version
    names its base model by the sha256 of each file; that has to be at hand wherever the version is used."""

    formats: tuple[Format, ...] = ()
    """What is written besides: `onnx`, and `onnx-int8`, whose weights are integers of 8 bits."""
    max_logit_difference: Annotated[float, Field(ge=0, le=1)] = 1e-4
    """The largest allowed distance between a logit of the candidate and the same logit of an exported model, in any
    format but `onnx-int8`; where there are logits above 1, as a share of the largest."""
    max_disagreement_fraction: Annotated[float | None, Field(ge=0, le=1)] = None
    """The share of the test predictions that `onnx-int8` may make otherwise, by default 0.02. At 0 it must be equal in
    its logits, too, up to `max_logit_difference`."""

    @property
    def allowed_disagreement(self) -> float:
        """What `onnx-int8` may predict otherwise."""
        return DISAGREEMENT_FRACTION if self.max_disagreement_fraction is None else self.max_disagreement_fraction

    @field_validator("formats", mode="before")
    @classmethod
    def _check_formats(cls, formats: object) -> object:
        if isinstance(formats, (list, tuple)):
            if "gguf" in formats:
                raise ValueError(f"gguf: {NO_GGUF}")
            always = [name for name in (SAFETENSORS, ADAPTER, "merged") if name in formats]
            if always:
                raise ValueError(f"{always[0]} is written always; name only what is wanted besides: onnx, onnx-int8")
            twice = [name for number, name in enumerate(formats) if name in formats[:number]]
            if twice:
                raise ValueError(f"names {twice[0]!r} twice")
            return tuple(formats)
        return formats

    @classmethod
    def find_conflicts(cls, values: Mapping[str, Any]) -> Iterable[Conflict]:
        """Options of the export that have no effect, or do not go with another."""
        formats = values.get("formats", ())
        if not isinstance(formats, (list, tuple)) or any(name not in get_args(Format) for name in formats):
            return
        if values.get("merged") is False and formats:
            yield ("formats",), f"{formats[0]} is made of the merged model; remove it, or set merged: true"
        if values.get("max_disagreement_fraction") is not None and ONNX_INT8 not in formats:
            yield ("max_disagreement_fraction",), "has no effect without onnx-int8 in export.formats; remove it"
