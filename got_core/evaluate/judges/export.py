"""The ledgers of judges as one table: a row for every reply, with its state and what it cost.

Belongs here: the table's columns, and a file of it. Not here: keeping answers (`annotate.ledger`), reading
them (`kept`), or what a benchmark makes of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from got_core.evaluate.judges.call import REFUSED, SCORED, UNREADABLE
from got_core.evaluate.judges.kept import done_entries
from got_core.evaluate.judges.questions import REFUSED_IN_WORDS
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


def ledger_table(storage: Storage, prefix: str) -> pl.DataFrame:
    """The replies (COLUMNS) of all judges whose ledgers lie below a prefix, in the order in which they came.

    Of answers about first tokens (GenEval 2) `reply` is what is kept of them.
    """
    states = {None: SCORED, REFUSED: REFUSED, REFUSED_IN_WORDS: REFUSED}
    return (
        done_entries(storage, prefix.rstrip("/"))
        .with_columns(
            judge=pl.col("model"),
            pictures=pl.col("image").str.split(" "),
            state=pl.col("reason").replace_strict(states, default=UNREADABLE, return_dtype=pl.String),
            reason=pl.when(pl.col("reason").is_not_null()).then("detail"),
            model=pl.col("model_served"),
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
