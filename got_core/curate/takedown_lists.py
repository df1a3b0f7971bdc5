"""The two lists of a takedown that people edit, small CSV tables in the storage.

    takedown/list.csv      id, reason, added                  what must go
    takedown/judged.csv    request, item_id, verdict, judged  verdicts on pictures that look like it

Belongs here: reading, checking and adding to them. Not here: what they stand for (`takedown`, `copies`).
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import polars as pl

from got_core.corpus.schemas import Columns, polars_schema
from got_core.curate.schemas import JUDGED, TAKEDOWNS
from got_core.filesystems import StoreUnavailableError
from got_core.storage import Storage

LIST = "takedown/list.csv"
JUDGEMENTS = "takedown/judged.csv"
COPIES_PAGE = "takedown/copies.html"
"""Where pictures that wait for a verdict are shown; no list."""
COPY, OTHER = "copy", "other"

_ID = re.compile(r"[0-9a-f]{64}|[0-9a-f]{16}")


def is_hash(one: str) -> bool:
    """Whether an id on the list is a perceptual hash."""
    return len(one) == 16


def read_takedowns(storage: Storage) -> pl.DataFrame:
    """TAKEDOWNS: the list, each id once. No list is an empty one.

    Raises:
        ValueError: it is no CSV table with a column id, or an id is none; the message names the row.
    """
    table = _read(storage, LIST, "takedown list", TAKEDOWNS, ("id",), lambda row: _id_problem(row["id"]))
    return table.unique("id", keep="first", maintain_order=True)


def add_takedowns(storage: Storage, ids: Iterable[str], reason: str | None = None) -> pl.DataFrame:
    """Put ids on the list; those that are on it stay as they are. Returns the list.

    Raises:
        ValueError: something is no id; then nothing is added.
    """
    wanted = [one.strip().lower() for one in ids]
    for one in wanted:
        if problem := _id_problem(one):
            raise ValueError(problem)
    new = pl.DataFrame({"id": wanted}).with_columns(
        reason=pl.lit(reason, pl.String), added=pl.lit(_now(), pl.String)
    )
    table = pl.concat([read_takedowns(storage), new]).unique("id", keep="first", maintain_order=True)
    storage.write_bytes(LIST, table.write_csv().encode())
    return table


def read_judged(storage: Storage) -> pl.DataFrame:
    """JUDGED: the verdict that counts on each picture, the last one. No list is an empty one.

    Raises:
        ValueError: it is no CSV table with its columns, an id is none, or a verdict is neither `copy` nor
            `other`; the message names the row.
    """

    def problem(row: dict[str, str | None]) -> str | None:
        if row["verdict"] not in (COPY, OTHER):
            return f"verdict {row['verdict']!r} must be {COPY} or {OTHER}"
        return _id_problem(row["request"]) or _id_problem(row["item_id"])

    needed = ("request", "item_id", "verdict")
    table = _read(storage, JUDGEMENTS, "list of judged copies", JUDGED, needed, problem)
    return table.unique(["request", "item_id"], keep="last", maintain_order=True)


def add_judged(storage: Storage, rows: pl.DataFrame, verdict: str) -> pl.DataFrame:
    """Add a verdict on each row's (request, item_id); a later one replaces an earlier one. Returns JUDGED."""
    new = rows.select("request", "item_id", pl.lit(verdict).alias("verdict"), pl.lit(_now()).alias("judged"))
    table = pl.concat([read_judged(storage), new])
    table = table.unique(["request", "item_id"], keep="last", maintain_order=True)
    storage.write_bytes(JUDGEMENTS, table.write_csv().encode())
    return table


def list_digest(storage: Storage) -> str:
    """Twelve hex digits that change with the lists; `unreadable` where the storage cannot be read."""
    try:
        listed, judged = (storage.read_bytes(n) if storage.exists(n) else b"" for n in (LIST, JUDGEMENTS))
    except (OSError, StoreUnavailableError):
        return "unreadable"
    return hashlib.sha256(listed + (b"\0" + judged if judged else b"")).hexdigest()[:12]


def _read(
    storage: Storage,
    name: str,
    what: str,
    columns: Columns,
    needed: tuple[str, ...],
    problem: Callable[[dict[str, str | None]], str | None],
) -> pl.DataFrame:
    """A list's rows, ids in lower case; empty cells are null, empty rows left out. Raises ValueError."""
    data = storage.read_bytes(name).removeprefix(b"\xef\xbb\xbf") if storage.exists(name) else b""
    # Some spreadsheets end lines with a lone CR; read as one line, a list would be empty without an error.
    data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if not data.strip():
        return pl.DataFrame(schema=polars_schema(columns))
    place = f"{what} {storage.url_of(name)}"
    try:
        frame = pl.read_csv(io.BytesIO(data), infer_schema=False)
    except pl.exceptions.PolarsError as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{place} cannot be read: {reason}; it must be UTF-8 CSV") from error
    missing = [one for one in needed if one not in frame.columns]
    if missing:
        first = ",".join(columns)
        raise ValueError(f"{place} has no column {', '.join(missing)}; its first line must be {first}")
    ids = [one for one in needed if one != "verdict"]
    table = frame.select(_text(frame, one) for one in columns).with_columns(pl.col(ids).str.to_lowercase())
    for number, row in enumerate(table.iter_rows(named=True), start=1):
        if any(row.values()) and (problem_text := problem(row)):
            raise ValueError(f"{place}, row {number}: {problem_text}")
    return table.filter(pl.any_horizontal(pl.all().is_not_null()))


def _text(frame: pl.DataFrame, name: str) -> pl.Expr:
    if name not in frame.columns:
        return pl.lit(None, pl.String).alias(name)
    stripped = pl.col(name).str.strip_chars()
    return pl.when(stripped != "").then(stripped).alias(name)


def _id_problem(found: str | None) -> str | None:
    if found is not None and _ID.fullmatch(found):
        return None
    return (
        f"{found!r} is no id: give the SHA-256 of an image or the id of a pair (64 hex digits), or a "
        "perceptual hash (16 hex digits)"
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
