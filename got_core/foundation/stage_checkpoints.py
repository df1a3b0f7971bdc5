"""What a foundation part keeps of its finished stages, so that one that was cut off goes on after the last.

A stage starts from nothing but weights, per-step seeds and torch's random source (fresh heads draw from it).
Belongs here: those. Not here: the state of a loop within a stage (``loop_checkpoints``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from got_core.foundation import loop_checkpoints
from got_core.foundation.loop_checkpoints import LoopCheckpoint
from got_core.storage import Storage
from got_core.train.cpu_time import CpuTimer
from got_core.train.optim import Loop

FILE = "finished.safetensors"

SECONDS = 120.0
"""Between two times that a loop is kept: what a kill costs at most."""

_NOTE = "note"
_RANDOM = "random"


class StageCheckpoints:
    """The finished stages of one part, kept in its folder; without a storage nothing is kept.

    Weights, losses and CPU seconds are one file, written as a whole after each stage in place of the one
    before; where the loop of the stage that follows stands is another (``seconds``: how often that is kept).
    Uploading the trained part replaces the folder, and the files go with it.
    """

    def __init__(self, storage: Storage | None = None, folder: str = "", *, seconds: float = SECONDS) -> None:
        self._storage, self._name = storage, f"{folder}/{FILE}"
        self._loop_name, self._seconds = f"{folder}/{loop_checkpoints.FILE}", seconds
        self._clock, self._spent_before = CpuTimer(), 0.0
        self._metrics: dict[str, dict[str, float]] = {}
        self._state: dict[str, Tensor] = {}
        if storage is not None and storage.exists(self._name):
            self._state = load(storage.read_bytes(self._name))
            note = json.loads(bytes(self._state.pop(_NOTE).tolist()))
            self._metrics, self._spent_before = note["metrics"], note["cpu_seconds"]
        if storage is not None:
            begun = loop_checkpoints.note_of(storage, self._loop_name)
            if begun and begun["stage"] not in self._metrics:
                self._spent_before = float(begun["cpu_seconds"])

    @property
    def names(self) -> list[str]:
        """Names of the finished stages, in order."""
        return list(self._metrics)

    def cpu_seconds(self) -> float:
        """CPU seconds of this process since the object was made, and of others before on what was kept."""
        return self._spent_before + self._clock.seconds()

    def loop(self, stage: str, loop: Loop) -> LoopCheckpoint:
        """What keeps the loop of a stage that is about to train."""
        return LoopCheckpoint(
            self._storage,
            self._loop_name,
            stage,
            loop,
            seconds=self._seconds,
            cpu_seconds=self.cpu_seconds,
        )

    def run(
        self, stage: str, modules: Mapping[str, nn.Module], train: Callable[[], dict[str, float]]
    ) -> dict[str, float]:
        """The losses of a stage that trains the modules; one that has finished before is not trained again.

        After the last of those the modules have its weights. Stages have to be run in the same order each
        time, with all modules that a later one goes on from. Raises KeyError or RuntimeError where the kept
        weights are of other modules.
        """
        if stage in self._metrics:
            if stage == self.names[-1]:
                self._restore(modules)
        else:
            self._metrics[stage] = train()
            if self._storage is not None:
                self._storage.write_bytes(self._name, save(self._kept(modules)))
        return dict(self._metrics[stage])

    def _kept(self, modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        note = json.dumps({"metrics": self._metrics, "cpu_seconds": self.cpu_seconds()}).encode()
        # Copies, for a file cannot hold two names of the same memory (tied embeddings).
        return {
            _NOTE: torch.tensor(list(note), dtype=torch.uint8),
            _RANDOM: torch.get_rng_state(),
            **{
                f"{name}.{key}": value.clone().contiguous()
                for name, module in modules.items()
                for key, value in module.state_dict().items()
            },
        }

    def _restore(self, modules: Mapping[str, nn.Module]) -> None:
        torch.set_rng_state(self._state.pop(_RANDOM))
        for name, module in modules.items():
            module.load_state_dict({key: self._state[f"{name}.{key}"] for key in module.state_dict()})
        self._state = {}
