"""The table of edit pairs: two paths and an instruction a row.

Belongs here: reading it, and which rows are one. Does not belong here: cutting shards (``shards``), the
pictures (``pairs``).
"""

from __future__ import annotations

import polars as pl

from got_core.corpus.reader import SCATTERED
from got_core.corpus.schemas import EDIT_LIST
from got_core.corpus.text_tables import TextTable, read_text_table, some_names
from got_core.filesystems import open_filesystem
from got_core.storage import local_path

EDIT_KEY = ["source", "target", "instruction", "licence", "source_name", "problem"]
"""What makes two rows of the table one."""

_COLUMNS = ("source", "target", "instruction", "licence", "source_name")
_REQUIRED = _COLUMNS[:3]
_OTHER_ENDINGS = (".json", ".jsonl", ".xlsx", ".xls", ".arrow", ".gz", ".zip")
_UNPACK = (
    "; a data set that holds pictures or lists in its rows is made into a pair table by "
    "`got data unpack` (its --map says which column is what)"
)


def read_pair_table(edits_url: str, fs_options: dict | None = None) -> pl.DataFrame:
    """The pair table as :data:`EDIT_LIST`: text stripped, empty cells null, equal rows folded, in order.

    CSV (with header; comma, semicolon or tab) or parquet by the name's ending; columns source, target,
    instruction and, optionally, licence and source_name. A line of CSV that cannot be read is a row with its
    problem.

    Raises:
        FileNotFoundError: there is no such table.
        ValueError: it cannot be read, lacks a column or has one that is no text; the message names them.
    """
    table = _read(edits_url, fs_options or {})
    missing = [name for name in _REQUIRED if name not in table.frame.columns]
    if missing:
        raise ValueError(
            f"pair table {edits_url} has no column {', '.join(missing)}; it needs {', '.join(_REQUIRED)} "
            f"(licence and source_name are optional) and has {some_names(table.names)}"
            f"{_UNPACK if edits_url.lower().endswith('.parquet') else ''}"
        )
    absent = [pl.lit(None, pl.String).alias(name) for name in _COLUMNS if name not in table.frame.columns]
    rows = table.frame.with_columns(
        *absent, problem=pl.format("bad_line: line {}: {}", "line", "fault")
    ).with_row_index("row", offset=1)
    folded = rows.group_by(EDIT_KEY, maintain_order=True).agg(pl.col("row").first(), pl.len().alias("rows"))
    return folded.sort("row").select(pl.col(name).cast(dtype) for name, (dtype, _) in EDIT_LIST.items())


def _read(edits_url: str, fs_options: dict) -> TextTable:
    where = f"pair table {edits_url}"
    if edits_url.lower().endswith(_OTHER_ENDINGS):
        raise ValueError(f"{where} cannot be read: it must be CSV or parquet")
    fs, path = open_filesystem(str(local_path(edits_url) or edits_url), **fs_options)
    scattered = path.lower().endswith(".parquet")
    try:
        file = fs.open(path, "rb", **(SCATTERED if scattered else {}))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise FileNotFoundError(
            f"pair table {edits_url} does not exist; set GOT_EDITS to a CSV or parquet"
        ) from error
    with file:
        return read_text_table(file, path, _COLUMNS, where, _UNPACK)
