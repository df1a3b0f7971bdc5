"""Cells of stored score tables: found by any of their names, or listed where they fail.

Belongs here: the tables of one result, and finding rows in them. Not here: where a model's results lie
(`got_core.inference.why`), what a row says (`readings`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import polars as pl

from got_core.evaluate.scores import FAILURES
from got_core.evaluate.why.address import cell_name, same_sample
from got_core.evaluate.why.readings import (
    MEASURED,
    RIGHT,
    UNSCORED,
    WRONG,
    Adapter,
    Reading,
    adapter_of,
    reading_of,
    with_outside,
    with_plan,
)

if TYPE_CHECKING:
    from got_core.storage import Storage

TABLES = ("verdicts", "samples")
"""Names of the table of a result: of published and judged benchmarks, of those on scenes."""

BESIDES = {"apart": with_plan, "outside": with_outside}
"""Tables beside, and what they add to a reading: pictures against their plans (`evaluate.published.apart`),
changes outside an edit's region (`evaluate.outside.table`)."""

_NEAREST = 3


class UnknownSampleError(LookupError):
    """No cell has that name; says which ones are like it."""


class NoTableError(LookupError):
    """A result without a table of its samples."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One benchmark's result of one model."""

    benchmark: str
    folder: Storage
    """Of scores and table."""

    scores: Mapping[str, Any]
    root: Storage | None = None
    """What names of pictures may be relative to besides: the project's storage."""

    inside: str | None = None
    """The folder's name in the root."""

    @cached_property
    def table(self) -> pl.DataFrame:
        """One row a sample. Raises NoTableError, and ValueError for what is no table."""
        for name in TABLES:
            try:
                frame = self.folder.read_table(name)
            except FileNotFoundError:
                continue
            rows = [self.adapter_of(frame).wanted(row) for row in frame.iter_rows(named=True)]
            return frame.filter(pl.Series(rows, dtype=pl.Boolean))
        raise NoTableError(
            f"{self.folder.url} has scores of {self.benchmark} and no table of its samples "
            f"({' or '.join(TABLES)}.parquet): score it again"
        )

    @staticmethod
    def adapter_of(frame: pl.DataFrame) -> Adapter:
        """How a table's rows are read."""
        return adapter_of(frame.columns)

    @cached_property
    def besides(self) -> dict[str, pl.DataFrame]:
        """Tables beside that are there, by name (BESIDES)."""
        found = {}
        for name in BESIDES:
            try:
                found[name] = self.folder.read_table(name)
            except (FileNotFoundError, ValueError):
                continue
        return found

    @property
    def names(self) -> list[str]:
        """By which its cells are asked for."""
        keys = [name for name in ("index", "sample_id", "sample") if name in self.table.columns]
        return [cell_name(row) for row in self.table.select(keys).iter_rows(named=True)]

    def reading(self, row: Mapping[str, Any]) -> Reading:
        """A row of the table, read, with what the tables beside say of it."""
        reading = reading_of(row, self.adapter_of(self.table))
        for name, join in BESIDES.items():
            if (one := self._beside(name, reading.sample_id)) is not None:
                reading = join(reading, one)
        return reading

    def _beside(self, name: str, sample: str) -> Mapping[str, Any] | None:
        """The row about a sample of a table beside."""
        table = self.besides.get(name)
        key = next(
            (one for one in ("sample_id", "sample") if table is not None and one in table.columns), None
        )
        if table is None or key is None or table.schema[key] != pl.String():
            return None
        return next(table.filter(pl.col(key) == sample).iter_rows(named=True), None)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of a result, or a picture that no result is about."""

    result: Result | None
    reading: Reading
    figure: str | None = None
    """The figure that was asked for, of a benchmark with several."""

    path: str | None = None
    """The picture's local file, where that was asked for."""

    notes: tuple[str, ...] = field(default=())


def find_cell(result: Result, sample: str) -> Cell:
    """The cell of that name: a number, a `sample_id`, a picture's name or id. Raises UnknownSampleError,
    which names the cells whose names are most alike."""
    table = result.table
    for name, figure in _names_of(sample, table.columns):
        for column in ("sample_id", "sample", "index", "image", "image_id", "image_sha256", "edited_sha256"):
            rows = _rows(table, column, name)
            if rows.height:
                return Cell(result=result, reading=result.reading(rows.row(0, named=True)), figure=figure)
    raise UnknownSampleError(_unknown(result, sample))


def _names_of(sample: str, columns: list[str]) -> Iterator[tuple[str, str | None]]:
    yield sample, None
    before, _, last = sample.rpartition("/")
    if before and last in columns:  # as outcomes of edits are named: KEY/FIGURE
        yield before, last


