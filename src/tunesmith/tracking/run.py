"""The run of a candidate while it trains: rows are sent in the background, and training never waits for them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tunesmith.errors import TunesmithError
from tunesmith.tracking.candidate_run import Row, RowLog, find_running, open_run
from tunesmith.tracking.client import mlflow_client
from tunesmith.tracking.config import TrackingConfig
from tunesmith.tracking.record import RecipeRecord
from tunesmith.tracking.unrecorded import note_rows

log = logging.getLogger(__name__)

Status = Literal["FINISHED", "FAILED", "KILLED"]

UPLOAD_SECONDS = 2.0
"""Rows are collected for this long, then sent together."""
MAX_RETRY_SECONDS = 30.0
"""The longest pause between two attempts to reach a store that is away."""
FLUSH_SECONDS: dict[Status, float] = {"FINISHED": 10.0, "FAILED": 10.0, "KILLED": 4.0}
"""How long the end of training waits for the last rows; what is not sent by then, `register` sends.

A machine that goes away gives half a minute for everything.
"""


class LiveRun:
    """Watches a training and keeps the candidate's MLflow run up to date. It implements `training.observer.Observer`.

    A row that cannot be sent stays queued and is tried again. When training FINISHED, the run stays open for
    `register`, which makes the record whole and closes it; of rows that are still queued, a note is left.

    Args:
        tracking: Where MLflow is.
        record: The recipe.
        flow_run_id: The Prefect flow run that trains.
        notes: Where a note on rows that MLflow did not take is left.
    """

    def __init__(
        self,
        tracking: TrackingConfig,
        record: RecipeRecord,
        flow_run_id: str | None = None,
        notes: Path | None = None,
    ) -> None:
        self._tracking = tracking
        self._record = record
        self._flow_run_id = flow_run_id
        self._notes = notes
        self._candidate_key = ""
        self._queue: list[Row] = []
        self._queue_lock = threading.Lock()
        self._ended = threading.Event()
        self._status: Status = "FINISHED"
        self._uploader: threading.Thread | None = None
        self._run_id: str | None = None
        self._is_complete = False
        self._row_log: RowLog | None = None
        self._is_away = False

    def started(self, candidate_key: str, facts: Mapping[str, Any]) -> None:
        """Open the candidate's run, in the background."""
        self._candidate_key = candidate_key
        self._uploader = threading.Thread(target=self._keep_uploading, name="mlflow-uploader", daemon=True)
        self._uploader.start()

    def rows(self, rows: Sequence[Row]) -> None:
        """Queue rows; return at once."""
        with self._queue_lock:
            self._queue.extend(rows)

    def ended(self, status: Status) -> None:
        """Send what is queued, for at most `FLUSH_SECONDS`, and close the run unless training FINISHED."""
        self._status = status
        self._ended.set()
        if self._uploader is None:
            return
        seconds = FLUSH_SECONDS[status]
        self._uploader.join(seconds)
        if self._uploader.is_alive():
            log.warning("MLflow did not take the last rows within %.0f s; they are sent again later.", seconds)
        with self._queue_lock:
            num_waiting = len(self._queue)
        if num_waiting and status == "FINISHED" and self._notes is not None:
            note_rows(self._notes, self._record, self._tracking, self._candidate_key, num_waiting)

    def _keep_uploading(self) -> None:
        pause = 0.0
        while True:
            is_last = self._ended.wait(pause)
            try:
                self._upload()
                if is_last:
                    self._close()
                pause = UPLOAD_SECONDS
                self._note_answer()
            except Exception as error:  # whatever a server answers, this thread goes on until training ends
                pause = min(max(2 * pause, UPLOAD_SECONDS), MAX_RETRY_SECONDS)
                self._note_absence(error)
            if is_last:
                return

    def _upload(self) -> None:
        with self._queue_lock:
            waiting = list(self._queue)
        if self._row_log is not None and not waiting:
            return
        with mlflow_client(self._tracking) as client:
            if self._row_log is None:
                run = open_run(client, self._tracking, self._record, self._candidate_key, self._flow_run_id)
                self._run_id, self._is_complete = run.info.run_id, run.info.status == "FINISHED"
                self._row_log = RowLog(run)
            self._row_log.write(client, waiting)
        with self._queue_lock:
            del self._queue[: len(waiting)]

    def _close(self) -> None:
        if self._status == "FINISHED" or self._is_complete or self._run_id is None:
            return
        with mlflow_client(self._tracking) as client:
            client.set_terminated(self._run_id, status=self._status)

    def _note_absence(self, error: Exception) -> None:
        if not self._is_away:
            what = str(error) if isinstance(error, TunesmithError) else f"MLflow: {type(error).__name__}: {error}."
            log.warning("%s Training goes on; its rows are kept and sent when MLflow answers.", what)
        self._is_away = True

    def _note_answer(self) -> None:
        if self._is_away:
            log.info("MLflow answers again; the rows kept meanwhile are sent.")
        self._is_away = False


def close_runs(tracking: TrackingConfig, flow_run_id: str, status: Literal["FAILED", "KILLED"]) -> list[str]:
    """Close the runs that a flow run opened and left open, when it ended without registering.

    Returns:
        The ids of the runs that were closed.

    Raises:
        TunesmithError: MLflow cannot be reached.
    """
    if tracking.is_missing():
        return []
    with mlflow_client(tracking) as client:
        found = [run.info.run_id for run in find_running(client, tracking, flow_run_id)]
        for run_id in found:
            client.set_terminated(run_id, status=status)
    return found
