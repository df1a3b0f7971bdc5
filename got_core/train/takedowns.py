"""Takedowns while a stage trains: its rows that must go are left out from the next step on.

What is left out is written down first (``takedown_file``), and read again by whoever goes on with the stage.
Belongs here: looking at the list. Not here: what the list stands for (``got_core.curate.takedown``), and what
takes the rows' place (``data.substitutes``).
"""

from __future__ import annotations

from torch import distributed as dist

from got_core.store_faults import StoreUnavailableError
from got_core.train.data.samples import TrainingData
from got_core.train.run import TrainingRun
from got_core.train.takedown_file import Row, read_taken_down, write_taken_down

ID_COLUMNS = ("image_id", "source_id", "pair_id", "sample_id")
"""Columns of a manifest by which a takedown finds a row."""

_Places = dict[str, list[int]]
"""Places in the manifest by sample id."""


class Takedowns:
    """What was taken down of a stage's data, as one of its ranks sees it. All ranks make one together.

    Args:
        run: its data, storage and takedown list.
        name: folder of the stage in the storage.
        data: whose rows are left out.
    """

    def __init__(self, run: TrainingRun, name: str, data: TrainingData, rank: int, ranks: int) -> None:
        self._run, self._name, self._data = run, name, data
        self._rank, self._ranks = rank, ranks
        self._begun = False
        self._version: str | None = None
        """Of the list that rank 0 last read whole."""
        self.rows: list[Row] = []
        self._places: _Places = {}

    def look(self, step: int) -> None:
        """Leave rows that must go out of all steps from ``step`` on, the number of steps that are done.

        All ranks call it together, before the first step and between steps. A list that cannot be read is
        looked at again next time. Raises OSError or ValueError where the stage's own file cannot be read.
        """
        if self._rank == 0:
            if not self._begun:
                self._begun, self.rows = True, self._recorded(step)
            self.rows = self._found(step)
            self._find_places()
        self.rows, places = self._shared((self.rows, self._places))
        for row in self.rows:
            self._data.leave_out(places.get(row["sample_id"], []), row["from_step"])

    def _recorded(self, step: int) -> list[Row]:
        """Steps after ``step`` that a broken off training did are lost: a row is left out from here on."""
        rows = read_taken_down(self._run.storage(), self._name)
        return [row | {"from_step": min(row["from_step"], step)} for row in rows]

    def _found(self, step: int) -> list[Row]:
        """The rows so far and those that the list names by now, recorded."""
        run, storage = self._run, self._run.storage()
        try:
            version = run.takedowns.version(storage) if run.takedowns else ""
            if version == self._version:
                return self.rows
            items = run.takedowns.items(storage) if run.takedowns else frozenset()
            rows = self.rows + self._new(items, step)
            if rows:
                write_taken_down(storage, self._name, run.manifest_hash, rows)
        except (OSError, StoreUnavailableError, ValueError) as error:
            run.report(f"step {step}: the takedown list cannot be read, it is looked at again later: {error}")
            return self.rows
        self._version = version
        if len(rows) > len(self.rows):
            run.report(f"step {step}: {len(rows) - len(self.rows)} samples were taken down and are left out")
        return rows

    def _new(self, items: frozenset[str], step: int) -> list[Row]:
        manifest, known = self._data.manifest, {row["sample_id"] for row in self.rows}
        rows = []
        for place in manifest.found(ID_COLUMNS, items):
            row = manifest.row(place)
            if row["sample_id"] not in known:
                listed = next(row[name] for name in ID_COLUMNS if row.get(name) in items)
                rows.append({"id": listed, "sample_id": row["sample_id"], "from_step": step})
        return rows

    def _find_places(self) -> None:
        """Where rows are that were added since."""
        new = {row["sample_id"] for row in self.rows} - set(self._places)
        self._places |= {sample_id: [] for sample_id in new}
        for place in self._data.manifest.found(["sample_id"], new):
            self._places[self._data.manifest.sample_id(place)].append(place)

    def _shared(self, found: tuple[list[Row], _Places]) -> tuple[list[Row], _Places]:
        """Rank 0's, on all ranks."""
        if self._ranks == 1:
            return found
        box = [found]
        dist.broadcast_object_list(box, 0)
        return box[0]
