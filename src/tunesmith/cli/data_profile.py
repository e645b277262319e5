"""`tunesmith data profile`: what the columns of a snapshot hold, and how far that has moved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunesmith.cli.data_show import head_lines
from tunesmith.cli.output import Output, json_option, pass_output
from tunesmith.cli.snapshot_argument import Place, open_place, snapshot_argument
from tunesmith.errors import CallError, DataError

if TYPE_CHECKING:
    from tunesmith.data.drift import DriftReport
    from tunesmith.data.profile import ColumnProfile, Profile
    from tunesmith.data.versions import Version

MAX_CLASSES = 15
"""Values of a column that have a line of their own; --json and --picture have more."""


@click.command(short_help="What the columns hold: nulls, classes, lengths; and drift.")
@snapshot_argument
@click.option("--against", metavar="PREVIOUS_OR_KEY", help="Compare with `previous`, or with a snapshot by its key.")
@click.option("--picture", type=click.Path(path_type=Path, dir_okay=False), help="Draw it, as .png; replaced if there.")
@json_option
@pass_output
def command(
    output: Output, named: str, overrides: tuple[str, ...], store: str | None, against: str | None, picture: Path | None
) -> None:
    """Tell what the columns of RECIPE_OR_SNAPSHOT hold: nulls, class balance, lengths; with --against, what moved.

    RECIPE_OR_SNAPSHOT is a recipe's file, or 6 or more digits of a snapshot's key.
    """
    from tunesmith.data.drift import compare_profiles

    if picture is not None:
        _check_picture(picture)
    names = [named] if against is None else [named, against]
    places = open_place(names, overrides, store)
    versions = [place.find(name) for place, name in zip(places, names, strict=True)]
    profiles = [_load(place, version) for place, version in zip(places, versions, strict=True)]
    labels, drift = _find_labels(versions[0]), None
    if against is not None:
        drift = compare_profiles(profiles[1], profiles[0], against=versions[1].describe(), labels=labels)
    if picture is not None:
        _draw(picture, profiles, versions, labels)
    document = {
        "snapshot": versions[0].as_json(),
        "profile": profiles[0].model_dump(mode="json"),
        "against": None if against is None else versions[1].as_json(),
        "drift": None if drift is None else drift.model_dump(mode="json"),
        "picture": picture,
    }
    output.show(document, "" if output.is_json else "\n\n".join(_render(versions[0], profiles[0], drift, picture)))


def _check_picture(picture: Path) -> None:
    if picture.suffix.lower() != ".png":
        raise CallError(f"--picture {picture}: pictures are written as .png; name it so.")
    if not picture.absolute().parent.is_dir():
        raise CallError(f"--picture {picture}: there is no folder {picture.parent}; make it first.")


def _load(place: Place, version: Version) -> Profile:
    from tunesmith.data.earlier import load_profile

    profile = load_profile(place.store, version.ref.key)
    if profile is None:
        raise DataError(
            f"{version.describe()} has no profile that can be read: it was made by another version of Tunesmith, or is "
            f"damaged ({version.ref.folder}). `tunesmith run` on its recipe makes it again."
        )
    return profile


def _find_labels(version: Version) -> tuple[str, ...]:
    """The columns that the model is to learn."""
    from tunesmith.data.versions import find_columns

    inputs, required = find_columns(version)
    return tuple(name for name in required if name not in inputs)


def _draw(target: Path, profiles: list[Profile], versions: list[Version], labels: tuple[str, ...]) -> None:
    import tempfile

    from tunesmith.data.earlier import Earlier
    from tunesmith.report.profile_page import ProfilePage, write_profile

    earlier = [Earlier(versions[1].describe(), versions[1].ref.key, profiles[1])] if len(profiles) > 1 else []
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as folder:
        write_profile(Path(folder), profiles[0], earlier, labels)
        page = ProfilePage.read(Path(folder))
    pictures = [] if page is None else [*page.pictures.values()]
    if not pictures:
        raise CallError(f"--picture {target}: there is nothing to draw: no classes, no texts, no nulls.")
    try:
        target.write_bytes(_stack(pictures))
    except OSError as error:
        raise CallError(f"--picture {target}: cannot be written: {error.strerror}.") from error


def _stack(pictures: list[bytes]) -> bytes:
    """PNGs below one another, as one."""
    import io

    from PIL import Image

    images = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
    whole = Image.new("RGB", (max(image.width for image in images), sum(image.height for image in images)), "white")
    top = 0
    for image in images:
        whole.paste(image, (0, top))
        top += image.height
    stacked = io.BytesIO()
    whole.save(stacked, format="png", optimize=True)
    return stacked.getvalue()


def _render(version: Version, profile: Profile, drift: DriftReport | None, picture: Path | None) -> Iterator[str]:
    from tunesmith.cli.cells import format_cells, terminal_width

    width = terminal_width()
    yield "\n".join([*head_lines(version), *_row_lines(profile)])
    columns = [
        [name, column.type, _share(column.num_nulls, profile.num_rows), _different(column)]
        for name, column in profile.columns.items()
    ]
    yield format_cells(["column", "type", "nulls", "different values"], columns, width)
    for name, column in profile.columns.items():
        if column.is_categorical:
            yield format_cells([name, "rows"], _class_rows(column), width)
    lengths = [
        row
        for name, column in profile.columns.items()
        if not column.is_categorical
        for row in _length_rows(name, column)
    ]
    if lengths:
        header = ["texts", "in", "shortest", "mean", "half up to", "95 % up to", "longest"]
        yield format_cells(header, lengths, width)
    numbers = [row for name, column in profile.columns.items() for row in _number_rows(name, column)]
    if numbers:
        yield format_cells(["numbers", "least", "mean", "half up to", "95 % up to", "greatest"], numbers, width)
    if drift is not None:
        yield from _render_drift(drift, width)
    if picture is not None:
        yield f"wrote {picture}"


def _row_lines(profile: Profile) -> Iterator[str]:
    if profile.num_duplicates is not None:
        yield f"{_share(profile.num_duplicates, profile.num_rows)} rows are equal to an earlier one"
    if profile.truncation is not None:
        cut = profile.truncation
        tokens = f"{_share(cut.num_tokens_lost, cut.num_tokens)} tokens"
        yield f"{_share(cut.num_lost, cut.num_rows)} encoded rows are too long, which cost {tokens}"


def _different(column: ColumnProfile) -> str:
    return "many" if column.values is None else f"{len(column.values):,}"


def _class_rows(column: ColumnProfile) -> list[list[str]]:
    values = [*(column.values or {}).items()]
    rows = [[value, _share(count, column.num_values)] for value, count in values[:MAX_CLASSES]]
    rest = values[MAX_CLASSES:]
    if rest:
        rows.append([f"({len(rest):,} more)", _share(sum(count for _, count in rest), column.num_values)])
    return rows


def _length_rows(name: str, column: ColumnProfile) -> Iterator[list[str]]:
    for unit, lengths in (("words", column.words), ("characters", column.characters)):
        if lengths is not None and lengths.num_texts:
            found = [lengths.quantile(0.5), lengths.quantile(0.95), lengths.longest]
            yield [name, unit, f"{lengths.shortest:,}", f"{lengths.mean:,.1f}", *(f"{number:,}" for number in found)]


def _number_rows(name: str, column: ColumnProfile) -> Iterator[list[str]]:
    numbers = column.numbers
    if numbers is not None and numbers.num_values:
        found = [numbers.least, numbers.mean, numbers.quantile(0.5), numbers.quantile(0.95), numbers.greatest]
        yield [name, *(f"{number:,.6g}" for number in found)]


def _render_drift(drift: DriftReport, width: int) -> Iterator[str]:
    from tunesmith.cli.cells import format_cells

    warnings = [f"- {warning}" for warning in drift.warnings] or ["nothing to warn of"]
    yield "\n".join([f"against {drift.against}", *warnings])
    measures = sorted(drift.measures, key=lambda measure: -measure.psi)
    rows = [[m.column or "(rows)", m.measure, m.before, m.now, f"{m.psi:.3f}", m.verdict] for m in measures]
    if rows:
        yield format_cells(["column", "measure", "before", "now", "PSI", "verdict"], rows, width)


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({part / max(whole, 1):.1%})" if part else "0"
