"""Training data some of whose pictures hold NaN, as a broken decoder or a broken disk would give them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from got_core.train.data.samples import TrainingData, TrainingSample, training_data
from got_core.train.run import TrainingRun


class SpoiltData(TrainingData):
    """Pictures of the rows ``spoilt``, or of all while ``everything``, are NaN; ``taken`` lists rows."""

    spoilt: frozenset[int] = frozenset()
    everything: bool = False

    def take(self, index: int, *arguments: Any, **options: Any) -> TrainingSample:
        sample = super().take(index, *arguments, **options)
        self.taken.append(index)
        if not self.everything and index not in self.spoilt:
            return sample
        return replace(sample, target=np.full(sample.target.shape, np.nan, dtype=np.float32))

    @property
    def taken(self) -> list[int]:
        return self.__dict__.setdefault("_taken", [])


def spoilt_data(run: TrainingRun) -> SpoiltData:
    """The run's data; nothing is spoilt yet."""
    data = training_data(run)
    data.__class__ = SpoiltData
    assert isinstance(data, SpoiltData)
    return data
