"""Where a loop of the foundation stands, so that one that was killed goes on within minutes of its end.

Belongs here: weights, optimizer, average and random source of one loop, in one file. Not here: which stages
are finished (``stage_checkpoints``), and what a loop learns.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

import torch
from safetensors.torch import load, save
from torch import Tensor

from got_core.storage import Storage
from got_core.train.optim import Loop

FILE = "unfinished.safetensors"

_NOTE, _RANDOM, _VALUES = "note", "random", "values"


def note_of(storage: Storage, name: str) -> dict[str, float | str]:
    """Stage, step and CPU seconds of a kept loop; empty where none is kept."""
    return _note(load(storage.read_bytes(name))) if storage.exists(name) else {}


def _note(state: dict[str, Tensor]) -> dict[str, float | str]:
    return json.loads(bytes(state[_NOTE].tolist()))


class LoopCheckpoint:
    """Keeps a loop every so many seconds, in place of where it was before; without a storage never.

    A loop whose steps depend on nothing but its number, weights and optimizer ends with the same weights, bit
    by bit, as in one go.

    Args:
        stage: what the loop trains; a file of another one is passed over.
        loop: whose parameters, optimizer and average are kept.
        seconds: between two; 0 keeps every step.
        cpu_seconds: what the part has spent by now.
    """

    def __init__(
        self,
        storage: Storage | None,
        name: str,
        stage: str,
        loop: Loop,
        *,
        seconds: float,
        cpu_seconds: Callable[[], float],
    ) -> None:
        self._storage, self._name, self._stage, self._loop = storage, name, stage, loop
        self._seconds, self._spent = seconds, cpu_seconds
        self._kept_at = time.monotonic()
        self.values: list[float] = []
        """What the loop has handed over beside its step, when it was kept."""

    def first_step(self) -> int:
        """The step to go on with: 0, or the one after that of the file, whose state the loop has then.

        Raises ValueError where the file is of other parameters.
        """
        if self._storage is None or not self._storage.exists(self._name):
            return 0
        state = load(self._storage.read_bytes(self._name))
        note = _note(state)
        if note["stage"] != self._stage:
            return 0
        self._restore(state)
        self._loop.average.steps = int(note["averaged"])
        return int(note["step"]) + 1

    def after(self, step: int, values: Sequence[float] = ()) -> None:
        """Keep the loop after a step if it is time; the last step is left to whoever keeps the stage."""
        late = time.monotonic() - self._kept_at >= self._seconds
        if self._storage is None or not late or step + 1 >= self._loop.steps:
            return
        note = {"stage": self._stage, "step": step, "cpu_seconds": self._spent()}
        note["averaged"] = self._loop.average.steps
        self._storage.write_bytes(self._name, save(self._state(json.dumps(note).encode(), values)))
        self._kept_at = time.monotonic()

    def _state(self, note: bytes, values: Sequence[float]) -> dict[str, Tensor]:
        average, optimizer = self._loop.average, self._loop.optimizer
        state = {
            _NOTE: torch.tensor(list(note), dtype=torch.uint8),
            _RANDOM: torch.get_rng_state(),
            _VALUES: torch.tensor(list(values), dtype=torch.float64),
        }
        for number, (parameter, mean) in enumerate(zip(average.sources, average.values, strict=True)):
            state[f"{number}.parameter"] = parameter.detach()
            state[f"{number}.average"] = mean
            for name, value in optimizer.state(parameter).items():
                state[f"{number}.optimizer.{name}"] = value
        # Copies: a file cannot hold two names of the same memory.
        return {name: value.clone().contiguous() for name, value in state.items()}

    @torch.no_grad()
    def _restore(self, state: dict[str, Tensor]) -> None:
        average, optimizer = self._loop.average, self._loop.optimizer
        count = sum(name.endswith(".parameter") for name in state)
        if count != len(average.sources):
            raise ValueError(
                f"{self._name} holds {count} parameters, the loop {self._stage!r} trains "
                f"{len(average.sources)}: delete it to begin anew"
            )
        for number, (parameter, mean) in enumerate(zip(average.sources, average.values, strict=True)):
            parameter.copy_(state[f"{number}.parameter"])
            mean.copy_(state[f"{number}.average"])
            prefix = f"{number}.optimizer."
            kept = {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
            if kept:
                optimizer.restore(parameter, kept)
        self.values = state[_VALUES].tolist()
        torch.set_rng_state(state[_RANDOM])
