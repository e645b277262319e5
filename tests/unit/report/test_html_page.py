"""The HTML report: all sections, nothing from elsewhere, harmless and small whatever the rows hold."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from told_story import tell_story
from tunesmith.report.html_page import render_html

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'>{{ 7 * 7 }}</svg>"
MAX_BYTES = 2 * 10**6


class Tags(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def count(self, name: str) -> int:
        return sum(tag == name for tag, _ in self.found)


@pytest.fixture
def page(tmp_path) -> str:
    return render_html(tell_story(tmp_path))


def test_the_report_has_every_section_and_its_numbers(page):
    sections = re.findall(r'<section id="([a-z]+)"', page)
    assert sections == [
        "verdict", "metrics", "slices", "confusion", "reliability", "flips", "losses", "data", "training", "exports",
        "limits", "lineage",
    ]  # fmt: skip
    for text in (
        "0.7500",
        "0.7000 to 0.8000",
        "fewer than 20: says little",
        "ab" * 32,
        "git commit c0ffee",
        "models:/reviews/3",
    ):
        assert text in page
    assert "the champion (version 2)" in page


def test_a_flip_stands_with_its_text(tmp_path):
    story = tell_story(tmp_path)
    row = next(row for row in story.errors.flips.to_pylist() if row["change"] == "fixed")
    assert f"<bdi>{row['text']}</bdi>" in render_html(story)


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs(page):
    tags = Tags(page)
    assert tags.count("script") == 0
    for _, attributes in tags.found:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            link = attributes.get(name) or "#"
            assert link.startswith(("data:", "#")), link
    assert "default-src 'none'" in page
    assert "url(" not in page


def test_html_in_a_text_a_label_or_a_name_stays_text(tmp_path):
    plain, labels = render_html(tell_story(tmp_path / "plain")), ("bad", f"good {EVIL}", "mixed")
    story = tell_story(tmp_path / "evil", text=EVIL, labels=labels, name=EVIL, recipe_text=EVIL, git_commit=EVIL)
    page = render_html(story)
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "{{ 7 * 7 }}" in page
    assert Tags(page).count("img") == Tags(plain).count("img") == 1


def test_the_report_of_100_000_long_texts_and_many_labels_is_below_2_mb(tmp_path):
    labels = tuple(f"label {number} {'é' * 300}" for number in range(150))
    story = tell_story(tmp_path, num_rows=100_000, text="<&é" * 200, labels=labels, recipe_text="x" * 10**6)
    page = render_html(story)
    assert len(page.encode()) < MAX_BYTES
    assert "The 12 of 150 labels" in page


def test_a_training_of_many_steps_makes_no_large_picture(tmp_path):
    noise = np.random.default_rng(0).random(10**5).tolist()
    rows = [{"step": step, "epoch": step / 10**5, "metrics": {"train/loss": loss}} for step, loss in enumerate(noise)]
    assert len(render_html(tell_story(tmp_path, metric_rows=rows)).encode()) < MAX_BYTES
