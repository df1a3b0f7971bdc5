"""Tables as input: rows of URLs (parquet or CSV), and parquet files that hold the pictures' bytes.

Belongs here: which of both a table is, its columns, its rows and parts. Does not belong here: fetching
(``fetch``) and what bytes mean (``decode``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from got_core.corpus.config import IngestConfig
from got_core.corpus.decode import ImageError
from got_core.corpus.inputs import Input
from got_core.corpus.parquet import group_rows, open_parquet
from got_core.corpus.reader import EPOCH, Folder, Stamp
from got_core.corpus.text_tables import TextTable, read_text_table, some_names
from got_core.store_faults import is_machine_fault, machine_fault

URL_COLUMNS = ("url", "image_url")
IMAGE_COLUMNS = ("image", "jpg", "png", "webp", "bytes", "img")
LICENCE_COLUMNS = ("licence", "license")
SOURCE_COLUMNS = ("source_name",)
_TEXT_COLUMNS = (*URL_COLUMNS, *LICENCE_COLUMNS, *SOURCE_COLUMNS)
_SMALL = 64 * 1024**2
"""Bytes below which nobody minds how well a row group was compressed."""


class Unpacked(NamedTuple):
    """One picture out of an archive or table, or the reason why there is none."""

    origin: str
    """Archive and member, or table and row: ``a.tar//000/1.jpg``, ``b.parquet#17``."""
    data: bytes | None = None
    error: ImageError | None = None
    source: str | None = None
    licence: str | None = None
    name: str = ""
    """Of a member of an archive."""
    offset: int | None = None
    """Byte of the archive at which a member's data lie as they are; None in all else."""


def list_table(
    one: Input, path: str, stamp: Stamp, config: IngestConfig
) -> pl.DataFrame | list[dict[str, Any]]:
    """A URL table as a frame of :data:`IMAGE_LIST`'s columns, or the parts of a parquet file with pictures.

    A parquet file that cannot be read is one row with its problem.

    Raises:
        ValueError: a CSV that cannot be read, or a table with neither URLs nor pictures; names the file.
    """
    folder = Folder.of(one, config)
    where = f"{one.base}/{path}"
    try:
        with folder.open_file(path, stamp, scattered=True) as file:
            if path.lower().endswith(".parquet"):
                parquet = _open_parquet(file)
                if _image_column(parquet.schema_arrow):
                    groups = [parquet.metadata.row_group(at).num_rows for at in range(parquet.num_row_groups)]
                    return list(_parts(groups, config.image_shard_size))
            return _url_rows(one, path, read_text_table(file, path, _TEXT_COLUMNS, f"table {where}"))
    except ImageError as error:
        return [{"problem": str(error)}]


def _named(columns: list[str], choice: tuple[str, ...]) -> str | None:
    """The first column of these names, capital letters or not."""
    lower = {name.lower(): name for name in reversed(columns)}
    return next((lower[name] for name in choice if name in lower), None)


def _url_rows(one: Input, path: str, table: TextTable) -> pl.DataFrame:
    def text(choice: tuple[str, ...], default: str | None) -> pl.Expr:
        name = _named(table.frame.columns, choice)
        given = pl.lit(default, pl.String)
        return given if name is None else pl.coalesce(name, given)

    if _named(table.frame.columns, URL_COLUMNS) is None:
        raise ValueError(
            f"table {one.base}/{path} has neither a column url nor one with pictures "
            f"({', '.join(IMAGE_COLUMNS)}: binary, or a struct with bytes); it has {some_names(table.names)}"
        )
    row = pl.int_range(1, pl.len() + 1).cast(pl.String)
    bad_line = pl.format("bad_line: line {}: {}", "line", "fault")
    listed = table.frame.select(
        path=text(URL_COLUMNS, None),
        bytes=pl.lit(0),
        modified=pl.lit(EPOCH),
        problem=bad_line,
        kind=pl.lit("url"),
        first=pl.lit(None, pl.Int64),
        count=pl.lit(None, pl.Int64),
        etag=pl.lit(None, pl.String),
        source=text(SOURCE_COLUMNS, one.source),
        licence=text(LICENCE_COLUMNS, one.licence),
        row=row,
    )
    empty, no_url = pl.col("path").is_null(), pl.format("incomplete_row: row {} has no URL", "row")
    listed = listed.with_columns(
        problem=pl.when(empty).then(pl.coalesce("problem", no_url)),
        path=pl.when(empty).then(pl.format("{}#{}", pl.lit(one.path_of(path)), "row")).otherwise("path"),
    )
    return listed.unique("path", keep="first", maintain_order=True)


