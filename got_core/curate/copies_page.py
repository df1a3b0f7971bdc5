"""The page of pictures that look like ones that were taken down, to be judged by a person.

Pictures that were taken down are not on it: it shows what is left of them, the colours of their grid.

Belongs here: rows to HTML. Not here: which rows (`copies`).
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import polars as pl
from PIL import Image

from got_core.corpus.decode import ImageError
from got_core.corpus.duplicates import GRID
from got_core.corpus.members import shown
from got_core.curate.copies import Readers, with_prints
from got_core.curate.gallery import figure
from got_core.curate.takedown_lists import COPIES_PAGE
from got_core.storage import Storage

MAX_SHOWN = 200
"""Pictures on the page; all of them are in the table."""
SIDE = 256
COMMAND = "got data takedown"

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
article { border-top: 1px solid #ccc; padding: 1rem 0; display: flex; gap: 1.5rem; flex-wrap: wrap }
figure { margin: 0 } figcaption { color: #555; font-size: .85rem } code { overflow-wrap: anywhere }
.words { flex: 1 1 24rem; min-width: 0 } .bad { color: #a4282a }
"""


def write_page(storage: Storage, copies: pl.DataFrame, reasons: Mapping[str, str], readers: Readers) -> None:
    """Write the page of these COPIES, or delete it where there are none. `reasons`: by request."""
    if copies.is_empty():
        storage.delete(COPIES_PAGE)
        return
    grids = with_prints(storage)
    cards = [
        _card(row, reasons.get(row["request"], ""), grids.get(row["original"]), readers)
        for row in copies.head(MAX_SHOWN).iter_rows(named=True)
    ]
    head = (
        "<meta charset='utf-8'><meta http-equiv='Content-Security-Policy' "
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f"<title>Copies of what was taken down</title><style>{_STYLE}</style>"
    )
    body = (
        f"<h1>{copies.height} pictures look like ones that were taken down</h1>"
        f"<p>They stay until somebody says what they are: <code>{COMMAND} confirm ID ...</code> for copies, "
        f"<code>{COMMAND} keep ID ...</code> for other pictures. The first {len(cards)} are shown.</p>"
    )
    page = f"<!doctype html><html lang='en'><head>{head}</head><body>{body}{''.join(cards)}</body></html>\n"
    storage.write_bytes(COPIES_PAGE, page.encode())


def _card(row: Mapping[str, Any], reason: str, grid: bytes | None, readers: Readers) -> str:
    color = "not known" if row["color"] < 0 else f"{row['color']} of 255 levels"
    left = _swatch(grid) if grid is not None else "a perceptual hash alone"
    return (
        f"<article>{figure('this picture', _thumbnail(row, readers))}{figure('colours of the other', left)}"
        f"<div class='words'><p><code>{escape(row['item_id'])}</code><br>{escape(shown(row['path']))}</p>"
        f"<p>looks like <code>{escape(row['original'] or row['request'])}</code>, taken down for "
        f"<code>{escape(row['request'])}</code> {escape(reason)}</p>"
        f"<p>differs in {row['distance']} of 64 bits of the hash; colours: {color}</p></div></article>"
    )


def _thumbnail(row: Mapping[str, Any], readers: Readers) -> Image.Image | str:
    if row["kind"] not in readers:
        return "nothing here opens it"
    try:
        picture = readers[row["kind"]](row["path"]).convert("RGB")
    except ImageError as error:
        return str(error)
    picture.thumbnail((SIDE, SIDE))
    return picture


def _swatch(grid: bytes) -> Image.Image:
    cells = Image.frombytes("RGB", (GRID, GRID), grid)
    return cells.resize((SIDE // 2, SIDE // 2), Image.Resampling.NEAREST)
