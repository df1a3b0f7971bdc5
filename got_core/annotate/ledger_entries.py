"""What a segment of the ledger holds: lines of JSON with checksums, or many of them as one parquet table.

Belongs here: bytes to entries and back, and what is wrong with bytes that were cut off or changed. Not here:
what entries mean (`ledger`), where segments are kept (`ledger_segments`).

An entry has one origin, the process that wrote it and its number there, whichever segments hold it: it counts
once. Entries of older segments have no number; theirs is the segment and the line.
"""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

Entry = dict[str, Any]
"""`kind` (asked, dropped, done), `run`, `n`, `key`, tokens, cost and, of a finished question, its record."""

LINES, TABLE = ".jsonl", ".parquet"

_TEXTS = ("kind", "run", "key", "step", "prompt", "model", "revision", "image", "text", "reason", "detail")
_LOST = ("lost_in", "lost_out", "lost_cost")
_SCHEMA: dict[str, pl.DataType] = {
    "origin": pl.String(),
    **{name: pl.String() for name in _TEXTS},
    **{name: pl.Int64() for name in ("n", "replies", "tokens_in", "tokens_out")},
    "cost": pl.Float64(),
    **dict(zip(_LOST, (pl.Int64(), pl.Int64(), pl.Float64()), strict=True)),
}


@dataclass(frozen=True)
class Contents:
    """What was read of a segment."""

    entries: dict[str, Entry] = field(default_factory=dict)
    """By origin."""
    damaged: int = 0
    """Lines, or tables, that cannot be read."""
    fault: str = ""
    """What is wrong with the segment, "" for nothing."""


def line_of(entry: Mapping[str, Any]) -> bytes:
    """A line of a segment: checksum, JSON, newline."""
    data = json.dumps(entry, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(data), data)


def read_segment(name: str, data: bytes) -> Contents:
    """The entries of a segment; what is cut off or damaged is left out and described."""
    return _read_table(name, data) if name.endswith(TABLE) else _read_lines(name, data)


def table_of(entries: Mapping[str, Entry]) -> bytes:
    """Entries, by origin, as parquet."""
    rows = [_row(origin, entry) for origin, entry in entries.items()]
    return frame_bytes(pl.DataFrame(rows, schema=_SCHEMA, orient="row"))


def frame_bytes(frame: pl.DataFrame) -> bytes:
    """A frame with the columns of a table of entries as parquet."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def frame_of_table(name: str, data: bytes) -> pl.DataFrame | None:
    """A table of entries as a frame; None where it is cut off or damaged."""
    if digest_of(data) != name.removesuffix(TABLE)[-16:]:
        return None
    return pl.read_parquet(io.BytesIO(data))


def spent_only(frame: pl.DataFrame, origins: Collection[str]) -> pl.DataFrame:
    """The frame with what these answers cost in their place, and nothing of them."""
    gone = pl.col("origin").is_in(list(origins))
    kept = ("origin", "run", "n", "key")
    spent = {"tokens_in": "lost_in", "tokens_out": "lost_out", "cost": "lost_cost"}
    whole = [(pl.col(one) + pl.col(lost).fill_null(0)).alias(one) for one, lost in spent.items()]
    emptied = [
        pl.lit(None, dtype).alias(one) for one, dtype in frame.schema.items() if one not in (*kept, *spent)
    ]
    replaced = frame.with_columns(whole).with_columns(emptied).with_columns(kind=pl.lit("dropped"))
    return frame.select(
        pl.when(gone).then(replaced[one]).otherwise(pl.col(one)).alias(one)
        if one not in kept
        else pl.col(one)
        for one in frame.columns
    )


def digest_of(data: bytes) -> str:
    """16 hex digits of SHA-256: the end of a table's name."""
    return hashlib.sha256(data).hexdigest()[:16]


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """Entries as each process wrote them."""
    return sorted(entries, key=lambda entry: (entry["run"], entry.get("n") or 0))


def _read_lines(name: str, data: bytes) -> Contents:
    entries, bad = {}, []
    for number, line in enumerate(data.split(b"\n")):
        if not line:
            continue
        entry = _checked(line)
        if entry is None:
            bad.append(number + 1)
        else:
            entries[_origin(entry, name, number)] = entry
    fault = f"line {bad[0]} is cut off or damaged" if bad else ""
    return Contents(entries, len(bad), fault + (f", and {len(bad) - 1} more" if len(bad) > 1 else ""))


def _checked(line: bytes) -> Entry | None:
    """The entry of a line, None where the line is cut off or damaged."""
    checksum, _, data = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(data):
        return None
    return json.loads(data)


def _origin(entry: Entry, name: str, number: int) -> str:
    return f"{entry['run']}:{entry['n']}" if "n" in entry else f"{name}:{number}"


def _read_table(name: str, data: bytes) -> Contents:
    if digest_of(data) != name.removesuffix(TABLE)[-16:]:
        return Contents(
            damaged=1, fault="the table is cut off or damaged: its bytes are not those of its name"
        )
    rows = pl.read_parquet(io.BytesIO(data)).iter_rows(named=True)
    return Contents({row["origin"]: _entry(row) for row in rows})


def _row(origin: str, entry: Entry) -> dict[str, Any]:
    row = {"origin": origin, **{name: entry.get(name) for name in _SCHEMA if name in entry}}
    row |= dict(zip(_LOST, entry.get("lost") or (None,) * 3, strict=True))
    # A lone surrogate has no place in a table; JSON can spell it.
    return {k: v.encode("utf-8", "replace").decode() if isinstance(v, str) else v for k, v in row.items()}


def _entry(row: Mapping[str, Any]) -> Entry:
    entry = {name: row[name] for name in _SCHEMA if name not in ("origin", "n", *_LOST)}
    lost = [row[name] or 0 for name in _LOST]
    return entry | {"lost": lost} | ({} if row["n"] is None else {"n": row["n"]})
