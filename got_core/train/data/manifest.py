"""The rows of a training manifest: of all rows NumPy columns, of single rows what is read where it lies.

Belongs here: reaching rows, in memory or mapped from a file. Not here: writing and checking the file
(``manifest_file``), what the columns are (``columns``), and which row is drawn when (``batches``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from got_core.train.config import KINDS
from got_core.train.data.columns import COLUMNS, NONE, ColumnMaker
from got_core.train.mixture import TURNS, group_kind, turns_in

BATCH_ROWS = 1 << 15
"""Rows of a record batch: about 40 MB of a manifest."""
Row = dict[str, Any]
_AT_ONCE = 1 << 16


class TrainingManifest(ABC):
    """Rows of a manifest, by their places from 0. Picklable: a mapped one travels as the name of its file."""

    batches: Sequence[pa.RecordBatch]
    """The rows in order, ``batch_rows`` in each but the last."""
    batch_rows: int

    @abstractmethod
    def column(self, name: str) -> np.ndarray:
        """A column of ``columns.COLUMNS``, (N,), read-only."""

    @property
    @abstractmethod
    def sources(self) -> Sequence[str]:
        """Names of the sources, by the numbers of the column ``source``."""

    @cached_property
    def _rows(self) -> int:
        return sum(batch.num_rows for batch in self.batches)

    def __len__(self) -> int:
        return self._rows

    def row(self, index: int) -> Row:
        """A row by the names of the manifest's columns. Raises IndexError where there is none."""
        batch, place = self._where(index)
        return self._read(batch.slice(place, 1))[0]

    def sample_id(self, index: int) -> str:
        """The id of a row."""
        return self._value(index, "sample_id")

    def kind(self, index: int) -> str:
        """``t2i`` or ``edit``."""
        return self._value(index, "kind")

    def _value(self, index: int, name: str) -> Any:
        batch, place = self._where(index)
        return self._read(batch.column(name).slice(place, 1))[0]

    def _where(self, index: int) -> tuple[pa.RecordBatch, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"the training manifest has {len(self)} rows, and none at {index}")
        number, place = divmod(int(index), self.batch_rows)
        return self.batches[number], place

    def _read(self, part: pa.RecordBatch | pa.Array) -> list[Any]:
        """The values of a part."""
        return self._checked(part).to_pylist()

    def _checked(self, part: Any) -> Any:
        """A part whose values are about to be read, if they can be."""
        part.validate(full=True)
        return part

    def rows(self) -> Iterator[Row]:
        """All rows in order, of which a batch is in memory at a time."""
        for batch in self.batches:
            yield from self._read(batch)

    def of_kind(self, kind: str) -> np.ndarray:
        """Places of the rows of a kind, int32."""
        return _places(self.column("kind") == KINDS.index(kind))

    def of_group(self, name: str) -> np.ndarray:
        """Places of the rows of a group of a mixture (see ``StageConfig.mixture``), int32."""
        kind, _, source = name.partition("/")
        belongs = self.column("kind") == KINDS.index(kind if kind in KINDS else "edit")
        if kind not in KINDS:
            belongs &= np.isin(self.column("turns"), [TURNS.index(one) for one in turns_in(kind)])
        if source:
            known = source in self.sources
            belongs &= self.column("source") == (self.sources.index(source) if known else len(self.sources))
        return _places(belongs)

    def counted(self, groups: Collection[str], left_out: np.ndarray | None = None) -> pl.DataFrame:
        """A table of sources (see ``mixture``): how many rows of each kind, turns and source.

        Turns are told where ``groups`` ask for them; ``left_out`` (N,) marks rows that do not count.
        """
        by_turns = any(group_kind(one) not in KINDS for one in groups)
        names = ("kind", "turns", "source") if by_turns else ("kind", "source")
        rows: Counter[tuple[int, ...]] = Counter()
        for start in range(0, len(self), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            numbers = np.stack([self.column(name)[part] for name in names], axis=1)
            counts = np.ones(len(numbers), bool) if left_out is None else ~left_out[part]
            values, places = np.unique(numbers, axis=0, return_inverse=True)
            sums = np.bincount(places, weights=counts, minlength=len(values)).astype(int)
            rows.update(dict(zip(map(tuple, values.tolist()), sums.tolist(), strict=True)))
        return self._table(names, {one: count for one, count in rows.items() if one[0] != NONE})

    def _table(self, names: Sequence[str], rows: Mapping[tuple[int, ...], int]) -> pl.DataFrame:
        words: dict[str, Sequence[str]] = {"kind": KINDS, "turns": TURNS, "source": self.sources}
        spelled = {name: pl.Series([None] * len(rows), dtype=pl.String) for name in words}
        for place, name in enumerate(names):
            known = words[name]
            values = [None if one[place] == NONE else known[one[place]] for one in rows]
            spelled[name] = pl.Series(values, dtype=pl.String)
        counts = pl.Series([*rows.values()], dtype=pl.Int64)
        return pl.DataFrame({**spelled, "rows": counts}).sort(*words)

    def found(self, names: Sequence[str], values: Collection[str]) -> Iterator[int]:
        """Places of the rows of which one of the columns, where the manifest has it, holds one of the
        values. A batch is read at a time."""
        wanted = pa.array(sorted(values), pa.large_string())
        if not len(wanted):
            return
        for number, batch in enumerate(self.batches):
            hit = np.zeros(batch.num_rows, dtype=bool)
            for name in set(names) & set(batch.schema.names):
                column = self._checked(batch.column(name)).cast(pa.large_string())
                hit |= pc.is_in(column, value_set=wanted).to_numpy(zero_copy_only=False)
            for place in np.flatnonzero(hit).tolist():
                yield number * self.batch_rows + place


class MemoryManifest(TrainingManifest):
    """Rows of a frame, in memory; a column is made when it is asked for first."""

    def __init__(self, frame: pl.DataFrame, batch_rows: int = BATCH_ROWS) -> None:
        self.batch_rows = batch_rows
        self.batches = [*batches_of(frame, batch_rows)]
        self._maker = ColumnMaker()
        self._columns: dict[str, np.ndarray] = {}

    def column(self, name: str) -> np.ndarray:
        if name not in self._columns:
            parts = [np.empty(0, COLUMNS[name]), *(self._maker.of(batch, name) for batch in self.batches)]
            self._columns[name] = np.concatenate(parts)
            self._columns[name].flags.writeable = False
        return self._columns[name]

    @property
    def sources(self) -> list[str]:
        self.column("source")
        return self._maker.sources


def batches_of(frame: pl.DataFrame, batch_rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """The rows of a frame in batches, one of which is made at a time."""
    for part in frame.iter_slices(batch_rows):
        yield from part.to_arrow().combine_chunks().to_batches()


def _places(belongs: np.ndarray) -> np.ndarray:
    return np.flatnonzero(belongs).astype(np.int32)
