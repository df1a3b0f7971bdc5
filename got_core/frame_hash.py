"""One hash for a table's values, whatever file, chunks or encoding they come from.

Belongs here: the bytes that a value counts as. Not here: hashes of files (`local_files`) and of settings
(`digests`).
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import polars as pl


def content_hash(frame: pl.DataFrame) -> str:
    """SHA-256 (64 hex digits) over a frame's schema and values.

    Equal for equal frames whatever their chunking, parquet encoding or compression; different if a column's
    name, type or place, a value, a null or the order of rows differs.

    Raises:
        TypeError: a column holds Python objects, which have no canonical bytes.
    """
    digest = hashlib.sha256(f"{frame.height}\0".encode())
    for series in frame.get_columns():
        digest.update(json.dumps([series.name, str(series.dtype)]).encode())
        _hash_series(digest, series)
    return digest.hexdigest()


def _hash_series(digest: Any, series: pl.Series) -> None:
    """Length and null positions, then the values that are not null in an encoding fixed by the type."""
    digest.update(f"[{len(series)}]".encode())
    import numpy as np

    digest.update(np.packbits(series.is_null().to_numpy()).tobytes())
    values, dtype = series.drop_nulls(), series.dtype
    if isinstance(dtype, pl.Struct):
        for field in values.struct.unnest().get_columns() if dtype.fields else []:
            _hash_series(digest, field)
    elif dtype in (pl.List, pl.Array):
        _hash_lists(digest, values.arr.to_list() if dtype == pl.Array else values)
    elif dtype in (pl.String, pl.Binary, pl.Categorical, pl.Enum, pl.Decimal):
        _hash_bytes(digest, values)
    elif dtype == pl.Object:
        raise TypeError(
            f"column {series.name!r} holds Python objects and cannot be hashed; give it a polars type"
        )
    elif dtype != pl.Null:
        _hash_numbers(digest, values)


def _hash_lists(digest: Any, lists: pl.Series) -> None:
    lengths = lists.list.len()
    digest.update(lengths.cast(pl.UInt64).to_numpy().tobytes())
    # Polars versions differ in whether an empty list explodes into a null or into nothing.
    _hash_series(digest, lists.filter(lengths > 0).explode())


def _hash_bytes(digest: Any, values: pl.Series) -> None:
    binary = values if values.dtype == pl.Binary else values.cast(pl.String).cast(pl.Binary)
    digest.update(binary.bin.size().cast(pl.UInt64).to_numpy().tobytes())
    digest.update(b"".join(binary.to_list()))


def _hash_numbers(digest: Any, values: pl.Series) -> None:
    import numpy as np

    physical = values.to_physical()
    if physical.dtype.is_float():
        physical = physical.fill_nan(float("nan"))  # one bit pattern for every NaN
    if physical.dtype == pl.Boolean:
        physical = physical.cast(pl.UInt8)
    array = np.ascontiguousarray(physical.to_numpy())
    digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
