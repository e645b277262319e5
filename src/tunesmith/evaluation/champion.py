"""What the champion predicts for the rows that judge a candidate."""

from __future__ import annotations

import pyarrow as pa

from tunesmith.data.chunked import ChunkedRows
from tunesmith.evaluation.predictions import JudgedRows
from tunesmith.evaluation.scoring import score
from tunesmith.evaluation.served import find_served_model
from tunesmith.features.chunks import Encoding, ensure_features, plan_encoding
from tunesmith.features.files import map_features
from tunesmith.features.tokenizer_files import ensure_tokenizer
from tunesmith.kinds import find_kind
from tunesmith.kinds.labels import name_some
from tunesmith.modeling.base import open_base
from tunesmith.store.folder import FolderStore
from tunesmith.store.ref import Ref
from tunesmith.tracking.config import TrackingConfig
from tunesmith.tracking.registry import RegisteredVersion
from tunesmith.tracking.version_files import fetch_model


def find_obstacle(version: RegisteredVersion, rows: JudgedRows, labels: tuple[str, ...]) -> str | None:
    """Why a version cannot be compared with a candidate; None where it can.

    Args:
        version: The champion.
        rows: The rows that judge.
        labels: The candidate's label set.
    """
    if version.lineage is None or version.candidate_key is None:
        return "it was not registered by this version of Tunesmith"
    training = version.lineage.training
    if training.kind != rows.examples.kind:
        return f"it is for {training.kind}, the candidate for {rows.examples.kind}"
    if {*training.labels} != {*labels}:
        return f"it knows the labels {name_some(training.labels)}, the candidate {name_some(labels)}"
    return None


def predict_with(version: RegisteredVersion, rows: JudgedRows, store: FolderStore, tracking: TrackingConfig) -> Ref:
    """The predictions of a version that has no obstacle; computed where there are none for these rows yet.

    Args:
        version: The champion.
        rows: The rows that judge.
        store: Where predictions and the version's files are.
        tracking: Where its files are besides.

    Raises:
        ModelError: Its files are gone or damaged, in the store and in MLflow.
        TunesmithError: MLflow cannot be reached.
    """
    assert version.lineage is not None
    model, labels = str(version.candidate_key), version.lineage.training.labels
    return rows.predict(model, labels, lambda: _predict(version, rows, store, tracking), store)


def _predict(version: RegisteredVersion, rows: JudgedRows, store: FolderStore, tracking: TrackingConfig) -> pa.Table:
    assert version.lineage is not None
    with store.aside() as aside:
        folder = aside / "model"
        fetch_model(version, version.lineage, version.lineage.part, store, tracking, folder)
        place, served = find_served_model(folder)
        model = served.load(place)
        base = open_base(place, weights=())
        kind, tokenizer = find_kind(rows.examples), ensure_tokenizer(store.chunks, base, served.max_length)
        plan = plan_encoding(rows.examples, served.limit, base.tokenizer_digest, base.vocab_size)
        features = _encode(rows.open(), Encoding(plan, served.labels, tokenizer.load_encoder), store)
        title = f"evaluating the champion, version {version.version}"
        summary = score(model, features, kind, tokenizer.pad_token_id, batch_size=rows.batch_size, title=title)
        return kind.prediction_table(summary, features, served.labels)


def _encode(rows: ChunkedRows, encoding: Encoding, store: FolderStore) -> pa.Table:
    return pa.concat_tables(
        [map_features(ensure_features(store.chunks, encoding, chunk).path) for chunk in rows.chunks]
    )
