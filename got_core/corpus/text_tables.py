"""Tables of texts (URLs, edit pairs) out of CSV and parquet, in one form.

Belongs here: which columns a table has, and their values as text. Does not belong here: what they mean
(``tables``, ``pair_table``), lines of CSV (``delimited``).
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import IO, Any, NamedTuple

import polars as pl
import pyarrow as pa

from got_core.corpus.delimited import read_delimited
from got_core.corpus.parquet import open_parquet


class TextTable(NamedTuple):
    """A table's texts."""

    names: list[str]
    """All its columns."""

    frame: pl.DataFrame
    """The wanted ones, in small letters and stripped, empty ones null; `line` where a record begins (null for
    parquet) and `fault`, why it is none."""


def read_text_table(
    file: IO[bytes], path: str, columns: Sequence[str], where: str, remedy: str = ""
) -> TextTable:
    """The texts of a table: parquet by the name's ending, else CSV.

    Args:
        columns: names in small letters; the table may have them in any capitals, or lack them.
        where: what the table is called in errors.
        remedy: what to do about a column that cannot be text.

    Raises:
        ValueError: it cannot be read as a whole, or a column holds lists, records or bytes; the message names
            table and column, and repeats no value.
    """
    if not path.lower().endswith(".parquet"):
        return TextTable(*read_delimited(file, columns, where))
    try:
        return _parquet_texts(file, columns, where, remedy)
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(
            f"{where} cannot be read: it is no parquet, or damaged ({type(error).__name__})"
        ) from None


def some_names(names: Sequence[str]) -> str:
    """Names of columns, not too many of them."""
    return textwrap.shorten(", ".join(names), 500, placeholder=" ...") or "none"


def _parquet_texts(file: IO[bytes], columns: Sequence[str], where: str, remedy: str) -> TextTable:
    parquet = open_parquet(file)
    schema = parquet.schema_arrow
    lower = {name.lower(): name for name in reversed(schema.names)}
    stored = {name: lower[name] for name in columns if name in lower}
    for name in stored.values():
        kind = schema.field(name).type
        if not _can_be_text(kind):
            type_name = textwrap.shorten(str(kind), 100, placeholder=" ...")
            raise ValueError(f"{where}: column {name} is {type_name}, but must be text{remedy}")
    table = parquet.read(list(stored.values()))
    frame = pl.DataFrame({name: _texts(table.column(place)) for place, name in enumerate(stored)})
    empty = {"line": pl.lit(None, pl.Int64), "fault": pl.lit(None, pl.String)}
    return TextTable(schema.names, frame.with_columns(**empty))


def _can_be_text(kind: Any) -> bool:
    inner = getattr(kind, "storage_type", kind)
    if pa.types.is_dictionary(inner):
        inner = inner.value_type
    bytes_like = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return not (
        pa.types.is_nested(inner)
        or pa.types.is_fixed_size_binary(inner)
        or any(is_bytes(inner) for is_bytes in bytes_like)
    )


def _texts(column: pa.ChunkedArray) -> pl.Series:
    found = pl.Series(pl.from_arrow(column))
    if found.dtype.is_float():
        found = found.fill_nan(None)  # a column without values, as pandas writes it
    text = found.cast(pl.String).str.strip_chars()
    return text.set(text == "", None)
