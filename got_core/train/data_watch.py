"""What happens to a stage's data while it trains: takedowns, and pictures that cannot be read.

    models/STAGE/KEY/substituted.json   {"steps": {STEP: samples so far}, "first": [...]}

Belongs here: looking at both at the start and at each checkpoint, on all ranks, and what the model's
reference says of them. Not here: takedowns (``takedowns``) and substitutes (``data.substitutes``) themselves.
"""

from __future__ import annotations

from typing import Any

from torch import distributed as dist

from got_core.train.data.faults import LISTED
from got_core.train.run import TrainingRun
from got_core.train.takedowns import Takedowns
from got_core.train.trainer import Trainer

FILE = "substituted.json"


class DataWatch:
    """The data of a stage's training, as one of its ranks sees it. All ranks make one together.

    Args:
        trainer: at the step that it goes on from.
        run: where the stage's folder is.
        name: of the stage's folder in the storage.
    """

    def __init__(self, trainer: Trainer, run: TrainingRun, name: str) -> None:
        self._trainer, self._storage, self._file = trainer, run.storage(), f"{name}/{FILE}"
        self._takedowns = Takedowns(run, name, trainer.data, trainer.rank, trainer.ranks)
        self._steps: dict[str, int] = {}
        self._listed: list[dict[str, Any]] = []
        """Of steps that an earlier process did."""
        if trainer.rank == 0 and self._storage.exists(self._file):
            self._take_over(self._storage.read_json(self._file))
        self.before = max(self._steps.values(), default=0)
        """Samples that were substituted up to the step that the training goes on from; 0 above rank 0."""
        self._first: list[dict[str, Any]] = []

    def _take_over(self, kept: dict[str, Any]) -> None:
        """What was kept of the steps that are not lost."""
        end = self._trainer.step * self._trainer.config.samples_per_step
        steps = kept["steps"].items()
        self._steps = {step: samples for step, samples in steps if int(step) <= self._trainer.step}
        self._listed = [one for one in kept["first"] if one["index"] < end]

    def look(self) -> None:
        """Take in what was taken down since, and keep the counts of all ranks for whoever goes on from here.

        All ranks call it together, before the first step and before each checkpoint.
        """
        trainer = self._trainer
        if trainer.step < trainer.config.steps:
            self._takedowns.look(trainer.step)
        found = _gathered((trainer.data.faults.substituted, trainer.data.faults.listed), trainer.ranks)
        if trainer.rank != 0:
            return
        self._steps[str(trainer.step)] = self.before + sum(count for count, _ in found)
        listed = [*self._listed, *(one for _, some in found for one in some)]
        listed.sort(key=lambda one: one["index"])
        # Whoever goes on names rows that were named before once more.
        first = {one["sample_id"]: one for one in reversed(listed)}
        self._first = [one for one in listed if first[one["sample_id"]] is one][:LISTED]
        self._storage.write_json(self._file, {"steps": self._steps, "first": self._first})

    def found(self) -> dict[str, Any]:
        """For the model's reference, on rank 0: ``substituted``, how many samples and the first of them with
        reasons, and ``taken_down``, rows with the step from which on they were left out."""
        samples = max(self._steps.values(), default=0)
        return {
            "substituted": {"samples": samples, "first": self._first},
            "taken_down": self._takedowns.rows,
        }


def _gathered(value: Any, ranks: int) -> list[Any]:
    """A small object of each rank, on all."""
    if ranks == 1:
        return [value]
    found: list[Any] = [None] * ranks
    dist.all_gather_object(found, value)
    return found