# Pictures in parquet


def read_parquet(
    file: IO[bytes], path: str, first: int, count: int, config: IngestConfig
) -> Iterator[Unpacked]:
    """The pictures of rows `first` to `first + count`, a few rows in memory at a time. Paths inside are not
    followed. Damage ends the part with one last item that says so; it raises nothing."""
    try:
        parquet = _open_parquet(file)
        for number, row in _rows(file, parquet, first, count, config):
            yield _unpacked(f"{path}#{number}", row)
    except ImageError as error:
        yield Unpacked(path, error=ImageError(error.reason, error.detail))
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        yield Unpacked(path, error=_damaged(error))


def _rows(
    file: IO[bytes], parquet: pq.ParquetFile, first: int, count: int, config: IngestConfig
) -> Iterator[tuple[int, dict[str, Any]]]:
    schema = parquet.schema_arrow
    names = {
        "image": _image_column(schema),
        "licence": _named(schema.names, LICENCE_COLUMNS),
        "source": _named(schema.names, SOURCE_COLUMNS),
    }
    columns = [name for name in names.values() if name]
    start = 0
    for group in range(parquet.num_row_groups):
        rows = parquet.metadata.row_group(group).num_rows
        low, high = max(first - start, 0), min(first + count - start, rows)
        if low < high:
            _check_group(parquet.metadata.row_group(group), group, config)
            found = group_rows(file, parquet.metadata, group, columns, low, high)
            for number, row in enumerate(found, start + low):
                yield number, {key: row[name] for key, name in names.items() if name}
        start += rows


def _check_group(group: Any, index: int, config: IngestConfig) -> None:
    """Raises ImageError if a row group has too many bytes after decompression."""
    columns = [group.column(position) for position in range(group.num_columns)]
    size = sum(column.total_uncompressed_size for column in columns)
    packed = max(1, sum(column.total_compressed_size for column in columns))
    if size > config.max_row_group_bytes or (size > _SMALL and size > config.max_expansion * packed):
        raise ImageError(
            "decompression_bomb", f"row group {index} grows from {packed} to {size} bytes, above the limits"
        )


def _unpacked(origin: str, row: dict[str, Any]) -> Unpacked:
    image = row["image"]
    data = image.get("bytes") if isinstance(image, dict) else image
    try:
        source, licence = (_text(row.get(key), key) for key in ("source", "licence"))
    except ImageError as error:
        return Unpacked(origin, error=error)
    if data is not None:
        return Unpacked(origin, data, None, source, licence)
    hint = " (a path only, which is not followed)" if isinstance(image, dict) and image.get("path") else ""
    return Unpacked(origin, None, ImageError("incomplete_row", f"no bytes{hint}"), source, licence)


def _text(value: Any, name: str) -> str | None:
    """A text or number, or a list of texts, as text. Raises ImageError for what is none."""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        value = "; ".join(value)
    if not isinstance(value, str | int | float | None):
        raise ImageError("bad_metadata", f"the row's {name} is no text but {type(value).__name__}")
    return str(value).strip() or None if value is not None else None


def _image_column(schema: pa.Schema) -> str | None:
    """The column of the pictures: by a usual name, else the only one that can hold them."""
    fitting = [field.name for field in schema if _holds_bytes(field.type)]
    return _named(fitting, IMAGE_COLUMNS) or (fitting[0] if len(fitting) == 1 else None)


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_bytes(kind.field("bytes").type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _parts(groups: list[int], size: int) -> Iterator[dict[str, Any]]:
    """Whole row groups up to `size` rows together; only a larger group is cut."""
    first = count = 0
    for rows in groups:
        if count and count + rows > size:
            yield {"first": first, "count": count}
            first, count = first + count, 0
        count += rows
        while count > size:
            yield {"first": first, "count": size}
            first, count = first + size, count - size
    if count:
        yield {"first": first, "count": count}


def _open_parquet(file: IO[bytes]) -> pq.ParquetFile:
    try:
        return open_parquet(file)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(error) from error


def _damaged(error: BaseException) -> ImageError:
    """The reason of a file that cannot be read. Raises StoreUnavailableError where that is not the file's."""
    if isinstance(error, OSError) and is_machine_fault(error):
        raise machine_fault(error, "a parquet file cannot be read") from error
    return ImageError("bad_archive", " ".join(f"{type(error).__name__} {error}".split())[:200])
