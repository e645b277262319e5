"""Values on a markdown page, as a reader of markdown takes them."""

from __future__ import annotations

import html
import re

import pytest
from markdown_it import MarkdownIt

from tunesmith.report.markdown import escape_text, render_table

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
TEXTS = [
    "![x](https://example.com/seen.png)",
    "[here](https://example.com) and https://example.com/a_b_c",
    "<https://example.com> www.example.com",
    "*a* **b** _c_ __d__ ~~e~~ `f|g` f1_macro",
    r"a \| b \\ c \[d] \\|",
    "<img src=x onerror=alert(1)> &lt; &amp;",
    "one\rtwo\r\nthree\nfour\u2028five",
    "# no heading",
    "> no quotation",
    "- no list",
    "1. no list",
    "[x]: https://example.com",
]


def read(page: str, tag: str) -> str:
    """The text between tags, which must be the only ones."""
    (found,) = re.findall(f"<{tag}>\n?(.*?)\n?</{tag}>", READER.render(page), re.DOTALL)
    assert "<" not in found
    return html.unescape(found)


@pytest.mark.parametrize("text", TEXTS)
def test_a_value_is_text_on_a_page_whatever_it_holds(text: str) -> None:
    escaped, shown = escape_text(text), " ".join(text.split())
    assert read(render_table(["a"], [[escaped]]), "td") == shown
    assert read(escaped, "p") == shown
    assert read(f"- {escaped}", "li") == shown
    assert "://" not in escaped  # which GitHub's markdown makes a link of
    assert "www." not in escaped


def test_a_long_value_is_cut_before_its_marks_are_escaped() -> None:
    assert escape_text("*" * 10, limit=8) == r"\*" * 5 + "..."
