"""The files that tell of a candidate: the HTML report, the model card and the error tables."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from tunesmith.data.chunked import ChunkedRows
from tunesmith.evaluation.decide import OURS, THEIRS
from tunesmith.evaluation.error_analysis import ErrorTables, analyze_errors
from tunesmith.evaluation.gate import Decision
from tunesmith.report.html_page import render_html
from tunesmith.report.model_card import render_card
from tunesmith.report.story import Story
from tunesmith.store.ref import Ref

REPORT_FILE, CARD_FILE, ERRORS_FOLDER = "report.html", "README.md", "errors"


def analyze_decision(decision: Ref, splits: Ref) -> ErrorTables:
    """Where the candidate of a decision is wrong, and what has flipped against its opponent, if it has one."""
    case = Decision.read(decision.facts)
    theirs = decision.folder / THEIRS
    other = pq.read_table(theirs) if case.opponent is not None and theirs.is_file() else None
    rows = ChunkedRows.open(splits.folder, "test")
    return analyze_errors(pq.read_table(decision.folder / OURS), other, case.examples, case.labels, rows)


def write_report(folder: Path, story: Story) -> None:
    """Write report.html, README.md and the folder errors/."""
    (folder / REPORT_FILE).write_text(render_html(story), encoding="utf-8")
    (folder / CARD_FILE).write_text(render_card(story), encoding="utf-8")
    story.errors.write(folder / ERRORS_FOLDER)
