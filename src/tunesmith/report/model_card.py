"""The model card of a version: README.md with Hugging Face's metadata, and what a user of the model asks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tunesmith.report.calibration import describe_calibration
from tunesmith.report.markdown import escape_text, render_table
from tunesmith.report.story import Story, describe_lineage, describe_rows, describe_training, find_limits

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

MAX_SLICES = 60
MAX_RECIPE = 20_000


def render_card(story: Story) -> str:
    """The card: YAML that the Hub reads, and markdown."""
    from huggingface_hub import ModelCard

    sections = [
        f"# {escape_text(story.name)}",
        _verdict(story),
        _table("Data", describe_rows(story)),
        _metrics(story),
        _slices(story),
        _calibration(story),
        _table("Training", describe_training(story)),
        _recipe(story),
        "\n".join(["## Limits", "", *(f"- {escape_text(limit)}" for limit in find_limits(story))]),
        _table("Lineage", describe_lineage(story)),
    ]
    body = "\n\n".join(filter(None, sections))
    # Read again by its own parser: what the Hub would refuse is noticed here.
    return str(ModelCard(f"---\n{build_metadata(story).to_yaml()}\n---\n\n{body}\n"))


def build_metadata(story: Story) -> ModelCardData:
    """The card's metadata, with the test metrics as a model index."""
    from huggingface_hub import EvalResult, ModelCardData

    facts, kind = story.report.facts, story.decided.examples.kind
    results = [
        EvalResult(
            task_type=kind,
            dataset_type=_slug(story.name),
            dataset_name=story.name,
            dataset_split="test",
            dataset_revision=str(story.snapshot.facts["digest"]),
            metric_type=name,
            metric_name=name.replace("_", " "),
            metric_value=float(value),
        )
        for name, value in facts["metrics"].items()
    ]
    return ModelCardData(
        library_name="transformers" if story.is_whole else "peft",
        pipeline_tag=kind,
        base_model=story.hub_base,
        tags=["tunesmith", kind],
        metrics=[*facts["metrics"]],
        model_name=str(story.version["model_name"]),
        eval_results=results,
    )


def _verdict(story: Story) -> str:
    version, decided = story.version, story.decided
    name = f"{escape_text(version['model_name'])} version **{version['version']}**"
    return "\n".join([f"**{decided.verdict}**: {name}", "", *(f"- {escape_text(why)}" for why in decided.reasons)])


def _metrics(story: Story) -> str:
    facts = story.report.facts
    intervals, baseline = facts.get("intervals", {}), facts["baseline"]["metrics"]
    rows = [
        (name, f"{value:.4f}", _interval(intervals.get(name)), f"{baseline[name]:.4f}" if name in baseline else "")
        for name, value in facts["metrics"].items()
    ]
    header = ("metric", "value", "95 % interval", f"baseline: {escape_text(facts['baseline']['name'])}")
    note = f"The verdict rests on {facts['primary_metric']}."
    return f"## Metrics on {facts['num_examples']:,} test examples\n\n{render_table(header, rows)}\n\n{note}"


def _slices(story: Story) -> str:
    metric, slices = story.report.facts["primary_metric"], story.report.facts.get("slices", ())
    rows = [
        (
            escape_text(part["name"]),
            f"{part['num_examples']:,}",
            f"{part['metrics'][metric]:.4f}" if metric in part["metrics"] else "not defined",
            _interval(part["intervals"].get(metric)),
        )
        for part in slices[:MAX_SLICES]
    ]
    return f"## Slices\n\n{render_table(('slice', 'examples', metric, '95 % interval'), rows)}" if rows else ""


def _calibration(story: Story) -> str:
    found = story.errors.reliability
    if found is None:
        return ""
    rows = [
        (f"{item.low:.2f} to {item.high:.2f}", f"{item.count:,}", f"{item.confidence:.3f}", f"{item.accuracy:.3f}")
        for item in found.bins
    ]
    text = f"Expected calibration error {found.expected_calibration_error:.4f}."
    temperature = describe_calibration(story.report.facts.get("calibration"))
    if temperature is not None:
        text += f" Calibration: {temperature}."
    return f"## Calibration\n\n{text}\n\n{render_table(('confidence', 'examples', 'mean', 'accuracy'), rows)}"


def _recipe(story: Story) -> str:
    text = story.recipe_text[:MAX_RECIPE].rstrip()
    fence = "`" * (3 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    command = f"\n\nRun again with: `{story.command}`" if story.command else ""
    return f"## Recipe\n\n{fence}yaml\n{text}\n{fence}{command}"


def _table(title: str, rows: list[tuple[str, str]]) -> str:
    cells = [(escape_text(name), escape_text(value)) for name, value in rows]
    return f"## {title}\n\n{render_table(('', ''), cells)}"


def _interval(interval: Mapping[str, Any] | None) -> str:
    return "" if interval is None else f"{interval['low']:.4f} to {interval['high']:.4f}"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "data"
