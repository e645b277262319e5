"""`tunesmith data quarantine`: the rows that the contract refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunesmith.cli.data_show import head_lines
from tunesmith.cli.output import Output, json_option, pass_output
from tunesmith.cli.snapshot_argument import Place, open_place, rows_option, snapshot_argument
from tunesmith.errors import CallError

if TYPE_CHECKING:
    from tunesmith.data.versions import Version

BATCH_ROWS = 10_000


@click.command(short_help="The rows that the contract refuses, with line and reasons.")
@snapshot_argument
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write all of them: .csv, .jsonl, .parquet."
)
@click.option("--overwrite", is_flag=True, help="Replace the file of --out if it exists.")
@rows_option
@json_option
@pass_output
def command(
    output: Output,
    named: str,
    overrides: tuple[str, ...],
    store: str | None,
    out: Path | None,
    overwrite: bool,
    num_rows: int,
) -> None:
    """List the rows of RECIPE_OR_SNAPSHOT that the contract refuses: reasons with counts first, then file and line.

    RECIPE_OR_SNAPSHOT is a recipe's file, or 6 or more digits of the key of a snapshot or a quarantine. Where the
    contract stopped a run there is no snapshot, and the recipe names the rows that stopped it. Of a recipe that
    streams, they are the rows that its newest training was refused; before there is one, those of the sample.
    """
    _check_target(out, overwrite)
    (place,) = open_place([named], overrides, store)
    found = _find(place, named)
    if found is None:
        output.show(
            {"quarantine": None, "num_rows": 0, "reasons": {}, "rows": [], "written": None},
            "no row is in quarantine" + (f"; {out} was not written" if out is not None else ""),
        )
        return
    rows = _read_rows(found, num_rows)
    if out is not None:
        _write_rows(found, out)
    reasons = dict(sorted(found.ref.facts["reasons"].items(), key=lambda item: (-item[1], item[0])))
    document = {
        "quarantine": found.as_json(),
        "num_rows": found.ref.facts["num_rows"],
        "reasons": reasons,
        "rows": [{**row, "reasons": row["reasons"].split("; "), "row": json.loads(row["row"])} for row in rows],
        "written": out,
    }
    output.show(document, _render(found, reasons, rows, out) if not output.is_json else "")


def _find(place: Place, named: str) -> Version | None:
    from tunesmith.data.versions import (
        QUARANTINE,
        find_by_key,
        find_quarantine,
        find_refused,
        find_refused_of_stream,
    )

    if place.recipe is not None:
        of_stream = None if place.recipe.data.streaming is None else find_refused_of_stream(place.store)
        if of_stream is not None:
            return of_stream
        try:
            version = place.now
        except CallError:
            refused = find_refused(place.store, None, place.file)
            if refused is None:
                raise
            return refused
        return find_refused(place.store, version, place.file)
    if any(request.key.startswith(named.lower()) for request in place.store.list_requests(QUARANTINE)):
        return find_by_key(place.store, named, QUARANTINE)
    return find_quarantine(place.store, place.find(named))


def _read_rows(found: Version, limit: int) -> list[dict[str, Any]]:
    from itertools import islice

    return list(islice((row for batch in _batches(found) for row in batch.to_pylist()), limit))


def _batches(found: Version) -> Any:
    import pyarrow.parquet as pq

    from tunesmith.data.quarantine import ROWS, STREAMED_ROWS
    from tunesmith.data.verified import Verified
    from tunesmith.data.versions import TRAIN

    name = STREAMED_ROWS if found.ref.kind == TRAIN else ROWS
    with pq.ParquetFile(Verified(found.ref).open(name)) as parquet:
        yield from parquet.iter_batches(BATCH_ROWS)


def _check_target(out: Path | None, overwrite: bool) -> None:
    from tunesmith.evaluation.writers import find_output_format

    if out is None:
        if overwrite:
            raise CallError("--overwrite has no effect without --out FILE.")
        return
    try:
        find_output_format(out)
    except CallError:
        raise CallError(f"--out {out}: rows are written as .csv, .jsonl (each also with .gz) or .parquet.") from None
    if out.exists() and not overwrite:
        raise CallError(f"--out {out}: it is there already; give another name, or --overwrite.")
    if not out.absolute().parent.is_dir():
        raise CallError(f"--out {out}: there is no folder {out.parent}; make it first.")


def _write_rows(found: Version, out: Path) -> None:
    import pyarrow as pa

    from tunesmith.evaluation.writers import open_writer

    try:
        with open_writer(out) as write:
            for batch in _batches(found):
                write(pa.Table.from_batches([batch]))
    except OSError as error:
        raise CallError(f"--out {out}: cannot be written: {error.strerror}.") from error


def _render(found: Version, reasons: dict[str, int], rows: list[dict[str, Any]], out: Path | None) -> str:
    from tunesmith.cli.cells import format_cells, terminal_width

    width, total = terminal_width(), found.ref.facts["num_rows"]
    sections = ["\n".join(head_lines(found))]
    sections.append(format_cells(["rows", "reason"], [[f"{n:,}", text] for text, n in reasons.items()], width))
    if rows:
        places = [[f"{row['file']}:{row['line']}", row["reasons"], row["row"]] for row in rows]
        sections.append(format_cells(["line", "reasons", "row"], places, width))
    if len(rows) < total:
        sections.append(f"the first {len(rows):,} of {total:,} rows")
    if out is not None:
        sections.append(f"wrote {total:,} {'row' if total == 1 else 'rows'} to {out}")
    return "\n\n".join(sections)
