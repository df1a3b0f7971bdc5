"""What takes the place of a sample that cannot be had: another row, drawn from the seed and the sample alone.

So the order of all other samples stays, and a rerun with the same faults learns from the same samples.
Belongs here: drawing it. Not here: opening pictures (``pictures``), counting (``faults``), which rows were
taken down (``got_core.train.takedowns``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from got_core.train.data.faults import Faults, TooManySubstitutesError
from got_core.train.data.pictures import PictureError
from got_core.train.data.samples import Fetched, TrainingData, TrainingSample

TRIES = 8
"""Rows that are tried of each circle."""
_KEY = 4
"""Last number of the key of a substitute's generator, apart from those of ``samples``."""


@dataclass(frozen=True)
class Substitutes:
    """Samples of a stage's draws, each of its own row or of a substitute.

    Args:
        data: the rows, and where substitutes are counted (:meth:`take`).
        seed: of the stage.
    """

    data: TrainingData
    seed: int

    def take(
        self,
        row: int,
        circles: Sequence[np.ndarray],
        *,
        index: int,
        step: int = 0,
        across: float = 0.5,
        down: float = 0.5,
    ) -> TrainingSample:
        """As :meth:`find`; what could not be had is counted (see ``faults``)."""
        sample, faults = self.find(row, circles, index=index, step=step, across=across, down=down)
        self.data.faults.count(index, faults)
        return sample

    def find(
        self,
        row: int,
        circles: Sequence[np.ndarray],
        *,
        index: int,
        step: int = 0,
        across: float = 0.5,
        down: float = 0.5,
        fetched: Fetched | None = None,
    ) -> tuple[TrainingSample, Faults]:
        """The sample of a row, cut at a place (see ``TrainingData.take``), and what could not be had.

        Where the row was taken down before ``step``, or a picture cannot be had, it is that of another one:
        of the first of the ``circles`` of rows (that which may share its batch, its group) that has one, cut
        to this row's size.

        Args:
            index: number of the sample since the first step; substitutes follow from it and the seed.
            fetched: rows that were fetched already (see ``TrainingData.fetch``).

        Raises:
            TooManySubstitutesError: where no row of any circle can be had.
        """
        faults: Faults = []
        bucket = int(self.data.bucket[row])
        for chosen in self._rows(row, circles, index, step):
            try:
                sample = self.data.take(chosen, across, down, bucket=bucket, fetched=fetched)
            except PictureError as error:
                faults.append((self.data.sample_id(chosen), error))
                continue
            return sample, faults
        found = f"; the last: {faults[-1][1]}" if faults else ": all of its group were taken down"
        raise TooManySubstitutesError(
            f"sample {self.data.sample_id(row)} cannot be had, and nothing in its place{found}"
        )

    def _rows(self, row: int, circles: Sequence[np.ndarray], index: int, step: int) -> Iterator[int]:
        if not self.data.is_taken_down(row, step):
            yield row
        for number, circle in enumerate(circles):
            # Rows of the circle but the row itself; taken down rows are never opened.
            allowed = circle[(circle != row) & (self.data.taken_down_from[circle] > step)]
            for attempt in range(min(TRIES, len(allowed))):
                key = [self.seed, index, number, attempt, _KEY]
                yield int(allowed[np.random.default_rng(key).integers(len(allowed))])
