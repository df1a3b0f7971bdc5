"""Rows and pictures from parquet files as the Hugging Face hub serves data sets.

Belongs here: the files of a split, their rows without pictures, pictures by file and row in bounded memory.
Not here: what the columns mean (`emu`, `magicbrush`).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from got_core.evaluate.emu_edit.samples import BenchmarkDataError

_SHARD = re.compile(r"(?P<split>.+?)-\d{5}-of-\d{5}(-[0-9a-f]+)?\.parquet")
_BATCH = 8  # pictures read at once from a file
_OPEN = 2  # a shard's end and the next one's beginning, or sources and targets


def split_of(path: Path) -> str | None:
    """`test` for `test-00000-of-00003.parquet`; None for a file that names no split."""
    found = _SHARD.fullmatch(path.name)
    return found["split"] if found else None


def parquet_files(data: Path | str) -> list[Path]:
    """The file itself, or all parquet files below a folder, sorted. Raises BenchmarkDataError for none."""
    place = Path(data)
    files = [place] if place.is_file() else sorted(place.rglob("*.parquet")) if place.is_dir() else []
    if not files:
        raise BenchmarkDataError(
            f"{place} is neither a parquet file nor a folder with any: name the folder that the data set was "
            "downloaded to"
        )
    return files


def files_of_split(data: Path | str, split: str) -> list[Path]:
    """Those of a split. A file that names no split counts if it is alone."""
    files = parquet_files(data)
    if len(files) == 1 and split_of(files[0]) is None:
        return files
    if chosen := [path for path in files if split_of(path) == split]:
        return chosen
    known = sorted({split_of(path) or path.name for path in files})
    raise BenchmarkDataError(
        f"{data} has no files of the split {split!r}, only of {', '.join(known)}: choose one of them"
    )


def rows_of(
    path: Path,
    columns: Sequence[str],
    pictures: Sequence[str],
    *,
    texts: Sequence[str] = (),
    numbers: Sequence[str] = (),
) -> Iterator[dict[str, Any]]:
    """Rows of these columns, of which some must be `texts` or whole `numbers`; those with pictures have to be
    there and are not read."""
    file = _open(path)
    there = file.schema_arrow.names
    if missing := [name for name in (*columns, *pictures) if name not in there]:
        raise BenchmarkDataError(
            f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(there)}: this is another data "
            "set"
        )
    for name in pictures:
        _check_pictures(path, name, file.schema_arrow.field(name).type)
    for name in (*texts, *numbers):
        _check_values(path, name, file.schema_arrow.field(name).type, text=name in texts)
    with _named(path):
        for batch in file.iter_batches(columns=list(columns)):
            yield from batch.to_pylist()


def has_pictures(path: Path, name: str) -> bool:
    """Whether a file has a column of pictures that it may have or not."""
    import pyarrow as pa

    schema = _open(path).schema_arrow
    kind = schema.field(name).type if name in schema.names else None
    return kind is not None and pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0


def _check_pictures(path: Path, name: str, kind: Any) -> None:
    import pyarrow as pa

    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        raise BenchmarkDataError(
            f"{path}: the column {name} must hold pictures as the hub keeps them, a struct with `bytes`, and "
            f"is {kind}: download the parquet files of the data set as they are"
        )


def _check_values(path: Path, name: str, kind: Any, *, text: bool) -> None:
    import pyarrow as pa

    plain, types = (kind.value_type if pa.types.is_dictionary(kind) else kind), pa.types
    fits = (types.is_string, types.is_large_string, types.is_string_view) if text else (types.is_integer,)
    if not any(one(plain) for one in (*fits, types.is_null)):
        raise BenchmarkDataError(
            f"{path}: the column {name} must hold {'texts' if text else 'whole numbers'} and is of type "
            f"{kind}: download the parquet files of the data set as they are"
        )


class ParquetPictures:
    """Pictures of columns, by name. A file is read forward, a few rows at a time, so names are best asked for
    in the order of their rows.

    Memory: what one row group of each of the last two columns takes (Arrow reads a group's dictionary of
    pictures whole; the hub's files have 100 rows a group).
    """

    def __init__(self, places: Mapping[str, tuple[Path, str, int]]) -> None:
        self._places = dict(places)
        """File, column and row of each name."""
        self._readers: dict[tuple[Path, str], _Reader] = {}

    def names(self) -> Collection[str]:
        """Of the pictures that there are."""
        return self._places.keys()

    def read(self, names: Sequence[str]) -> dict[str, bytes]:
        """Their bytes, none where a row has none. Raises BenchmarkDataError for a damaged file."""
        rows: dict[tuple[Path, str], list[tuple[int, str]]] = defaultdict(list)
        for name in dict.fromkeys(names):
            path, column, row = self._places[name]
            rows[path, column].append((row, name))
        return {
            name: self._reader(*place).read(row) for place, some in rows.items() for row, name in sorted(some)
        }

    def _reader(self, path: Path, column: str) -> _Reader:
        reader = self._readers.pop((path, column), None) or _Reader(path, column)
        self._readers[path, column] = reader  # the last one is the one used last
        while len(self._readers) > _OPEN:
            del self._readers[next(iter(self._readers))]
        return reader


class _Reader:
    """One column of pictures, at the place that was read last."""

    def __init__(self, path: Path, column: str) -> None:
        self._path, self._column, self._file = path, column, _open(path)
        sizes = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        self._starts = [sum(sizes[:i]) for i in range(len(sizes))]
        self._group = -1
        self._first, self._batch = 0, []  # type: int, list[Any]
        self._batches: Iterator[Any] = iter(())

    def read(self, row: int) -> bytes:
        group = bisect_right(self._starts, row) - 1
        with _named(self._path):
            if group != self._group or row < self._first:
                self._start(group)
            while row >= self._first + len(self._batch):
                self._first += len(self._batch)
                self._batch = next(self._batches).column(0).to_pylist()
        return (self._batch[row - self._first] or {}).get("bytes") or b""

    def _start(self, group: int) -> None:
        self._group, self._first, self._batch = group, self._starts[group], []
        self._batches = self._file.iter_batches(
            batch_size=_BATCH, row_groups=[group], columns=[f"{self._column}.bytes"]
        )


def _open(path: Path) -> Any:
    import pyarrow.parquet as pq

    with _named(path):
        return pq.ParquetFile(path, memory_map=True, pre_buffer=False, buffer_size=1 << 20)


class _named:
    """Arrow's errors about a file, with its name."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        import pyarrow as pa

        if isinstance(error, pa.ArrowException | OSError | StopIteration):
            raise BenchmarkDataError(
                f"{self._path} is not a readable parquet file: {error}; download it again"
            ) from error
