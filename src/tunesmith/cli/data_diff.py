"""`tunesmith data diff`: what came, went or changed between two snapshots."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from tunesmith.cli.data_show import as_json, head_lines, list_rows
from tunesmith.cli.output import Output, json_option, pass_output
from tunesmith.cli.snapshot_argument import PREVIOUS, open_place, place_options, rows_option
from tunesmith.errors import CallError

if TYPE_CHECKING:
    from tunesmith.data.difference import Columns, Difference, Side
    from tunesmith.data.versions import Version


@click.command(short_help="Which rows came, went or changed between two snapshots.")
@click.argument("before", metavar="A")
@click.argument("now", metavar="B", default=PREVIOUS)
@place_options
@click.option("--key", metavar="A,B", help="The columns that make two rows versions of one; by default the inputs.")
@rows_option
@json_option
@pass_output
def command(
    output: Output,
    before: str,
    now: str,
    overrides: tuple[str, ...],
    store: str | None,
    key: str | None,
    num_rows: int,
) -> None:
    """Say which rows came, went or changed from A to B.

    Each is a recipe's file, 6 or more digits of a snapshot's key, or `previous`: the snapshot before the recipe's, and
    always the side from which things changed. `diff RECIPE` is short for `diff previous RECIPE`.

    A row changed where the two snapshots have equal values in the key columns and other values elsewhere. The key
    columns are by default those that the model reads. Equal rows count as often as they occur.
    """
    from tunesmith.data.difference import Side, compare, compare_columns
    from tunesmith.data.verified import Verified

    if now == PREVIOUS:
        before, now = now, before
    places = open_place([before, now], overrides, store)
    versions = [place.find(name) for place, name in zip(places, (before, now), strict=True)]
    files = [Verified(version.ref) for version in versions]
    old, new = (Side(opened.rows(), opened) for opened in files)
    columns = compare_columns(old.rows, new.rows)
    if not columns.common:
        raise CallError(f"{versions[0].describe()} and {versions[1].describe()} have no column in common.")
    chosen, why = _choose_key(key, columns.common, old, versions)
    difference = compare(old, new, chosen, places[1].store.chunks, limit=num_rows)
    listed = _list_rows(difference, old, new)
    document = {
        "before": versions[0].as_json(),
        "now": versions[1].as_json(),
        "key": chosen,
        "columns": {"came": columns.came, "went": columns.went, "retyped": columns.retyped},
        "num_came": difference.num_came,
        "num_went": difference.num_went,
        "num_changed": difference.num_changed,
        "num_same": difference.num_same,
        "is_reordered": difference.is_reordered,
        **listed,
    }
    output.show(document, "" if output.is_json else _render(versions, chosen, why, difference, listed))


def _choose_key(
    asked: str | None, common: tuple[str, ...], old: Side, versions: list[Version]
) -> tuple[list[str], str]:
    """The key columns, and why it is these."""
    import pyarrow as pa

    from tunesmith.data.search import choose_columns
    from tunesmith.data.versions import find_columns

    if asked is not None:
        return choose_columns(asked, common), "as asked"
    inputs = dict.fromkeys(column for version in versions for column in find_columns(version)[0])
    if inputs and inputs.keys() <= set(common):
        return [*inputs], "what the model reads"
    texts = [name for name in common if pa.types.is_string(old.rows.schema.field(name).type)]
    return (texts, "all columns of text; --key chooses") if texts else ([*common], "all columns; --key chooses")


def _list_rows(difference: Difference, old: Side, new: Side) -> dict[str, Any]:
    came = new.files.take(new.rows, difference.came).to_pylist()
    went = old.files.take(old.rows, difference.went).to_pylist()
    before = old.files.take(old.rows, difference.changed[:, 0]).to_pylist()
    now = new.files.take(new.rows, difference.changed[:, 1]).to_pylist()
    common = difference.columns.common
    changed = []
    for (place, place_now), row, row_now in zip(difference.changed.tolist(), before, now, strict=True):
        values = {name: [as_json(row[name]), as_json(row_now[name])] for name in common if row[name] != row_now[name]}
        same = {name: as_json(row_now[name]) for name in common if name not in values}
        changed.append({"row_before": place + 1, "row_now": place_now + 1, "changed": values, "same": same})
    return {
        "came": list_rows(came, difference.came.tolist()),
        "went": list_rows(went, difference.went.tolist()),
        "changed": changed,
    }


def _render(versions: list[Version], key: list[str], why: str, difference: Difference, listed: dict[str, Any]) -> str:
    from tunesmith.cli.table import format_table

    lines = [
        [side if number == 0 else "", line]
        for side, version in zip(("before", "now"), versions, strict=True)
        for number, line in enumerate(head_lines(version))
    ]
    lines += [["key", f"{', '.join(key)} ({why})"], *_column_lines(difference.columns)]
    counts = [("came", difference.num_came), ("went", difference.num_went), ("changed", difference.num_changed)]
    rows = [[f"{count:,}", name] for name, count in [*counts, ("the same", difference.num_same)]]
    longest = max(len(count) for count, _ in rows)
    counted = "\n".join(f"{count.rjust(longest)} {name}" for count, name in rows)
    sections = [format_table(["", ""], lines).lstrip("\n"), counted]
    if difference.is_reordered:
        sections.append("both have the same rows, in another order")
    elif not any(count for _, count in counts):
        sections.append("both have the same rows")
    sections += [_render_list(name, count, listed[name], key) for name, count in counts if listed[name]]
    return "\n\n".join(sections)


def _column_lines(columns: Columns) -> list[list[str]]:
    lines = [
        ["came", f"column {', '.join(columns.came)}"] if columns.came else [],
        ["went", f"column {', '.join(columns.went)}"] if columns.went else [],
        *(["type", f"column {name}: {old} -> {new}"] for name, (old, new) in columns.retyped.items()),
    ]
    return [line for line in lines if line]


def _render_list(name: str, count: int, rows: list[dict[str, Any]], key: list[str]) -> str:
    from tunesmith.cli.cells import format_cells, terminal_width

    title = f"{name}, the first {len(rows):,} of {count:,}" if len(rows) < count else name
    if name == "changed":
        header, cells = ["row", "column", "before", "now", *key], list(_changed_cells(rows, key))
    else:
        header = ["row", *rows[0]["values"]]
        cells = [[f"{row['row']:,}", *row["values"].values()] for row in rows]
    return f"{title}\n{format_cells(header, cells, terminal_width())}"


def _changed_cells(rows: list[dict[str, Any]], key: list[str]) -> Iterator[list[Any]]:
    """A line a changed value; the row and its key stand on the first one."""
    for row in rows:
        place = f"{row['row_before']:,}" if row["row_before"] == row["row_now"] else ""
        place = place or f"{row['row_before']:,} -> {row['row_now']:,}"
        for number, (column, (old, new)) in enumerate(row["changed"].items()):
            names = [row["same"].get(name) for name in key]
            yield [place, column, old, new, *names] if number == 0 else ["", column, old, new, *([""] * len(key))]
