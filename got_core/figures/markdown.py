"""Text of models and users inside of markdown: shown as it is, never as markup.

Belongs here: escaping. Not here: tables and pictures.
"""

from __future__ import annotations

import re

_MARKUP = re.compile(r"[\\`*{}\[\]<>()#!|~&$^]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])")
"""What begins or ends code, emphasis, links, pictures, HTML, cells, entities or formulas anywhere."""
_LINE_START = re.compile(r"^(?:[+=:-]|\d{1,9}[.)](?= |$))")
"""What begins a list, a heading or a rule at the beginning of a line, beside what is escaped anywhere."""
_AUTOLINK = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?<=@)(?=\w)|(?<=mailto)(?=:)|(?<=xmpp)(?=:)", re.I)
"""Inside of what readers of markdown turn into links although no markup says so."""
_SPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
_NO_WIDTH = "\u200b"


def markdown_text(text: str, limit: int | None = None) -> str:
    """The text as one line of markdown that shows it literally: no link, picture, HTML or code comes of it.

    White space becomes single spaces. A text longer than `limit` characters is cut, with an ellipsis.
    """
    line = _SPACE.sub(" ", text).strip()
    if limit is not None and len(line) > limit:
        line = line[: max(0, limit - 1)].rstrip() + "…"
    line = _MARKUP.sub(lambda found: f"\\{found.group()}", line)
    line = _LINE_START.sub(lambda found: f"{found.group()[:-1]}\\{found.group()[-1]}", line)
    return _AUTOLINK.sub(_NO_WIDTH, line)
