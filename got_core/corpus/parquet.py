"""Rows of parquet files, a few megabytes of them in memory at a time, however large each row is.

Belongs here: how much is read at once. Does not belong here: which columns mean what (``tables``,
``pair_table``, ``got_core.exchange``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import IO, Any

import pyarrow.parquet as pq

_BATCH_BYTES = 32 * 1024**2
_BATCH_ROWS = 512
_BUFFER = 1024**2


def open_parquet(file: IO[bytes], **options: Any) -> pq.ParquetFile:
    """A parquet file that is read through a small buffer instead of whole columns of a row group."""
    return pq.ParquetFile(file, buffer_size=_BUFFER, **options)


def group_rows(
    file: IO[bytes],
    metadata: pq.FileMetaData,
    group: int,
    columns: Sequence[str],
    first: int = 0,
    stop: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows `first` to `stop` of a row group as dictionaries, made one at a time.

    Beside pyarrow's own buffers (of each column the largest page or the dictionary, up to thrice) at most
    about 32 MiB of rows are in memory, or one row, if it is larger. Raises pyarrow's errors and OSError.
    """
    rows = metadata.row_group(group).num_rows
    stop = rows if stop is None else min(stop, rows)
    if not columns:
        yield from ({} for _ in range(first, stop))
        return
    parquet = open_parquet(file, metadata=metadata)
    number, few = 0, _rows_at_once(metadata, group, columns)
    for batch in parquet.iter_batches(few, row_groups=[group], columns=list(columns)):
        for index in range(max(first - number, 0), min(stop - number, batch.num_rows)):
            yield batch.slice(index, 1).to_pylist()[0]
        number += batch.num_rows
        if number >= stop:
            return


def _rows_at_once(metadata: pq.FileMetaData, group: int, columns: Sequence[str]) -> int:
    chunks = metadata.row_group(group)
    row = 0
    for index in range(metadata.num_columns):
        if any(f"{chunks.column(index).path_in_schema}.".startswith(f"{name}.") for name in columns):
            is_text = metadata.schema.column(index).logical_type.type == "STRING"
            row += _row_bytes(chunks.column(index), chunks.num_rows, is_text)
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(1, row)))


def _row_bytes(chunk: Any, rows: int, is_text: bool) -> int:
    """Bytes that a row may have in memory: the average or, of values that are stored once for many rows, what
    one of them may have."""
    size = chunk.total_uncompressed_size
    if not chunk.has_dictionary_page or chunk.physical_type != "BYTE_ARRAY":
        return size // max(1, rows)
    if not is_text:
        return size
    packed = chunk.data_page_offset - chunk.dictionary_page_offset
    return min(size, 4 * packed * max(1, size // max(1, chunk.total_compressed_size)))
