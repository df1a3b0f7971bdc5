"""The ledgers of judges as one table: a row for every reply, with its state and what it cost.

Belongs here: segments to rows, fast enough for hundreds of thousands, and a file of them. Not here: keeping
answers (`annotate.ledger`), or what a benchmark makes of them.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from got_core.annotate.dispatch import SERVER_ERROR
from got_core.annotate.ledger_entries import LINES, TABLE, digest_of
from got_core.evaluate.judges.call import REFUSED, SCORED, UNREADABLE
from got_core.evaluate.judges.judge import REFUSED_IN_WORDS
from got_core.local_files import temporary_beside

if TYPE_CHECKING:
    from got_core.storage import Storage

COLUMNS: dict[str, pl.DataType] = {
    "judge": pl.String(),
    "revision": pl.String(),
    "asked": pl.String(),
    "step": pl.String(),
    "prompt": pl.String(),
    "pictures": pl.List(pl.String()),
    "attempt": pl.Int64(),
    "state": pl.String(),
    "reason": pl.String(),
    "reply": pl.String(),
    "model": pl.String(),
    "tokens_in": pl.Int64(),
    "tokens_out": pl.Int64(),
    "cost": pl.Float64(),
    "key": pl.String(),
}
"""`asked`: ISO 8601 in UTC; `prompt`: hash of its text; `pictures`: SHA-256; `attempt`: which reply to the
same call; `state`: as the reply was read when it came; `model`: what the server called it; `key`: in the
ledger."""

_ENTRY: dict[str, pl.DataType] = {
    **{name: pl.String() for name in ("kind", "run", "key", "step", "prompt", "model", "revision", "image")},
    **{name: pl.String() for name in ("text", "reason", "detail")},
    **{name: pl.Int64() for name in ("n", "tokens_in", "tokens_out")},
    "cost": pl.Float64(),
}
_KEPT = pl.Struct(
    {
        "reply": pl.String(),
        "model": pl.String(),
        "asked": pl.String(),
        "attempt": pl.Int64(),
        "truncated": pl.Boolean(),
    }
)
_OURS = '{"reply": '


def ledger_table(storage: Storage, prefix: str) -> pl.DataFrame:
    """The replies (COLUMNS) of all judges whose ledgers lie below a prefix, in the order in which they came.

    What is cut off or damaged in a ledger is left out, as it is where the ledger is used; so are faults that
    may pass. Of answers about first tokens (GenEval 2) `reply` is what is kept of them.
    """
    entries = _entries(storage, prefix.rstrip("/"))
    done = entries.filter((pl.col("kind") == "done") & pl.col("reason").ne_missing(SERVER_ERROR))
    done = done.unique("key", keep="last", maintain_order=True)
    ours = pl.col("text").str.starts_with(_OURS)
    kept = done.select(pl.when(ours).then("text").alias("text"))["text"].str.json_decode(_KEPT)
    states = {None: SCORED, REFUSED: REFUSED, REFUSED_IN_WORDS: REFUSED}
    return (
        done.with_columns(kept.alias("kept"))
        .with_columns(
            judge=pl.col("model"),
            pictures=pl.col("image").str.split(" "),
            state=pl.col("reason").replace_strict(states, default=UNREADABLE, return_dtype=pl.String),
            reason=pl.when(pl.col("reason").is_not_null()).then("detail"),
            asked=pl.col("kept").struct.field("asked"),
            attempt=pl.col("kept").struct.field("attempt"),
            model=pl.col("kept").struct.field("model"),
            reply=pl.when(ours).then(pl.col("kept").struct.field("reply")).otherwise("text"),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in COLUMNS.items())
    )


def export_ledger(storage: Storage, prefix: str, path: Path) -> pl.DataFrame:
    """Write the table of `ledger_table` to a file, parquet or JSON lines by its name, and return it.

    Raises ValueError for another kind of file. Nothing half-written is seen under its name.
    """
    if path.suffix not in (".parquet", ".jsonl"):
        raise ValueError(f"{path}: the ledger is written as .parquet or .jsonl; name such a file")
    table = ledger_table(storage, prefix)
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = temporary_beside(path)
    try:
        if path.suffix == ".parquet":
            table.write_parquet(hidden)
        else:
            table.write_ndjson(hidden)
        hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)
    return table


def _entries(storage: Storage, prefix: str) -> pl.DataFrame:
    """All entries below a prefix, each once, as their processes wrote them."""
    names = [name for name in storage.list(f"{prefix}/") if name.endswith((LINES, TABLE))]
    found = storage.read_many(names)
    frames = [_table(name, data) if name.endswith(TABLE) else _lines(data) for name, data in found.items()]
    whole = pl.concat([pl.DataFrame(schema=_ENTRY), *frames])
    return whole.unique(["run", "n"], maintain_order=True).sort("run", "n", maintain_order=True)


def _table(name: str, data: bytes) -> pl.DataFrame:
    if digest_of(data) != name.removesuffix(TABLE)[-16:]:
        return pl.DataFrame(schema=_ENTRY)
    return pl.read_parquet(io.BytesIO(data), columns=list(_ENTRY)).cast(_ENTRY)  # type: ignore[arg-type]


def _lines(data: bytes) -> pl.DataFrame:
    """The whole lines of a segment."""
    whole = [line[9:] for line in data.split(b"\n") if _is_whole(line)]
    if not whole:
        return pl.DataFrame(schema=_ENTRY)
    try:
        return pl.read_ndjson(io.BytesIO(b"\n".join(whole)), schema=_ENTRY)
    except pl.exceptions.PolarsError:  # a lone surrogate, which JSON can spell and a table cannot
        return pl.DataFrame([_plain(line) for line in whole], schema=_ENTRY, orient="row")


def _is_whole(line: bytes) -> bool:
    return line[8:9] == b" " and line[:8] == b"%08x" % zlib.crc32(line[9:])


def _plain(line: bytes) -> Sequence[object]:
    entry = json.loads(line)
    values = (entry.get(name) for name in _ENTRY)
    return [v.encode("utf-8", "replace").decode() if isinstance(v, str) else v for v in values]
