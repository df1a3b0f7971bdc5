"""Text of models in markdown comes out of a real markdown reader as the text, with nothing else."""

from __future__ import annotations

import html
import re

import pytest
from markdown_it import MarkdownIt

from got_core.figures.markdown import markdown_text

READER = MarkdownIt("gfm-like", {"html": True, "linkify": False})
BARE_LINK = re.compile(r"https?://\w|mailto:|www\.\w|\w@\w", re.I)
"""What GitHub's markdown makes links of in plain text, after all else was read."""
TEXTS = [
    "![x](http://evil.example/x.png)", "[a](javascript:alert(1))", "<img src=x onerror=alert(1)>", "a | b",
    "```\ncode\n```", "~~~ code", "    indented", "# heading", "1. one", "12) two", "- list", "+ list",
    "* list", "===", "---", "***", "> quote", "| a |\n|---|\n| b |", "&lt;b&gt; &#60;", "`code` ``more``",
    "a*b*c _d_ __e__ f_g_h",
    "~~gone~~", "[ref]: http://evil.example", "[ref]", "https://evil.example/a?b=c", "www.evil.example",
    "a@evil.example", "mailto:a@b.example", "<https://evil.example>", "\\[a\\](b)", "a\\", "$x$ $$y$$",
    "^[note]", "[^1]", "<!-- comment", "<script>alert(1)</script>", ":::note", "HTTP://EVIL.example",
    "![[x]]",
    "\u2028![x](y)", "\r![x](y)",
    "- [ ] task", "a  \nb", "x\x00y",
]  # fmt: skip


def visible(page: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", page)).replace("\u200b", "").strip()


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_shown_as_it_is(text: str) -> None:
    expected = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text).split())
    for prefix in ("", "word "):
        page = READER.render(prefix + markdown_text(text))
        assert set(re.findall(r"</?(\w+)", page)) == {"p"}, page
        assert visible(page) == f"{prefix}{expected}".strip()
        assert not BARE_LINK.search(html.unescape(page))
    table = READER.render(f"| a | b |\n|---|---|\n| {markdown_text(text)} | last |")
    assert set(re.findall(r"</?(\w+)", table)) == {"table", "thead", "tbody", "tr", "th", "td"}, table
    assert re.sub(r"\s+", " ", visible(table)).endswith(f"{expected} last")
    item = READER.render(f"- {markdown_text(text)}")
    assert set(re.findall(r"</?(\w+)", item)) == {"ul", "li"}, item


def test_long_texts_are_cut_before_they_are_escaped() -> None:
    assert markdown_text("[" * 50, 10) == "\\[" * 9 + "…"
    assert markdown_text("short", 10) == "short" and markdown_text("snake_case_name") == "snake_case_name"
