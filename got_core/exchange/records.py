"""Records of jsonl, json and parquet files, one at a time, with the fault of each one that cannot be read.

Belongs here: files to dictionaries. Not here: what a column means (`importer`).
"""

from __future__ import annotations

import io
import json
import textwrap
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import IO, Any, NamedTuple

from got_core.corpus.reader import SCATTERED
from got_core.filesystems import open_filesystem
from got_core.storage import local_path

MAX_LINE = 16 << 20
"""Bytes of a line of jsonl, at most; a longer one is quarantined."""
MAX_DOCUMENT = 2 << 30
"""Bytes of a json file, at most: it is read as a whole, unlike jsonl and parquet."""
MAX_KEPT = 100_000
"""Characters of a faulty record that are kept as they were."""


class Record(NamedTuple):
    """One record of a file: its values, or why there are none."""

    file: str
    row: int
    """Line of a jsonl file, or place in a json list or parquet table, from 1."""
    values: dict[str, Any] | None
    error: str | None
    """`reason: detail`; None where there are values."""
    raw: str
    """The record as text, if it could not be read; else empty."""


class RecordError(ValueError):
    """A record that is not taken; `reason` is short, `detail` says what and how much."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class RecordGroup(NamedTuple):
    """Records that are stored together, and their large values, which are read a column at a time."""

    records: Iterator[Record]
    values: Callable[[str], Iterator[Any]]
    """The values of a large column, one for each record; None where there is none."""


def read_records(
    url: str, columns: Sequence[str] | None = None, fs_options: dict[str, Any] | None = None
) -> Iterator[Record]:
    """Records of a file in order; the format goes by the name's ending (.jsonl, .json, .parquet).

    `columns`: the only ones needed; others of a parquet file are not read at all. Raises FileNotFoundError,
    or ValueError for a file that is none of these formats or broken as a whole; both name the file.
    """
    with _opened(url, fs_options) as file:
        yield from _reader(url)(file, url, columns)


def read_groups(
    url: str, columns: Sequence[str], large: Sequence[str], fs_options: dict[str, Any] | None = None
) -> Iterator[RecordGroup]:
    """As `read_records`, but the values of `large` columns come apart from the records of their row group, so
    that two columns of pictures are never in memory together. A group is to be used before the next."""
    with _opened(url, fs_options) as file:
        if _reader(url) is _parquet:
            yield from _groups(file, url, columns, large)
            return
        for record in _reader(url)(file, url, columns):
            yield RecordGroup(iter([record]), partial(_value, record))


def _value(record: Record, name: str) -> Iterator[Any]:
    yield (record.values or {}).get(name)


def check_columns(url: str, required: Sequence[str], mapping: str, fs_options: dict[str, Any] | None) -> None:
    """Raise ValueError if a parquet file, or the first readable record of another, lacks a required column;
    `mapping` is where the right names belong."""
    with _opened(url, fs_options) as file:
        if _reader(url) is _parquet:
            found = _column_names(file, url)
        else:
            records = _reader(url)(file, url, None)
            found = next((set(_names(one.values)) for one in records if one.values), set(required))
    missing = [name for name in required if name not in found]
    if missing:
        top = sorted(name for name in found if name.rpartition(".")[0] not in found)
        known = textwrap.shorten(", ".join(top), 500, placeholder=" ...")
        raise ValueError(
            f"{url} has no column {', '.join(missing)}; it has {known}: name the right ones in the {mapping}"
        )


def _names(values: dict[str, Any], before: str = "") -> Iterator[str]:
    """Names of all columns, with dots for those inside of nested records."""
    for name, value in values.items():
        yield before + name
        if isinstance(value, dict):
            yield from _names(value, f"{before}{name}.")


def _reader(url: str) -> Reader:
    reader = next((read for ending, read in _READERS.items() if url.lower().endswith(ending)), None)
    if reader is None:
        raise ValueError(f"{url} is not a file that can be imported: need one of {', '.join(_READERS)}")
    return reader


def _opened(url: str, fs_options: dict[str, Any] | None) -> IO[bytes]:
    scattered = _reader(url) is _parquet
    fs, path = open_filesystem(str(local_path(url) or url), **(fs_options or {}))
    try:
        return fs.open(path, "rb", **(SCATTERED if scattered else {}))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise FileNotFoundError(f"{url} does not exist or is no file") from error


def value_of(values: dict[str, Any], column: str) -> Any:
    """The value of a column; a dotted name reaches into nested records; None where there is none."""
    if column in values:
        return values[column]
    found: Any = values
    for part in column.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def record_text(values: dict[str, Any]) -> str:
    """A record as JSON, for the quarantine table; bytes are replaced by their length."""
    text = json.dumps(values, ensure_ascii=True, default=_spelled)
    return text if len(text) <= MAX_KEPT else text[:MAX_KEPT] + " ..."


def _spelled(value: Any) -> str:
    return f"{len(value)} bytes" if isinstance(value, bytes | bytearray) else str(value)[:200]


def _jsonl(file: IO[bytes], url: str, columns: Sequence[str] | None) -> Iterator[Record]:
    row, file = 0, io.BufferedReader(file)  # type: ignore[type-var]  # s3fs's readline has no limit
    while line := file.readline(MAX_LINE + 1):
        row += 1
        if len(line) > MAX_LINE:
            raw = _raw_text(line)
            while line and not line.endswith(b"\n"):
                line = file.readline(MAX_LINE + 1)
            yield Record(url, row, None, f"too_long: a line of more than {MAX_LINE} bytes", raw)
        elif line.strip():
            yield _json_record(url, row, line)


def _json_record(url: str, row: int, line: bytes) -> Record:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Record(url, row, None, f"not_json: {_short(error)}", _raw_text(line))
    return _object_record(url, row, values)


def _object_record(url: str, row: int, values: Any) -> Record:
    if not isinstance(values, dict):
        raw = record_text({"value": values})
        return Record(url, row, None, f"not_an_object: {type(values).__name__} instead of an object", raw)
    return Record(url, row, values, None, "")


def _json(file: IO[bytes], url: str, columns: Sequence[str] | None) -> Iterator[Record]:
    data = file.read(MAX_DOCUMENT + 1)
    if len(data) > MAX_DOCUMENT:
        raise ValueError(f"{url} has more than {MAX_DOCUMENT} bytes; convert it to jsonl, which is streamed")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{url} is not valid JSON: {_short(error)}") from error
    if isinstance(document, dict):
        lists = [value for value in document.values() if isinstance(value, list)]
        document = lists[0] if len(lists) == 1 else None
    if not isinstance(document, list):
        raise ValueError(f"{url} must hold a list of records, or one object with one such list")
    for row, values in enumerate(document, start=1):
        yield _object_record(url, row, values)


def _parquet(file: IO[bytes], url: str, columns: Sequence[str] | None) -> Iterator[Record]:
    for group in _groups(file, url, columns, ()):
        yield from group.records


def _groups(
    file: IO[bytes], url: str, columns: Sequence[str] | None, large: Sequence[str]
) -> Iterator[RecordGroup]:
    import pyarrow as pa

    from got_core.corpus.parquet import group_rows, open_parquet

    def values(group: int, wanted: list[str]) -> Iterator[dict[str, Any]]:
        try:
            yield from group_rows(file, table.metadata, group, wanted)
        except (pa.ArrowException, OSError) as error:
            raise _not_parquet(url, error) from error

    def group_of(group: int, before: int) -> RecordGroup:
        found = (Record(url, row, one, None, "") for row, one in enumerate(values(group, small), before + 1))
        return RecordGroup(found, lambda name: (one.get(name) for one in values(group, _present(name))))

    def _present(name: str) -> list[str]:
        return [name] if name in table.schema_arrow.names else []

    try:
        table = open_parquet(file)
    except (pa.ArrowException, OSError) as error:
        raise _not_parquet(url, error) from error
    small = [name for name in _stored_columns(table.schema_arrow.names, columns) if name not in large]
    before = 0
    for group in range(table.num_row_groups):
        yield group_of(group, before)
        before += table.metadata.row_group(group).num_rows


def _column_names(file: IO[bytes], url: str) -> set[str]:
    import pyarrow as pa

    from got_core.corpus.parquet import open_parquet

    def names(fields: Any, before: str = "") -> Iterator[str]:
        for field in fields:
            yield before + field.name
            if pa.types.is_struct(field.type):
                yield from names(field.type, f"{before}{field.name}.")

    try:
        return set(names(open_parquet(file).schema_arrow))
    except (pa.ArrowException, OSError) as error:
        raise _not_parquet(url, error) from error


def _not_parquet(url: str, error: BaseException) -> ValueError:
    return ValueError(f"{url} is not a readable parquet file: {_short(error)}")


def _stored_columns(names: list[str], columns: Sequence[str] | None) -> list[str]:
    """Those of a file's columns that are wanted, by their own or by a dotted name."""
    if columns is None:
        return names
    wanted = {*columns, *(name.partition(".")[0] for name in columns)}
    return [name for name in names if name in wanted]


def _raw_text(line: bytes) -> str:
    return line[:MAX_KEPT].decode("utf-8", "backslashreplace").rstrip("\n")


def _short(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__} {error}".split())[:200]


Reader = Callable[[IO[bytes], str, Sequence[str] | None], Iterator[Record]]
_READERS: dict[str, Reader] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".parquet": _parquet,
}
