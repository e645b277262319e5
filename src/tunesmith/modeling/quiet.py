"""The one place where the libraries are told to be quiet: what the user must know, Tunesmith says itself."""

from __future__ import annotations

import logging
import sys
import warnings


def quiet_libraries() -> None:
    """Keep log lines, warnings and progress bars of the Hugging Face libraries off the user's screen."""
    from huggingface_hub.utils import logging as hub_logging
    from huggingface_hub.utils.tqdm import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # has no types
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # has no types
    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # has no types
    disable_progress_bars()
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # At its import, which peft does for it, it misses a faster product for the CPU that would be fetched from the Hub.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # peft 0.21 still asks transformers 5 for its old name; to be removed with the next peft.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
    # Of experts that are fused, peft 0.21 looks for the name among the modules, and gives their weights that rank.
    warnings.filterwarnings("ignore", message="The following (rank|alpha)_pattern keys", category=RuntimeWarning)
    if "datasets" in sys.modules:
        _quiet_datasets()


def _quiet_datasets() -> None:
    import datasets

    datasets.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
