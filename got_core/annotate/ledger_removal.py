"""Taking answers about pictures out of a shard's ledger; what they cost stays in its books.

An answer goes where its question showed one of the pictures, or where its reply holds a text that only rows
which go have. In its place stands an entry that says what it cost, under the same origin.

Belongs here: which answers go, and rewriting segments. Not here: which pictures and rows (`got_core.curate`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from got_core.annotate.ledger import FOLDER
from got_core.annotate.ledger_entries import (
    LINES,
    TABLE,
    frame_bytes,
    frame_of_table,
    read_segment,
    spent_only,
    table_of,
)
from got_core.annotate.ledger_segments import put_data, put_left_journals
from got_core.storage import Storage

LONG = 16
"""Characters from which a text is looked for anywhere in a reply; a shorter one has to be a whole part."""
_BETWEEN = "\x1f"


@dataclass(frozen=True, kw_only=True)
class Traces:
    """By what answers of a shard are found."""

    images: frozenset[str] = frozenset()
    """Hashes of pixels (`Picture.hash`) of pictures that no row shows any more."""
    texts: frozenset[str] = frozenset()
    """Texts, and lists of texts (`listed`), that rows which go have and rows which stay do not."""

    def __bool__(self) -> bool:
        return bool(self.images or self.texts)


@dataclass(frozen=True, kw_only=True)
class LedgerRemoval:
    """What was taken out of a ledger."""

    answers: int = 0
    rewritten: list[str] = field(default_factory=list)
    """Segments that were written anew without them."""
    unreadable: list[str] = field(default_factory=list)
    """Tables that are damaged: nobody can say what is in them."""


def listed(texts: Collection[str]) -> str:
    """A list of texts as one text of `Traces`."""
    return _BETWEEN.join(texts)


def remove_answers(storage: Storage, scope: str, traces: Traces) -> LedgerRemoval:
    """Take answers out of all segments of a shard, journals of ended processes of this machine included.

    A segment goes after a table with the rest of it was put, so this may be stopped and called again. Of
    segments with damaged lines the whole lines stay. Nobody else may work on the shard meanwhile.
    """
    folder = f"{FOLDER}/{scope}"
    if not traces:
        return LedgerRemoval()
    put_left_journals(storage, folder)
    names = [name for name in storage.list(f"{folder}/") if name.endswith((LINES, TABLE))]
    answers, rewritten, unreadable = 0, [], []
    for name in names:
        found = _segment_frame(name, storage.read_bytes(name))
        if found is None:
            unreadable.append(name)
            continue
        frame, damaged = found
        gone = _found(frame, traces)
        if gone or damaged:
            put_data(storage, folder, frame_bytes(spent_only(frame, gone)))
            storage.delete_many([name])
            answers += len(gone)
            rewritten.append(name)
    return LedgerRemoval(answers=answers, rewritten=rewritten, unreadable=unreadable)


def _segment_frame(name: str, data: bytes) -> tuple[pl.DataFrame, bool] | None:
    """A segment as a frame, and whether lines of it are damaged; None for a table that is."""
    if name.endswith(TABLE):
        frame = frame_of_table(name, data)
        return None if frame is None else (frame, False)
    contents = read_segment(name, data)
    table = table_of(contents.entries)
    return pl.read_parquet(io.BytesIO(table)), bool(contents.fault)


def _found(frame: pl.DataFrame, traces: Traces) -> set[str]:
    """Origins of the answers that go."""
    done = frame.filter(pl.col("kind") == "done").select("origin", "image", "text", "detail")
    shown = pl.col("image").is_in(list(traces.images)).fill_null(False)
    gone = set(done.filter(shown)["origin"])
    spelled = _spelled(traces.texts)
    if not spelled:
        return gone
    texts = pl.concat_str("text", "detail", separator="\n", ignore_nulls=True)
    # Few replies hold any of the texts: only those are taken apart.
    for row in done.filter(~shown & texts.str.contains_any(spelled)).iter_rows(named=True):
        parts = _parts(row)
        long = (text for text in traces.texts if len(text) >= LONG)
        if traces.texts.intersection([*parts, listed(parts)]) or any(
            text in part for text in long for part in parts
        ):
            gone.add(row["origin"])
    return gone


def _spelled(texts: Collection[str]) -> list[str]:
    """The texts, and the members of lists, as they may stand in a reply: plain, or as JSON writes them."""
    parts = {part for text in texts for part in text.split(_BETWEEN) if part}
    return sorted(
        {json.dumps(part, ensure_ascii=ascii)[1:-1] for part in parts for ascii in (False, True)} | parts
    )


def _parts(entry: Mapping[str, Any]) -> list[str]:
    """Texts of a reply, in order; the reply itself where it is no JSON. No names of fields."""
    reply = entry["text"]
    try:
        found = json.loads(reply)
    except ValueError:
        found = reply.strip()
    return [*_leaves(found), *filter(None, [entry.get("detail")])]


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _leaves(one)
