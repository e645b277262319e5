"""The HTML report in a real browser that has no network."""

from __future__ import annotations

import pytest
from browser import open_browser

from told_story import tell_story
from tunesmith.report.html_page import render_html

pytestmark = pytest.mark.services

LONG = "A review that goes on_and_on_without_a_space_" + "abcdefghij" * 30
LABELS = tuple(f"a_label_with_a_long_name_{number}" for number in range(20))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    story = tell_story(folder, text=f"<script>console.error('ran')</script> {LONG}", labels=LABELS)
    path = folder / "report.html"
    path.write_text(render_html(story), encoding="utf-8")
    return path


@pytest.mark.parametrize("is_dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_report_opens_without_an_error_and_fits_the_screen(browser, page, width, is_dark):
    visit = browser.visit(page, width, is_dark=is_dark)
    assert visit.messages == []
    assert visit.requests == []
    assert visit.found["title"] == "reviews version 3: PROMOTE"
    assert visit.found["images"] == [True]
    assert len(visit.found["drawings"]) > 4
    assert min(visit.found["drawings"]) > 100
    assert (visit.found["innerWidth"], visit.found["scrollWidth"] <= width) == (width, True), visit.found
    assert visit.found["tallestRow"] < 100  # no number is broken over lines
    assert visit.screenshot.startswith(b"\x89PNG")


def test_the_browser_would_tell_of_an_error_a_request_a_lost_picture_and_a_page_that_is_too_wide(browser, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text(
        "<meta name=viewport content='width=device-width'><img src='https://example.org/a.png'>"
        "<div style='width:900px'>wide</div><script>console.error('told')</script>"
    )
    visit = browser.visit(page, 390)
    assert "told" in "".join(visit.messages)
    assert visit.requests == ["https://example.org/a.png"]
    assert visit.found["images"] == [False]
    assert visit.found["scrollWidth"] > 390
