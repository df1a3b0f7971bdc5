"""What a judge's ledger keeps of a reply: as text, as rows of a table, and by its key.

Belongs here: the text that the ledger holds, and reading hundreds of thousands of them at once. Not here:
writing the ledger (`annotate.ledger`), or what a reply means (`judge`).
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from got_core.annotate.ledger import Record
from got_core.annotate.ledger_entries import LINES, TABLE, digest_of

if TYPE_CHECKING:
    from got_core.storage import Storage

GIVEN_UP = "server_error"
"""Reason of a fault that may pass: nothing is kept of its question."""

_ENTRY: dict[str, pl.DataType] = {
    **{name: pl.String() for name in ("kind", "run", "key", "step", "prompt", "model", "revision", "image")},
    **{name: pl.String() for name in ("text", "reason", "detail")},
    **{name: pl.Int64() for name in ("n", "tokens_in", "tokens_out")},
    "cost": pl.Float64(),
}
_FIELDS = pl.Struct(
    {
        "reply": pl.String(),
        "model": pl.String(),
        "asked": pl.String(),
        "attempt": pl.Int64(),
        "truncated": pl.Boolean(),
    }
)
_BEGIN = '{"reply": '


class Kept(NamedTuple):
    """What a judge said, and when."""

    reply: str
    model: str | None = None
    """What the server calls the model that replied."""
    asked: str | None = None
    """ISO 8601 in UTC."""
    attempt: int = 1
    """Which reply to the same call."""
    truncated: bool = False
    """Whether it ended at the limit of its length."""

    def text(self) -> str:
        """As the ledger's text."""
        fields = {"reply": self.reply, "model": self.model, "asked": self.asked}
        return json.dumps(fields | {"attempt": self.attempt, "truncated": self.truncated})


def kept_of(text: str) -> Kept:
    """A reply from the ledger's text; what is no reply of a judge is taken as its words."""
    if not text.startswith(_BEGIN):
        return Kept(text)
    try:
        return Kept(**json.loads(text))
    except (ValueError, TypeError, RecursionError):
        return Kept(text)


class Answered(NamedTuple):
    """An entry of the ledger: a reply, why there is none of use, and what it cost."""

    kept: Kept
    reason: str | None
    detail: str
    tokens_in: int
    tokens_out: int
    cost: float


def answered_of(record: Record) -> Answered:
    """The same of a record of this process."""
    return Answered(
        kept_of(record.text), record.reason, record.detail, record.tokens_in, record.tokens_out, record.cost
    )


class Answers:
    """What a ledger held when this was made, by key. Raises what the store raises.

    Args:
        storage: where the ledger is.
        folder: its folder there.
    """

    def __init__(self, storage: Storage, folder: str) -> None:
        rows = done_entries(storage, folder)
        fields = ("reply", "model_served", "asked", "attempt", "truncated")
        self._kept = [rows[name].to_list() for name in fields]
        self._costs = [
            rows[name].to_list() for name in ("reason", "detail", "tokens_in", "tokens_out", "cost")
        ]
        self._places = dict(zip(rows["key"].to_list(), range(rows.height), strict=True))

    def get(self, key: str) -> Answered | None:
        """The entry of that key, None where there is none."""
        at = self._places.get(key)
        if at is None:
            return None
        reply, model, asked, attempt, truncated = self._kept
        reason, detail, tokens_in, tokens_out, cost = self._costs
        kept = Kept(reply[at], model[at], asked[at], attempt[at], truncated[at])
        return Answered(kept, reason[at], detail[at] or "", tokens_in[at], tokens_out[at], cost[at])


def done_entries(storage: Storage, folder: str) -> pl.DataFrame:
    """The last entry of each key below a folder, with the fields of its reply, as they came.

    `model_served`: what the server called the model. What is cut off or damaged is left out, as it is where
    the ledger is used; so are faults that may pass.
    """
    entries = _entries(storage, folder)
    done = entries.filter((pl.col("kind") == "done") & pl.col("reason").ne_missing(GIVEN_UP))
    done = done.unique("key", keep="last", maintain_order=True)
    ours = pl.col("text").str.starts_with(_BEGIN)
    fields = done.select(pl.when(ours).then("text").alias("text"))["text"].str.json_decode(_FIELDS)
    field = fields.struct.field
    return done.with_columns(
        field("asked"),
        field("attempt").fill_null(1),
        field("truncated").fill_null(value=False),
        field("model").alias("model_served"),
        reply=pl.when(ours).then(field("reply")).otherwise("text"),
    )


def _entries(storage: Storage, folder: str) -> pl.DataFrame:
    """All entries, each once, as their processes wrote them."""
    names = [name for name in storage.list(f"{folder}/") if name.endswith((LINES, TABLE))]
    found = storage.read_many(names)
    frames = [_table(name, data) if name.endswith(TABLE) else _lines(data) for name, data in found.items()]
    whole = pl.concat([pl.DataFrame(schema=_ENTRY), *frames]).with_row_index("line")
    unnumbered = -1 - pl.col("line").cast(pl.Int64)  # entries of older segments
    whole = whole.with_columns(n=pl.coalesce("n", unnumbered)).drop("line")
    return whole.unique(["run", "n"], maintain_order=True).sort("run", "n", maintain_order=True)


def _table(name: str, data: bytes) -> pl.DataFrame:
    if digest_of(data) != name.removesuffix(TABLE)[-16:]:
        return pl.DataFrame(schema=_ENTRY)
    return pl.read_parquet(io.BytesIO(data), columns=list(_ENTRY)).cast(_ENTRY)  # type: ignore[arg-type]


def _lines(data: bytes) -> pl.DataFrame:
    """The whole lines of a segment."""
    whole = [line[9:] for line in data.split(b"\n") if line and _is_whole(line)]
    if not whole:
        return pl.DataFrame(schema=_ENTRY)
    try:
        return pl.read_ndjson(io.BytesIO(b"\n".join(whole)), schema=_ENTRY)
    except pl.exceptions.PolarsError:  # a lone surrogate, which JSON can spell and a table cannot
        return pl.DataFrame([_plain(line) for line in whole], schema=_ENTRY, orient="row")


def _is_whole(line: bytes) -> bool:
    return line[8:9] == b" " and line[:8] == b"%08x" % zlib.crc32(memoryview(line)[9:])


def _plain(line: bytes) -> Sequence[Any]:
    entry = json.loads(line)
    values = (entry.get(name) for name in _ENTRY)
    return [v.encode("utf-8", "replace").decode() if isinstance(v, str) else v for v in values]
