"""How encoding runs."""

from __future__ import annotations

from prefect import task

from tunesmith.features.encode import TokenizeConfig, derive_encode
from tunesmith.features.encode import encode as encode_splits
from tunesmith.kinds import Examples
from tunesmith.modeling.config import ModelConfig
from tunesmith.store.config import StoreConfig, open_store
from tunesmith.store.ref import Ref
from tunesmith.tasks.policy import ByContent


@task(cache_policy=ByContent(derive=derive_encode), result_serializer="json")
def encode(splits: Ref, examples: Examples, model: ModelConfig, tokenize: TokenizeConfig, store: StoreConfig) -> Ref:
    """Turn rows into token ids."""
    return encode_splits(splits, examples, model, tokenize, open_store(store))
