"""What takes the place of a sample that cannot be had: another row, drawn from the seed and the sample alone.

So the order of all other samples stays, and a rerun with the same faults learns from the same samples.
Belongs here: drawing it, and counting. Not here: opening pictures (``pictures``), and which rows were taken
down (``got_core.train.takedowns``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from got_core.train.data.pictures import PictureError

if TYPE_CHECKING:
    from got_core.train.data.samples import TrainingData, TrainingSample

TRIES = 8
"""Rows that are tried of each circle."""
WINDOW = 2000
"""Samples of a worker over which the share of substitutes is looked at."""
AT_LEAST = 10
"""Substitutes among them that are never too many, unless none is allowed."""
LISTED = 20
"""Samples that are named with their reason, in the log of a worker and in what it leaves."""

_KEY = 4
"""Last number of the key of a substitute's generator, apart from those of ``samples``."""


class TooManySubstitutesError(RuntimeError):
    """More pictures than the recipe allows cannot be had."""


@dataclass
class PictureFaults:
    """Samples of one worker whose pictures could not be had."""

    max_share: float = 0.01
    """Largest share of substitutes among the last WINDOW samples; 0 allows none."""
    report: Callable[[str], None] | None = None
    substituted: int = 0
    """Samples that another row took the place of since the count was set."""
    listed: list[dict[str, Any]] = field(default_factory=list)
    """The first LISTED rows: ``index`` (number of the sample), ``sample_id``, ``path``, ``reason``."""
    _recent: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _named: set[str] = field(default_factory=set)

    def count(self, index: int, faults: Sequence[tuple[str, PictureError]]) -> None:
        """Note a sample and the (sample_id, error) of the rows that could not be had for it, if any.

        Raises TooManySubstitutesError above the share.
        """
        self._recent.append(bool(faults))
        self.substituted += bool(faults)
        for sample_id, error in faults:
            if sample_id not in self._named:
                self._named.add(sample_id)
                self._name(index, sample_id, error)
        if faults:
            self._check()

    def _name(self, index: int, sample_id: str, error: PictureError) -> None:
        known = len(self._named)
        if known <= LISTED:
            self.listed.append(
                {"index": index, "sample_id": sample_id, "path": error.path, "reason": error.reason}
            )
        # All at first, then ever more seldom.
        if self.report is not None and (known <= LISTED or not known & (known - 1)):
            self.report(f"sample {sample_id} is substituted ({known} so far): {error}")

    def _check(self) -> None:
        count, drawn = sum(self._recent), len(self._recent)
        allowed = max(AT_LEAST, self.max_share * drawn) if self.max_share else 0
        if count <= allowed:
            return
        first = "; ".join(f"{one['path']}: {one['reason']}" for one in self.listed[:5])
        raise TooManySubstitutesError(
            f"{count} of the last {drawn} samples ({count / drawn:.1%}) have pictures that cannot be read, "
            f"max_substituted allows {self.max_share:.1%}; the first: {first}. Bring the files back, or have "
            "their shards ingested again, then start the training again: it goes on from its last checkpoint"
        )


@dataclass(frozen=True)
class Substitutes:
    """Samples of a stage's draws, each of its own row or of a substitute.

    Args:
        data: the rows, and where substitutes are counted.
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
        """The sample of a row, cut at a place (see ``TrainingData.take``).

        Where the row was taken down before ``step``, or a picture cannot be had, it is that of another one:
        of the first of the ``circles`` of rows (that which may share its batch, its group) that has one, cut
        to this row's size.

        Args:
            index: number of the sample since the first step; substitutes follow from it and the seed.

        Raises:
            TooManySubstitutesError: above the share, or where no row of any circle can be had.
        """
        faults: list[tuple[str, PictureError]] = []
        bucket = int(self.data.bucket[row])
        for chosen in self._rows(row, circles, index, step):
            try:
                sample = self.data.take(chosen, across, down, bucket=bucket)
            except PictureError as error:
                faults.append((self.data.sample_id(chosen), error))
                continue
            self.data.faults.count(index, faults)
            return sample
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
