"""A page of random rows to review: pictures with boxes, the chain, the verdict of each rule.

One HTML file that needs nothing else: pictures are embedded, all text is escaped, and the page's own policy
lets it load nothing. Its form saves the verdicts that `review` reads.

Belongs here: rows to HTML. Not here: which rows are drawn and what verdicts do (`review`).
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import polars as pl
from PIL import Image

from got_core.chain.boxes import LIMIT
from got_core.chain.grammar import Chain, ChainError, PlacedBox, parse_tolerant
from got_core.chain.palette import rgb
from got_core.corpus.decode import ImageError
from got_core.figures.grids import with_boxes
from got_core.storage import Storage

SIDE = 512
"""Pixels of the longer side of an embedded picture, at most."""
SMALL = 256
"""A smaller one is enlarged by a whole number up to this, so that its boxes do not cover it."""
PAGE_FOLDERS = ("t2i_gallery", "edit_gallery")
"""Where pages are stored."""
Opener = Callable[[str], Image.Image]


@dataclass(frozen=True, kw_only=True)
class Card:
    """One row of the page."""

    chain_id: str
    kind: str
    item_id: str
    prompt: str
    chain: str
    accepted: bool
    rule: str | None = None
    """Rule named by the selection."""
    detail: str | None = None
    pictures: tuple[tuple[str, Image.Image | str], ...] = ()
    """Name of each picture, and the picture with its boxes or why there is none."""
    rules: tuple[tuple[str, str | None], ...] = ()
    """Each rule that was applied, with the reason where it rejects the row."""
    origin: str = ""
    """Source and licence."""
    notes: tuple[str, ...] = field(default=())


def make_cards(
    queue: pl.DataFrame,
    ingested: pl.DataFrame,
    open_image: Opener,
    rules: Sequence[str] = (),
    hits: pl.DataFrame | None = None,
    chains: pl.DataFrame | None = None,
) -> list[Card]:
    """Cards of a QUEUE, in its order. In place of a picture that cannot be opened stands the reason.

    `ingested`: RAW_IMAGES or EDIT_PAIRS of the shard; `rules`: those that were applied, in order; `hits`: a
    row per rejecting rule (columns chain_id, rule, detail), else only the first one is known;
    `chains`: for the notes of an edit's other wordings and a caption.
    """
    item = "pair_id" if "pair_id" in ingested.columns else "image_id"
    sources = {row[item]: row for row in ingested.iter_rows(named=True) if row["error"] is None}
    rejections = _rejections_by_chain(hits)
    more = {} if chains is None else {row["chain_id"]: row for row in chains.iter_rows(named=True)}
    return [
        _card(row, sources.get(row["item_id"]), open_image, rules, rejections, more.get(row["chain_id"], {}))
        for row in queue.iter_rows(named=True)
    ]


def gallery_page(cards: Sequence[Card], title: str, summary: Mapping[str, Any] | None = None) -> str:
    """The page as HTML. `summary`: figures shown at the top, by name."""
    figures = "".join(
        f"<tr><th>{escape(str(name))}</th><td>{escape(str(value))}</td></tr>"
        for name, value in (summary or {}).items()
    )
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    head = (
        "<meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
    )
    body = [f"<h1>{escape(title)}</h1>", f"<table>{figures}</table>" if figures else "", _FORM]
    body += [_card_html(card) for card in cards] or ["<p>No rows.</p>"]
    return (
        f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(body)}"
        f"<script>{_SCRIPT}</script></body></html>\n"
    )


def shown_ids(queue: pl.DataFrame, ingested: pl.DataFrame) -> list[str]:
    """Ids of all images and pairs that a page of the QUEUE shows, sorted."""
    item = "pair_id" if "pair_id" in ingested.columns else "image_id"
    names = [name for name in ("image_id", "pair_id", "source_id", "target_id") if name in ingested.columns]
    rows = ingested.filter(pl.col(item).is_in(queue["item_id"].implode())).select(names)
    return sorted({one for column in rows.get_columns() for one in column.drop_nulls()})


def delete_pages(storage: Storage, ids: Collection[str], shards: Collection[str] | None = None) -> list[str]:
    """Delete stored pages (of shards) that show one of the ids; `items` of the .json beside say so."""
    removed, deleted = set(ids), []
    for folder in PAGE_FOLDERS:
        names = [name for name in storage.list(f"{folder}/") if name.endswith(".json")]
        if shards is not None:
            names = [f"{folder}/{shard}.json" for shard in shards if f"{folder}/{shard}.json" in names]
        for name in names:
            if removed & set(storage.read_json(name).get("items", [])):
                page = name.removesuffix(".json") + ".html"
                storage.delete(page)
                storage.delete(name)
                deleted.append(page)
    return deleted


def _rejections_by_chain(hits: pl.DataFrame | None) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    if hits is not None:
        for chain_id, rule, detail in hits.select("chain_id", "rule", "detail").iter_rows():
            found.setdefault(chain_id, {})[rule] = detail or rule
    return found


def _card(
    row: Mapping[str, Any],
    source: Mapping[str, Any] | None,
    open_image: Opener,
    rules: Sequence[str],
    hits: Mapping[str, Mapping[str, str]],
    chain_row: Mapping[str, Any],
) -> Card:
    chain, dropped = parse_tolerant(row["chain"] or "")
    rejections = dict(hits.get(row["chain_id"], {}))
    if row["rule"] is not None:
        rejections.setdefault(row["rule"], row["detail"] or row["rule"])
    names = [*rules, *(name for name in rejections if name not in rules)]
    notes = [f"{one.reason} (at character {one.position})" for one in dropped]
    if chain_row.get("instructions"):
        notes += [f"also: {text}" for text in chain_row["instructions"] if text != row["prompt"]]
    licence = (source or {}).get("licence") or "not stated"
    return Card(
        **{name: row[name] for name in ("chain_id", "kind", "item_id", "accepted", "rule", "detail")},
        prompt=row["prompt"] or "",
        chain=row["chain"] or "",
        pictures=_pictures(row["kind"], source, chain, open_image),
        rules=tuple((name, rejections.get(name)) for name in names),
        origin=f"{(source or {}).get('source') or 'unknown'}, licence {licence}",
        notes=tuple(notes),
    )


def _pictures(
    kind: str, source: Mapping[str, Any] | None, chain: Chain, open_image: Opener
) -> tuple[tuple[str, Image.Image | str], ...]:
    if source is None:
        return (("image", "not among the good rows of the shard's table"),)
    paths = (
        [("source", source["source_path"]), ("target", source["target_path"])]
        if kind == "edit"
        else [("image", source["path"])]
    )
    return tuple((name, _opened(path, chain.boxes, open_image)) for name, path in paths)


def _opened(path: str, boxes: Sequence[PlacedBox], open_image: Opener) -> Image.Image | str:
    try:
        picture = open_image(path).convert("RGB")
    except ImageError as error:
        return str(error)
    picture.thumbnail((SIDE, SIDE))
    factor = max(1, SMALL // max(picture.size))
    picture = picture.resize((factor * picture.width, factor * picture.height), Image.Resampling.NEAREST)
    drawn = [
        ((b.box.x1 / LIMIT, b.box.y1 / LIMIT, b.box.x2 / LIMIT, b.box.y2 / LIMIT), b.color) for b in boxes
    ]
    return with_boxes(picture, drawn)


def _card_html(card: Card) -> str:
    verdict = "accepted" if card.accepted else f"rejected by {card.rule}"
    figures = "".join(figure(name, picture) for name, picture in card.pictures)
    rules = "".join(
        f"<li class='{'fine' if why is None else 'bad'}'>{escape(name)}: {escape(why or 'fine')}</li>"
        for name, why in card.rules
    )
    notes = "".join(f"<p class='note'>{escape(note)}</p>" for note in card.notes)
    group = escape(card.chain_id, quote=True)
    choices = "".join(
        f"<label><input type='radio' name='v-{group}' value='{one}'> {one}</label> "
        for one in ("accept", "reject", "correct")
    )
    return (
        f"<article data-chain='{group}' data-kind='{escape(card.kind)}'>"
        f"<div class='pictures'>{figures}</div><div class='words'>"
        f"<h2>{escape(card.prompt) or '(no prompt)'}</h2>"
        f"<p class='{'fine' if card.accepted else 'bad'}'>{escape(verdict)}</p>"
        f"<p class='chain'>{_chain_html(card.chain)}</p>{notes}<ul>{rules}</ul>"
        f"<p class='note'>{escape(card.item_id)} &middot; {escape(card.origin)}</p>"
        f"<div class='form'>{choices}<input class='note' placeholder='why' aria-label='why'>"
        f"<textarea rows='4' aria-label='corrected chain'>{escape(card.chain)}</textarea>"
        f"<textarea class='before' hidden>{escape(card.chain)}</textarea></div></div></article>"
    )


def figure(name: str, picture: Image.Image | str) -> str:
    """A picture within the page, or why there is none, with its name below."""
    if isinstance(picture, str):
        return f"<figure><p class='bad'>{escape(picture)}</p><figcaption>{escape(name)}</figcaption></figure>"
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=88, subsampling=0)  # thin coloured lines
    data = base64.b64encode(buffer.getvalue()).decode()
    alt = escape(name, quote=True)
    image = f"<img alt='{alt}' src='data:image/jpeg;base64,{data}'>"
    return f"<figure>{image}<figcaption>{alt}</figcaption></figure>"


def _chain_html(text: str) -> str:
    """The chain with each box underlined in its mask colour."""
    try:
        chain, _ = parse_tolerant(text)
        pieces, end = [], 0
        for placed in chain.boxes:
            spelled = str(placed.box)
            start = text.find(spelled, end)
            if start < 0:
                return escape(text)
            red, green, blue = rgb(placed.color)
            pieces.append(escape(text[end:start]))
            pieces.append(f"<b style='border-bottom:3px solid rgb({red},{green},{blue})'>{spelled}</b>")
            end = start + len(spelled)
        return "".join([*pieces, escape(text[end:])])
    except ChainError:
        return escape(text)


_STYLE = """
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin: 0 } p { margin: .4rem 0 }
th { text-align: left; font-weight: normal; color: #555; padding-right: 1rem } td { text-align: right }
article { border-top: 1px solid #ccc; padding: 1rem 0; display: flex; gap: 1.5rem; flex-wrap: wrap }
.pictures { display: flex; gap: 1rem; flex-wrap: wrap; align-items: start }
figure { margin: 0; max-width: 32rem }
.words { flex: 1 1 24rem; min-width: 0; overflow-wrap: anywhere }
figcaption, p.note { color: #555; font-size: .85rem } img { max-width: 100%; display: block }
.fine { color: #1d6b38 } .bad { color: #a4282a; font-weight: 600 }
ul { list-style: none; padding: 0; margin: .4rem 0; font-size: .85rem; display: flex; flex-wrap: wrap }
li { margin-right: 1.2rem } .chain { white-space: pre-wrap } .chain b { font-weight: 500 }
.form { display: flex; flex-wrap: wrap; gap: .6rem; align-items: center; margin-top: .6rem }
.form input.note { flex: 1 1 12rem; font: inherit; padding: .1rem .4rem }
textarea { width: 100%; font: inherit; display: none }
.form:has(input[value=correct]:checked) textarea:not(.before) { display: block }
.bar { position: sticky; top: 0; background: #fff; padding: .5rem 0; border-bottom: 1px solid #ccc }
.bar input, .bar button { font: inherit }
"""

_FORM = (
    "<div class='bar'><label>Reviewer <input id='reviewer'></label> "
    "<button id='save' type='button'>Save verdicts</button> <span id='said'></span></div>"
)

_SCRIPT = """
let unsaved = 0;
const said = document.getElementById('said');
document.addEventListener('change', (event) => {
  if (event.target.type !== 'radio') return;
  unsaved = document.querySelectorAll('input[type=radio]:checked').length;
  said.textContent = unsaved + ' judged, not saved yet';
});
window.addEventListener('beforeunload', (event) => { if (unsaved) event.preventDefault(); });
document.getElementById('save').addEventListener('click', () => {
  const reviewer = document.getElementById('reviewer').value.trim();
  const verdicts = [];
  for (const card of document.querySelectorAll('article')) {
    const chosen = card.querySelector('input[type=radio]:checked');
    if (!chosen) continue;
    verdicts.push({
      chain_id: card.dataset.chain, kind: card.dataset.kind, verdict: chosen.value,
      before: card.querySelector('textarea.before').value,
      chain: chosen.value === 'correct' ? card.querySelector('textarea').value : null,
      note: card.querySelector('input.note').value, time: new Date().toISOString()
    });
  }
  if (!reviewer || !verdicts.length) {
    said.textContent = reviewer ? 'nothing is judged yet' : 'who are you?';
    return;
  }
  const text = JSON.stringify({reviewer: reviewer, verdicts: verdicts}, null, 1);
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type: 'application/json'}));
  link.download = 'verdicts-' + document.title.split(':')[0].replace(/[^A-Za-z0-9_-]+/g, '-') + '.json';
  link.click();
  unsaved = 0;
  said.textContent = verdicts.length + ' verdicts saved as ' + link.download +
    '; record them: got data review ' + link.download;
});
"""
