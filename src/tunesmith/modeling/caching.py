"""The keys and values that a language model keeps for the next token: of no use while it is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tunesmith.kinds.protocol import AnyModel


@contextmanager
def without_cache(model: AnyModel) -> Iterator[None]:
    """Let a model keep no keys and values, and put its own setting back, whatever else has changed it meanwhile.

    transformers' Trainer turns it off for good: the trained model would be saved so, and generate slowly.
    """
    # Two of a model that sees pictures, too; of one that never keeps any, none has the setting.
    settings = [vars(config) for config in (model.config, model.config.get_text_config())]
    own = [dict(values) for values in settings]
    for values in settings:
        if "use_cache" in values:
            values["use_cache"] = False
    try:
        yield
    finally:
        for values, before in zip(settings, own, strict=True):
            values.pop("use_cache", None)
            if "use_cache" in before:
                values["use_cache"] = before["use_cache"]
