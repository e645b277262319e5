"""Callbacks of the user's own: classes beside the recipe that transformers' Trainer tells of each event.

They watch, and may end the training. When it saves, validates and writes rows is the recipe's matter.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from tunesmith.data.functions import FunctionOptions, LoadedFunction, function_digest, open_function
from tunesmith.errors import UserError

if TYPE_CHECKING:
    from transformers import TrainerCallback

LOGGED_AS = {
    "train/loss": "loss",
    "train/learning_rate": "learning_rate",
    "train/grad_norm": "grad_norm",
    "train/epoch_loss": "epoch_loss",
    "validation/loss": "eval_loss",
}
"""What callbacks that were written for the Trainer look for in its logs."""


def digest_callbacks(callbacks: Sequence[FunctionOptions]) -> list[list[str]]:
    """Each class and the sha256 of its source: part of the key of what is trained with it.

    Raises:
        DataError: There is no such module.
    """
    return [[options.path, function_digest(options)] for options in callbacks]


def check_callbacks(callbacks: Sequence[FunctionOptions]) -> None:
    """Refuse what would fail when the training has begun: import each class, and look at what it is.

    Raises:
        DataError: There is no such class, or its module cannot be imported.
        UserError: It is no callback, or cannot be made without arguments.
    """
    for options in callbacks:
        with open_function(options) as loaded:
            _check_class(options, loaded.call)


@contextmanager
def open_callbacks(callbacks: Sequence[FunctionOptions]) -> Iterator[list[TrainerCallback]]:
    """One of each class, while the block lasts.

    Raises:
        UserError: One of them raised; names it, with the line in its source.
    """
    with ExitStack() as stack:
        loaded = [(options, stack.enter_context(open_function(options))) for options in callbacks]
        made = [_make(options, one) for options, one in loaded]
        try:
            yield made
        except Exception as error:
            for (options, one), callback in zip(loaded, made, strict=True):
                if _has_raised(one, callback, error):
                    raise _tell(options, one, error) from error
            raise


def _make(options: FunctionOptions, loaded: LoadedFunction) -> TrainerCallback:
    call: Any = loaded.call
    _check_class(options, call)
    try:
        callback: TrainerCallback = call()
    except Exception as error:
        raise _tell(options, loaded, error) from error
    return callback


def _tell(options: FunctionOptions, loaded: LoadedFunction, error: Exception) -> UserError:
    told = loaded.source.describe(error)
    return UserError(f"train.callbacks: {options.path} raised {told}. Correct it, or take it out of the recipe.")


def _check_class(options: FunctionOptions, call: Any) -> None:
    from transformers import EarlyStoppingCallback, TrainerCallback

    if inspect.isclass(call) and issubclass(call, EarlyStoppingCallback):
        raise UserError(
            f"train.callbacks: {options.path} needs the Trainer to keep the best model, which is the recipe's matter "
            "here. Set train.early_stopping_patience instead."
        )
    if not (inspect.isclass(call) and issubclass(call, TrainerCallback)):
        raise UserError(
            f"train.callbacks: {options.path} is not derived from transformers.TrainerCallback. Name a class that is."
        )
    try:
        inspect.signature(call).bind()
    except TypeError as error:
        raise UserError(
            f"train.callbacks: {options.path} is made without arguments, but it needs some ({error}). Give it defaults."
        ) from None


def _has_raised(loaded: LoadedFunction, callback: TrainerCallback, error: Exception) -> bool:
    """Whether an error came through a callback: its class may be one of transformers', which the module imports."""
    files, traceback = {str(path) for path in loaded.source.modules.values()}, error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_code.co_filename in files or frame.f_locals.get("self") is callback:
            return True
        traceback = traceback.tb_next
    return False
