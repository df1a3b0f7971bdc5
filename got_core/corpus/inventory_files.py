"""The data files of an S3 Inventory: CSV, parquet and ORC as frames of the same columns, a part at a time.

Belongs here: columns, encodings and types as the service writes them. Does not belong here: manifests and
where reading stands (``inventories``), which objects are input (``listing``).

Formats: Amazon S3 User Guide, "Amazon S3 Inventory list" and "Locating your inventory list". In CSV every
field is quoted, keys are URL-encoded and no line names the columns; in the other formats keys are plain text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import polars as pl

from got_core.corpus.schemas import TIME

FORMATS = ("CSV", "PARQUET", "ORC")
OBJECTS: dict[str, pl.DataType] = {
    "path": pl.String(),
    "bytes": pl.Int64(),
    "modified": TIME,
    "etag": pl.String(),
}
"""Columns of a frame of objects: key, size, time of last change, tag of the content without quotes."""

_OURS = {"key": "path", "size": "bytes", "lastmodifieddate": "modified", "etag": "etag"}
_VERSIONS = ("islatest", "isdeletemarker")
_NEEDED = {"key": "Key", "size": "Size", "etag": "ETag"}
_EPOCH = pl.lit(0, pl.Int64).cast(TIME)
_BLOCK = 4 * 1024**2
_ROWS = 20_000


def columns_of(file_schema: str, file_format: str, where: str) -> list[str]:
    """The columns that a manifest's ``fileSchema`` names, in order, as they are spelled.

    Raises:
        ValueError: what is needed is not among them; the message says how to configure the inventory.
    """
    names = _names(file_schema, file_format.upper())
    plain = {_plain(name) for name in names}
    missing = [label for name, label in _NEEDED.items() if name not in plain]
    if missing:
        raise ValueError(
            f"{where} lacks {' and '.join(missing)}, by which objects are told apart (it has "
            f"{', '.join(names) or 'no columns'}); add Size and ETag to the optional fields of the inventory "
            "configuration, and LastModifiedDate if you can: the next inventory then has them"
        )
    if "versionid" in plain and not plain.issuperset(_VERSIONS):
        raise ValueError(
            f"{where} has versions but not IsLatest and IsDeleteMarker, so that nothing says which of them "
            "are there; set the inventory's object versions to the current version only"
        )
    return names


def read_objects(path: Path, file_format: str, names: list[str]) -> Iterator[pl.DataFrame]:
    """Objects (:data:`OBJECTS`) of a local data file in its order, some thousands at a time, each with its
    number in the file (``row``, from 0).

    The path of an old version or a delete marker is null.

    Raises:
        ValueError: the file is damaged, or not of its format.
    """
    import pyarrow as pa

    wanted = [name for name in names if _plain(name) in {*_OURS, *_VERSIONS}]
    kind, start = file_format.upper(), 0
    try:
        for table in _TABLES[kind](path, names, wanted):
            frame = pl.from_arrow(table)
            assert isinstance(frame, pl.DataFrame)
            numbers = pl.int_range(start, start + pl.len())
            yield _objects(frame, is_csv=kind == "CSV").with_columns(row=numbers)
            start += frame.height
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError, EOFError) as error:
        raise ValueError(f"it cannot be read as {kind}: {type(error).__name__} {error}"[:500]) from error


def _names(file_schema: str, kind: str) -> list[str]:
    if kind == "CSV":
        return [name.strip() for name in file_schema.split(",") if name.strip()]
    if kind == "ORC":
        return re.findall(r"(?:struct<|,)\s*(\w+)\s*:", file_schema)
    return re.findall(r"(?:required|optional)\s+\w+\s+(\w+)", file_schema)


def _plain(name: str) -> str:
    """``LastModifiedDate`` and ``last_modified_date`` are the same."""
    return name.lower().replace("_", "")


def _csv(path: Path, names: list[str], wanted: list[str]) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import csv

    reading = csv.ReadOptions(column_names=names, block_size=_BLOCK)
    texts = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), include_columns=wanted)
    # Opened here: a name without an ending says nothing about compression.
    with path.open("rb") as file, pa.CompressedInputStream(file, "gzip") as stream:
        try:
            yield from csv.open_csv(stream, read_options=reading, convert_options=texts)
        except pa.ArrowInvalid as error:
            if "Empty CSV file" not in str(error):
                raise


def _parquet(path: Path, names: list[str], wanted: list[str]) -> Iterator[Any]:
    import pyarrow as pa

    from got_core.corpus.parquet import open_parquet

    with path.open("rb") as file:
        for batch in open_parquet(file).iter_batches(_ROWS, columns=wanted):
            yield pa.Table.from_batches([batch])


def _orc(path: Path, names: list[str], wanted: list[str]) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import orc

    with path.open("rb") as file:
        stored = orc.ORCFile(file)
        for stripe in range(stored.nstripes):
            yield pa.Table.from_batches([stored.read_stripe(stripe, columns=wanted)])


_TABLES = {"CSV": _csv, "PARQUET": _parquet, "ORC": _orc}


def _objects(frame: pl.DataFrame, *, is_csv: bool) -> pl.DataFrame:
    """A file's rows in our columns; null as path where an object is not there (any more)."""
    frame = frame.rename({name: _plain(name) for name in frame.columns})
    shown = [_flag(frame, "islatest", True), ~_flag(frame, "isdeletemarker", False)]
    frame = frame.rename({name: ours for name, ours in _OURS.items() if name in frame.columns})
    path = frame["path"].cast(pl.String)
    if is_csv:
        path = pl.Series("path", [unquote_plus(key, errors="replace") for key in path], pl.String)
    frame = frame.with_columns(
        path=pl.when(pl.all_horizontal(shown)).then(pl.lit(path)),
        bytes=_number(frame["bytes"]),
        modified=_moment(frame),
        etag=pl.col("etag").cast(pl.String).str.strip_chars('"').replace("", None),
    )
    return frame.select(pl.col(name).cast(dtype) for name, dtype in OBJECTS.items())


def _flag(frame: pl.DataFrame, name: str, default: bool) -> pl.Expr:
    if name not in frame.columns:
        return pl.lit(default)
    if frame.schema[name] == pl.Boolean:
        return pl.col(name).fill_null(default)
    return pl.col(name).str.to_lowercase() == "true"


def _number(values: pl.Series) -> pl.Series:
    """Sizes; a delete marker has none."""
    return (values.replace("", None) if values.dtype == pl.String else values).cast(pl.Int64)


def _moment(frame: pl.DataFrame) -> pl.Expr:
    """Times of last change, the epoch where the inventory does not have them."""
    dtype = frame.schema.get("modified")
    if dtype is None:
        return _EPOCH
    column = pl.col("modified")
    if dtype == pl.String:
        column = column.replace("", None).str.to_datetime("%+", time_unit="us", time_zone="UTC")
    elif dtype == pl.Int64:  # TIMESTAMP_MILLIS without its annotation
        column = column.cast(pl.Datetime("ms", "UTC"))
    else:
        zone = getattr(dtype, "time_zone", None)
        column = column.dt.convert_time_zone("UTC") if zone else column.dt.replace_time_zone("UTC")
    return column.cast(TIME).fill_null(_EPOCH)
