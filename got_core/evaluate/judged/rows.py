"""Rows of a download in one of the published formats, and the pictures that they name.

Belongs here: parquet and Arrow files with pictures in them, JSON and JSON lines with pictures beside them.
Not here: folders of pairs (`pairs`), or what a row means (`samples`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from got_core.evaluate.emu_edit.parquet import ParquetPictures, files_of_split, rows_of
from got_core.evaluate.emu_edit.samples import BenchmarkDataError, Faults, Pictures, text_of
from got_core.evaluate.judged.pairs import pair_rows
from got_core.evaluate.judged.shape import Source, columns_in

KEY = "_key"
"""Column with the key of a row of a JSON object."""


@dataclass(frozen=True)
class Row:
    """One row, not yet looked at."""

    where: str
    """Its place, for errors."""

    values: dict[str, Any]
    pictures: dict[str, str]
    """Names of pictures by the column that holds them; empty where columns hold names of files."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """All rows of a download."""

    rows: list[Row]
    pictures: Pictures | None
    """Those that the rows hold; None: they are files."""


def read_rows(source: Source, place: Path, faults: Faults) -> Rows:
    """The rows of a download below `place`; what is wrong with single ones goes to `faults`.

    Raises BenchmarkDataError where the whole cannot be read or is of another format.
    """
    path = place / source.path
    if source.format == "parquet":
        return _parquet(source, path)
    if source.format == "arrow":
        return _arrow(source, path) if _arrow_files(source, path) else _parquet(source, path)
    if source.format == "folders":
        found = [Row(where, values, {}) for where, values in pair_rows(path, source.folders, faults)]
    else:
        read = _json if source.format == "json" else _json_lines
        found = [Row(where, values, {}) for where, values in read(path, faults)]
    return Rows(rows=found, pictures=None)


def text_value(value: Any) -> str:
    """A value as templates take it; empty for what is no text, number or flag."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return text_of(value).strip()


# -- files with the pictures in them -----------------------------------------------------------------


def _columns(source: Source) -> tuple[list[str], list[str]]:
    """Columns of values, and of pictures."""
    held = [name for template in source.shown.values() for name in columns_in([template])]
    wanted = [*columns_in(source.fields.values()), *source.only]
    sets = [name for one in source.sets.values() for name in one]
    return [name for name in dict.fromkeys([*wanted, *sets]) if name not in held], list(dict.fromkeys(held))


def _parquet(source: Source, path: Path) -> Rows:
    values, held = _columns(source)
    rows, places = [], {}
    for file in files_of_split(path, source.split):
        for number, row in enumerate(rows_of(file, values, held)):
            names = {one: _name(source, path, file, number, one) for one in held}
            places.update({name: (file, one, number) for one, name in names.items()})
            rows.append(Row(f"{file.name} row {number}", row, names))
    return Rows(rows=rows, pictures=ParquetPictures(places))


def _name(source: Source, path: Path, file: Path, number: int, column: str) -> str:
    inside = "" if file == path else f"/{file.relative_to(path).as_posix()}"
    return f"{source.path}{inside}#{number}/{column}"


def _arrow_files(source: Source, path: Path) -> list[Path]:
    """Those of the split where each has a folder, else all."""
    folder = path / source.split if (path / source.split).is_dir() else path
    return [path] if path.suffix == ".arrow" else sorted(folder.rglob("*.arrow"))


def _arrow(source: Source, path: Path) -> Rows:
    values, held = _columns(source)
    rows, places = [], {}
    for file in _arrow_files(source, path):
        table = _ArrowFile(file)
        if missing := [name for name in (*values, *held) if name not in table.columns]:
            raise BenchmarkDataError(
                f"{file} lacks the columns {', '.join(missing)}: this is another data set"
            )
        for number, row in enumerate(table.rows(values)):
            names = {one: _name(source, path, file, number, one) for one in held}
            places.update({name: (table, one, number) for one, name in names.items()})
            rows.append(Row(f"{file.name} row {number}", row, names))
    return Rows(rows=rows, pictures=ArrowPictures(places))


class _ArrowFile:
    """One file as `datasets` keeps them, mapped and not read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _table(self) -> Any:
        import pyarrow as pa

        try:
            source = pa.memory_map(str(self.path))
            try:
                return pa.ipc.open_stream(source).read_all()
            except pa.ArrowInvalid:
                return pa.ipc.open_file(source).read_all()
        except (pa.ArrowException, OSError) as error:
            raise BenchmarkDataError(f"{self.path} is no Arrow file: {error}; download it again") from error

    @property
    def columns(self) -> list[str]:
        """Their names."""
        return list(self._table.column_names)

    def rows(self, columns: Sequence[str]) -> list[dict[str, Any]]:
        """All rows of these columns."""
        return list(self._table.select(list(columns)).to_pylist())

    def picture(self, column: str, row: int) -> bytes:
        """The bytes of one; none where it holds none."""
        value = self._table.column(column)[row].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        return data if isinstance(data, bytes) else b""


class ArrowPictures:
    """Pictures of Arrow files by name, each read when it is asked for."""

    def __init__(self, places: dict[str, tuple[_ArrowFile, str, int]]) -> None:
        self._places = places

    def names(self) -> Collection[str]:
        """Of the pictures that there are."""
        return self._places.keys()

    def read(self, names: Sequence[str]) -> dict[str, bytes]:
        """Their bytes, none where a row has none."""
        return {name: self._places[name][0].picture(*self._places[name][1:]) for name in dict.fromkeys(names)}


# -- files with names of pictures --------------------------------------------------------------------


class FilePictures:
    """Pictures that are files below a folder, by their names in it."""

    def __init__(self, root: Path, names: Collection[str]) -> None:
        self._root, self._names = root, frozenset(names)

    def names(self) -> Collection[str]:
        """Of the pictures that there are."""
        return self._names

    def read(self, names: Sequence[str]) -> dict[str, bytes]:
        """Their bytes, none for a file that is gone by now."""
        return {name: self._bytes(name) for name in dict.fromkeys(names)}

    def _bytes(self, name: str) -> bytes:
        try:
            return (self._root / name).read_bytes()
        except FileNotFoundError:
            return b""


def stays_below(name: str) -> bool:
    """Whether a name from a file of somebody else names a file below its folder."""
    path = PurePosixPath(name)
    return bool(path.name) and not path.is_absolute() and ".." not in path.parts and "\\" not in name


def _json(path: Path, faults: Faults) -> Iterator[tuple[str, dict[str, Any]]]:
    data = _loaded(path, path.name, _text(path))
    if isinstance(data, dict):
        rows = [(f"{path.name} {key!r}", one, key) for key, one in data.items()]
    elif isinstance(data, list):
        rows = [(f"{path.name} row {number}", one, str(number)) for number, one in enumerate(data)]
    else:
        raise BenchmarkDataError(f"{path} must hold a list or an object of rows, not {type(data).__name__}")
    for where, one, key in rows:
        if isinstance(one, dict):
            yield where, {**one, KEY: key}
        else:
            faults.add("rows that are no objects", where)


def _json_lines(path: Path, faults: Faults) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(_text(path).split("\n"), start=1):
        where = f"{path.name} line {number}"
        try:
            one = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            one = ()
        if isinstance(one, dict):
            yield where, {**one, KEY: str(number)}
        elif one is not None:
            faults.add("lines that are no JSON objects", where)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BenchmarkDataError(f"{path} cannot be read: {error}; download it again") from error


def _loaded(path: Path, what: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BenchmarkDataError(f"{path}: {what} is not JSON: {error}; download it again") from error
