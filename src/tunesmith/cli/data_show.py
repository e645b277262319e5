"""`tunesmith data show`: rows as they are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from tunesmith.cli.output import Output, json_option, pass_output
from tunesmith.cli.snapshot_argument import Place, open_place, rows_option, snapshot_argument

if TYPE_CHECKING:
    from tunesmith.data.search import Found
    from tunesmith.data.versions import Version

SPLITS = ("train", "validation", "test")


@click.command(short_help="Show rows of a snapshot, or of one of its splits.")
@snapshot_argument
@click.option("--split", type=click.Choice(SPLITS), help="Rows of a split; by default of the whole snapshot.")
@rows_option
@click.option(
    "--where", "conditions", multiple=True, metavar="COLUMN=VALUE", help="Rows with this value; may be repeated."
)
@click.option("--columns", metavar="A,B", help="Columns to show; by default all.")
@json_option
@pass_output
def command(
    output: Output,
    named: str,
    overrides: tuple[str, ...],
    store: str | None,
    split: str | None,
    num_rows: int,
    conditions: tuple[str, ...],
    columns: str | None,
) -> None:
    """Show rows of RECIPE_OR_SNAPSHOT: a recipe's file, or 6 or more digits of a snapshot's key.

    Rows are numbered from 1, in the order of the snapshot or the split. Long texts are cut to the terminal's width;
    --json has them in full.
    """
    from tunesmith.data.search import choose_columns, find_rows
    from tunesmith.data.verified import Verified

    (place,) = open_place([named], overrides, store)
    snapshot = place.find(named)
    shown = snapshot if split is None else _find_split(place, snapshot)
    files = Verified(shown.ref)
    rows = files.rows() if split is None else files.rows(split)
    found = find_rows(rows, files, conditions, choose_columns(columns, rows.schema.names), limit=num_rows)
    document = {
        "snapshot": snapshot.as_json(),
        "split": None if split is None else {"name": split, **shown.as_json(), "num_rows": rows.num_rows},
        "columns": {field.name: str(field.type) for field in found.table.schema},
        "num_matching": found.num_matching,
        "rows": list_rows(found.table.to_pylist(), found.positions.tolist()),
    }
    output.show(document, _render(snapshot, shown, split, found, bool(conditions)) if not output.is_json else "")


def list_rows(rows: list[dict[str, Any]], positions: list[int]) -> list[dict[str, Any]]:
    """Rows as JSON has them, numbered from 1."""
    return [
        {"row": position + 1, "values": {name: as_json(value) for name, value in row.items()}}
        for position, row in zip(positions, rows, strict=True)
    ]


def as_json(value: Any) -> Any:
    """A value as JSON has it, which knows no infinity."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def head_lines(*versions: Version) -> list[str]:
    """What is looked at, and what is to be said of that."""
    return [line for version in versions for line in (version.describe(), version.note) if line]


def _find_split(place: Place, snapshot: Version) -> Version:
    from tunesmith.data.split import derive_split
    from tunesmith.data.versions import find_split

    recipe = place.recipe
    if recipe is None:
        return find_split(place.store, snapshot, None)
    derived = derive_split(snapshot.ref, recipe.split, recipe.examples, recipe.data.weights, place.store)
    return find_split(place.store, snapshot, derived)


def _render(snapshot: Version, shown: Version, split: str | None, found: Found, is_chosen: bool) -> str:
    from tunesmith.cli.cells import format_cells, terminal_width

    lines = head_lines(snapshot) if shown is snapshot else head_lines(snapshot, shown)
    rows = [
        [f"{position + 1:,}", *row.values()]
        for position, row in zip(found.positions.tolist(), found.table.to_pylist(), strict=True)
    ]
    table = format_cells(["row", *found.table.column_names], rows, terminal_width())
    return "\n\n".join(["\n".join(lines), *([table] if rows else []), _count(found, split, is_chosen)])


def _count(found: Found, split: str | None, is_chosen: bool) -> str:
    of = f" of {split}" if split is not None else ""
    shown, matching = found.table.num_rows, found.num_matching
    if matching is None:
        return f"the first {shown:,} rows{of} that match; there may be more"
    if shown < matching:
        return f"the first {shown:,} of {matching:,} rows{of}{' that match' if is_chosen else ''}"
    return f"{matching:,} {'row' if matching == 1 else 'rows'}{of}{' that match' if is_chosen else ''}"
