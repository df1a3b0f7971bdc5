"""The documentation as data: pages, their links, headings, code blocks and the names they mention.

Belongs here: reading Markdown. Not here: what the names have to be (`repository`), running code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = tuple(
    path.relative_to(ROOT).as_posix()
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "deployments").rglob("README.md")),
    )
)

_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[(?:[^\]]*)\]\((?P<target>[^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_HEADING = re.compile(r"^#{1,6} (?P<text>.+)$", re.MULTILINE)
_NOT_RUN = re.compile(r"<!-- not run: (?P<why>[^>]+?) -->\n$")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block."""

    page: str
    line: int
    """Of its first line of text, from 1."""
    language: str
    text: str
    not_run: str | None
    """Why it is not run, from a comment right before it."""


@cache
def text_of(page: str) -> str:
    """The page as it stands."""
    return (ROOT / page).read_text(encoding="utf-8")


@cache
def blocks(page: str) -> tuple[Block, ...]:
    """The page's fenced blocks, in order."""
    text, found = text_of(page), []
    for match in _FENCE.finditer(text):
        told = _NOT_RUN.search(text[: match.start()])
        found.append(
            Block(
                page=page,
                line=text.count("\n", 0, match.start("text")) + 1,
                language=match["language"],
                text=match["text"],
                not_run=told["why"] if told else None,
            )
        )
    return tuple(found)


@cache
def prose(page: str) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", text_of(page))


def links(page: str) -> list[str]:
    """Targets of links and images."""
    return [match["target"] for match in _LINK.finditer(_CODE.sub("``", prose(page)))]


def code_spans(page: str) -> list[str]:
    """Texts between single backticks."""
    return _CODE.findall(prose(page))


def anchors(page: str) -> set[str]:
    """Names that a link may have behind `#`, as GitHub makes them of headings."""
    return {_anchor(match["text"]) for match in _HEADING.finditer(prose(page))}


def _anchor(heading: str) -> str:
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def shell_lines(page: str) -> list[str]:
    """Commands of the page's shell blocks, continued lines joined, comments left out."""
    joined = (block.text.replace("\\\n", " ") for block in blocks(page) if block.language == "sh")
    lines = (line.strip() for text in joined for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]
