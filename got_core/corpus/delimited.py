"""Delimited text (CSV): records as Python's csv module and pandas read them, and the lines that are none.

A quote inside of an unquoted field is a character, text after a closing quote goes on, missing cells at a
line's end are empty. Belongs here: encodings, delimiters, lines and fields. Does not belong here: which
columns mean what (``tables``, ``pair_table``).
"""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

import polars as pl

DELIMITERS = ",;\t"
_MAX_LINE = 1024**2
_MAX_LINES = 100
"""Lines of one record, at most: more are a quote that was never closed."""
_NOT_UTF8 = re.compile(r"[\udc80-\udcff]")
_CHUNK = 100_000


class Record(NamedTuple):
    """One record of a table, or one line that is none."""

    line: int
    """Where it begins, from 1."""
    cells: list[str]
    fault: str | None
    """Why it is none; null = fine."""


def read_delimited(file: IO[bytes], columns: Sequence[str], where: str) -> tuple[list[str], pl.DataFrame]:
    """All column names of a table, and a frame of those of `columns` that it has (in any capitals), all text,
    with `line` and `fault`; empty cells are null, and a faulty line has nulls and its fault.

    Comma, semicolon or tab, whichever finds more of the columns in the header; UTF-8, or marked UTF-16.

    Raises:
        ValueError: it is empty, its header cannot be read or names a column twice, or no line of it can be
            read; the message names the table.
    """
    lines = _Lines(_text(file))
    header, delimiter = _header(lines, columns, where)
    wanted = [name for name in columns if name in header]
    parts: list[pl.DataFrame] = []
    schema = {**dict.fromkeys(wanted, pl.String), "line": pl.Int64, "fault": pl.String}
    rows: list[list[str | int | None]] = []
    places = [header.index(name) for name in wanted]
    for record in _records(lines, delimiter, len(header)):
        cells = [None if record.fault else _cell(record.cells, place) for place in places]
        rows.append([*cells, record.line, record.fault])
        if len(rows) >= _CHUNK:
            parts.append(pl.DataFrame(rows, schema=schema, orient="row"))
            rows = []
    frame = pl.concat([*parts, pl.DataFrame(rows, schema=schema, orient="row")])
    if frame.height and not frame["fault"].null_count():
        raise ValueError(f"{where} cannot be read: line {frame['line'][0]}: {frame['fault'][0]}")
    return header, frame


def _cell(cells: list[str], place: int) -> str | None:
    return (cells[place].strip() or None) if place < len(cells) else None


def _text(file: IO[bytes]) -> io.TextIOWrapper:
    wide = file.read(2) in (b"\xff\xfe", b"\xfe\xff")
    file.seek(0)
    encoding = "utf-16" if wide else "utf-8-sig"
    return io.TextIOWrapper(file, encoding, "replace" if wide else "surrogateescape", newline="")


class _Lines:
    """Lines of a text, with a place to put some back; a record may take several of them."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text, self._back = text, deque[str]()
        self.number = 0
        """Of the line taken last."""
        self.taken: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if len(self.taken) >= _MAX_LINES:
            raise StopIteration
        line = self._back.popleft() if self._back else self._read()
        if not line:
            raise StopIteration
        self.number += 1
        self.taken.append(line)
        return line

    def _read(self) -> str:
        line = self._text.readline(_MAX_LINE)
        rest = line
        while len(rest) == _MAX_LINE and not rest.endswith(("\n", "\r")):  # more than any field may have
            rest = self._text.readline(_MAX_LINE)
        return line

    def put_back_rest(self) -> str:
        """Put back all lines of the record but the first, which is returned."""
        first, *others = self.taken
        self._back.extendleft(reversed(others))
        self.number -= len(others)
        self.taken = [first]
        return first


def _header(lines: _Lines, columns: Sequence[str], where: str) -> tuple[list[str], str]:
    first = next(lines, "")
    if not first.strip():
        raise ValueError(f"{where} is empty; it needs a header with {', '.join(columns)}")
    if _NOT_UTF8.search(first) or "\0" in first or len(first) >= _MAX_LINE:
        raise ValueError(
            f"{where} cannot be read: its first line is no text in UTF-8; save it as CSV in UTF-8"
        )
    read = [(_split(first, one) or [], one) for one in DELIMITERS]
    lower = [([cell.strip().lower() for cell in cells], one) for cells, one in read]
    header, delimiter = max(lower, key=lambda found: len(set(found[0]) & set(columns)))
    twice = [name for name in columns if header.count(name) > 1]
    if twice:
        raise ValueError(f"{where} names the column {twice[0]} twice")
    return header, delimiter


def _records(lines: _Lines, delimiter: str, width: int) -> Iterator[Record]:
    while True:
        lines.taken = []
        cells = _strict(lines, delimiter)
        if not lines.taken:
            return
        number = lines.number - len(lines.taken) + 1
        several = len(lines.taken) > 1
        if cells is None or (several and len(cells) != width):
            cells = _split(lines.put_back_rest(), delimiter)
        if cells is not None and len(lines.taken) == 1 and not lines.taken[0].strip():
            continue
        yield Record(number, cells or [], _fault(cells, lines.taken, width))


def _strict(lines: _Lines, delimiter: str) -> list[str] | None:
    """The next record, which may go over several lines; None if it is not well formed."""
    try:
        return next(csv.reader(lines, delimiter=delimiter, strict=True), None)
    except csv.Error:
        return None


def _split(line: str, delimiter: str) -> list[str] | None:
    """One line by itself, as it comes; None if a quote is open at its end."""
    reader = csv.reader([line, "\n"], delimiter=delimiter)
    try:
        cells = next(reader)
    except csv.Error:
        return None
    return cells if reader.line_num == 1 else None


def _fault(cells: list[str] | None, lines: list[str], width: int) -> str | None:
    if any(len(line) >= _MAX_LINE for line in lines):
        return f"longer than {_MAX_LINE} characters"
    if any("\0" in line for line in lines):
        return "a NUL character"
    if any(_NOT_UTF8.search(line) for line in lines):
        return f"not UTF-8: {_excerpt(lines[0])}"
    if cells is None:
        return f"a quote that is never closed, or a field of over 131072 characters: {_excerpt(lines[0])}"
    if any(cell.strip() for cell in cells[width:]):
        advice = f"quote those with a delimiter: {_excerpt(lines[0])}"
        return f"{len(cells)} fields under a header of {width}; {advice}"
    return None


def _excerpt(line: str) -> str:
    return repr(
        line.rstrip("\r\n").encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")[:80]
    )
