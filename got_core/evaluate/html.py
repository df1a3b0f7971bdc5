"""Pieces of the pages about scores.

Belongs here: one look for all of them, and the policy by which they load nothing. Not here: what stands in
them (`report`, `comparison_page`).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; color: #222
} h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.2rem } table { border-collapse: collapse;
margin: .8rem 0 } caption { text-align: left; font-weight: 600 } th, td { padding: .25rem .8rem;
border-bottom: 1px solid #ddd; text-align: left; vertical-align: top } td.number { text-align: right;
font-variant-numeric: tabular-nums } .bar { background: #e8eef4; width: 12rem; height: .8rem; position:
relative } .bar span { background: #3a78b5; height: 100%; position: absolute; left: 0 } .bar i { background:
#1b2a38; height: 100%; width: 2px; position: absolute } .note { color: #555; max-width: 46rem } .warning {
color: #a4282a; font-weight: 600 } img { max-width: 100% } pre { background: #f5f5f5; padding: .8rem;
overflow-x: auto; font-size: .85rem } .split { display: flex; width: 24rem; height: 1.1rem } .split span {
height: 100% } .right { background: #268a4a } .planned { background: #d9822b } .drawn { background: #c4302b }
.trace { background: #8d63a8 } .none { background: #222 }
.key { display: inline-block; width: .8rem; height: .8rem; margin: 0 .3rem 0 1rem }
small { color: #555; display: block; white-space: nowrap } .beside td.number { white-space: nowrap }
.beside td:last-child { min-width: 12rem; font-size: .85rem }
tr.over th { padding-top: .8rem; color: #a4282a; font-weight: 600; max-width: 60rem }
tr.foreign td { color: #777; font-style: italic } figure.plot { margin: .8rem 0 } figure.plot svg { max-width:
100%; height: auto } summary { cursor: pointer } .scroll { overflow-x: auto }
"""


def page(title: str, body: Iterable[str], *, script: str = "", style: str = "") -> str:
    """A whole page with nothing outside of it; `body` is HTML.

    Its own policy forbids every request, and every script but this one: neither a picture by address nor a
    script that came in with somebody's text would do anything.
    """
    head = (
        f"<meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_policy(script))}">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style>"
    )
    end = f"<script>{script}</script>" if script else ""
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(body)}{end}</body></html>\n"


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    scripts = f"'sha256-{digest}'" if script else "'none'"
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {scripts}; "
        "base-uri 'none'; form-action 'none'"
    )


def table(caption: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table of texts."""
    body = "".join(row(one) for one in rows)
    return f"<table><caption>{escape(caption)}</caption>{row(header, 'th')}{body}</table>"


def row(cells: Iterable[Any], tag: str = "td") -> str:
    """A row of texts; None is an empty cell."""
    texts = ("" if cell is None else escape(str(cell)) for cell in cells)
    return "<tr>" + "".join(f"<{tag}>{text}</{tag}>" for text in texts) + "</tr>"