def _rows(table: pl.DataFrame, column: str, name: str) -> pl.DataFrame:
    """Rows that go by a name in a column, none where it is no such name."""
    if column not in table.columns:
        return table.clear()
    values = table[column]
    if column == "index":
        number = int(name) if name.isascii() and name.isdigit() and len(name) < 10 else -1
        return table.filter(values == number)
    if values.dtype != pl.String():
        return table.clear()
    exact = table.filter(values == name)
    if exact.height:
        return exact
    if column == "image":
        return table.filter(values.str.ends_with(f"/{name}")) if "." in name else exact
    if column in ("sample_id", "sample"):
        return table.filter(pl.Series([same_sample(name, one or "") for one in values], dtype=pl.Boolean))
    hashes = len(name) >= 12 and all(one in "0123456789abcdef" for one in name)
    return table.filter(values.str.starts_with(name)) if hashes else exact


def _unknown(result: Result, sample: str) -> str:
    names = result.names
    like = difflib.get_close_matches(sample, names, n=_NEAREST, cutoff=0.0)
    if sample.isascii() and sample.isdigit() and all(one.isdigit() for one in names) and names:
        like = sorted(names, key=lambda one: abs(int(one) - int(sample[:18])))[:_NEAREST]
    nearest = f"; the nearest are {', '.join(map(_shown, like))}" if like else ""
    return (
        f"{result.benchmark} has no sample {_shown(sample)} in {result.folder.url} ({len(names)} samples)"
        f"{nearest}; `got why --failed {result.benchmark}` lists those that fail"
    )


def _shown(name: str) -> str:
    cut = name if len(name) <= 60 else f"{name[:60]}…"
    return cut if cut.isprintable() else repr(cut)


def cell_of_bytes(results: Iterable[Result], sha256: str) -> Cell | None:
    """The cell whose picture has these bytes."""
    for result in results:
        for column in ("image_id", "image_sha256", "edited_sha256"):
            rows = _rows(result.table, column, sha256)
            if rows.height:
                return Cell(result=result, reading=result.reading(rows.row(0, named=True)))
    return None


def cell_of_name(results: Iterable[Result], name: str) -> Cell | None:
    """The one cell whose picture has this name, or a longer one that ends in it."""
    for result in results:
        rows = _rows(result.table, "image", name)
        rows = rows if rows.height else _rows(result.table, "sample", PurePosixPath(name).stem)
        if rows.height == 1:
            return Cell(result=result, reading=result.reading(rows.row(0, named=True)))
    return None


# -- failing ones ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Failed:
    """Cells that fail, the first of them."""

    cells: tuple[Reading, ...]
    count: int
    """All that fail."""

    of: int
    ordered: str
    """In words."""


def failed_cells(result: Result, *, task: str | None, cause: str | None, most: int) -> Failed:
    """Cells that are wrong or not scored, in the table's order; of a benchmark without verdicts the ones with
    the lowest values, whether or not that is much.

    `cause`: one of CAUSES. Raises ValueError for another one, and for a task that the table does not have; it
    names those that there are.
    """
    readings = [result.reading(row) for row in result.table.iter_rows(named=True)]
    if task is not None:
        readings = _of_task(readings, task)
    judged = any(one.verdict.state in (RIGHT, WRONG) for one in readings)
    states = (WRONG, UNSCORED) if judged else (MEASURED, UNSCORED)
    kept = [one for one in readings if one.verdict.state in states]
    if cause is not None:
        kept = _of_cause(kept, cause.replace(" ", "_"))
    if not judged:
        kept.sort(key=lambda one: (one.verdict.state != UNSCORED, _worst(one)))
    ordered = "wrong or not scored" if judged else "the lowest first"
    return Failed(cells=tuple(kept[:most]), count=len(kept), of=len(readings), ordered=ordered)


_NOT_SCORED = UNSCORED.replace(" ", "_")
CAUSES = (*FAILURES, _NOT_SCORED)
"""Of cells that fail."""


def _of_cause(readings: list[Reading], cause: str) -> list[Reading]:
    if cause not in CAUSES:
        raise ValueError(f"there is no cause {cause}; there are {', '.join(CAUSES)}")
    if cause == _NOT_SCORED:
        return [one for one in readings if one.verdict.state == UNSCORED]
    return [one for one in readings if one.verdict.cause == cause]


def _of_task(readings: list[Reading], task: str) -> list[Reading]:
    kept = [one for one in readings if one.task == task]
    if not kept:
        known = ", ".join(dict.fromkeys(one.task for one in readings if one.task))
        raise ValueError(f"no cell has the task {task}; there are {known or 'none'}")
    return kept


_FIRST = ("clip_dir", "clip_t", "clip_i")


def _worst(one: Reading) -> float:
    """The figure by which cells without a verdict are ordered: the value, else the first one where higher is
    better and copying does not win."""
    if one.verdict.value is not None:
        return one.verdict.value
    given = [one.verdict.figures[name] for name in _FIRST if name in one.verdict.figures]
    numbers = [value for value in given if isinstance(value, float)]
    return numbers[0] if numbers else 0.0
