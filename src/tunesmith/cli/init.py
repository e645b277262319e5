"""`tunesmith init`: a commented recipe that runs, with the sample data and the model that it needs."""

from __future__ import annotations

import re
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

import click

from tunesmith.cli.output import Output, json_option, pass_output
from tunesmith.errors import CallError
from tunesmith.recipe_schema import find_nearest

TEMPLATES = Path(__file__).resolve().parent.parent / "kinds" / "templates"
"""One folder a kind: its recipe, and beside it the sample data that the recipe names."""
RECIPE = "recipe.yaml"
SAMPLE_MODEL = "sample-model"
DEMO_PACKAGE = re.compile(r"^ *base: *package:(?P<package>\w+)", re.MULTILINE)


def list_kinds() -> list[str]:
    """The kinds of task that there is a recipe to start from for."""
    return sorted(folder.name for folder in TEMPLATES.iterdir() if (folder / RECIPE).is_file())


@click.command()
@click.argument("kind")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), default=RECIPE)
@json_option
@pass_output
def command(output: Output, kind: str, file: Path) -> None:
    """Write a commented recipe for KIND to FILE (recipe.yaml), and beside it the sample data that it runs on.

    KIND is text-classification or text-generation.

    Nothing is overwritten: a FILE that is there is refused, and sample data or a model that is there is kept.
    """
    written = write_recipe(kind, file)
    advice = _advise_on_model(file)
    lines = [f"wrote {path}" for path in written]
    lines += [advice] if advice else []
    lines += ["", f"Next: tunesmith plan {file}", f"      tunesmith run {file}"]
    output.show({"kind": kind, "recipe": file, "written": written, "advice": advice}, "\n".join(lines))


def write_recipe(kind: str, file: Path) -> list[Path]:
    """Write a kind's recipe, and what it names unless that is there.

    Args:
        kind: One of `list_kinds()`.
        file: Where the recipe goes; its folder is made.

    Returns:
        What was written: files, and the folder of a sample model.

    Raises:
        CallError: There is no such kind, `file` is there already, or its folder cannot be written.
    """
    if kind not in list_kinds():
        nearest = find_nearest(kind, list_kinds())
        hint = "" if nearest is None else f"; did you mean {nearest!r}?"
        raise CallError(f"there is no kind {kind!r}; there are {', '.join(list_kinds())}{hint}")
    template = TEMPLATES / kind
    recipe = (template / RECIPE).read_text("utf-8")
    if file.exists():
        raise CallError(f"{file} is there already; nothing was written. Give another FILE, or move that one away.")
    try:
        written = _copy_samples(template, file.parent)
        if f"./{SAMPLE_MODEL}" in recipe and not (file.parent / SAMPLE_MODEL).exists():
            written.append(_make_model(template, file.parent / SAMPLE_MODEL))
        # Last, so that an interrupted command can be given again.
        with file.open("x", encoding="utf-8") as target:
            target.write(recipe)
    except OSError as error:
        raise CallError(f"{error.filename or file}: cannot be written: {error.strerror}") from error
    return [file, *written]


def _copy_samples(template: Path, folder: Path) -> list[Path]:
    written = []
    for sample in sorted(template.rglob("*")):
        target = folder / sample.relative_to(template)
        if sample.is_file() and sample != template / RECIPE and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(sample, target)
            written.append(target)
    return written


def _make_model(template: Path, folder: Path) -> Path:
    from tunesmith.samples.tiny_llama import make_tiny_llama

    texts = [line for sample in sorted(template.rglob("*.txt")) for line in sample.read_text("utf-8").splitlines()]
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as aside:
        make_tiny_llama(Path(aside) / folder.name, texts)
        (Path(aside) / folder.name).rename(folder)
    return folder


def _advise_on_model(file: Path) -> str:
    match = DEMO_PACKAGE.search(file.read_text("utf-8"))
    if match is None or find_spec(match["package"]) is not None:
        return ""
    return f"The recipe's base model is in the package {match['package']}: pip install 'tunesmith[demo]'"
