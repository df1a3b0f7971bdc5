"""Figures of some steps in a row, averaged or summed over all workers.

Belongs here: which figures there are, and how those of the workers become one. Not here: where they go
(``tracking``).
"""

from __future__ import annotations

import resource
import time

import torch

from got_core.train import parallel
from got_core.train.trainer import Trainer

WINDOW = 25
"""Steps over which logged losses are averaged."""


class Window:
    """The steps of a trainer since the last :meth:`take`. One for each worker, all used alike.

    ``substituted_before``: pictures that were substituted before the interruption that the training goes on
    after. Losses of skipped steps, which are no numbers, do not count in their means.
    """

    def __init__(self, trainer: Trainer, substituted_before: int = 0) -> None:
        self._trainer = trainer
        self._substituted_before = substituted_before
        self._start()

    def _start(self) -> None:
        self.steps = 0
        self._taught = 0
        self._sums: dict[str, float] = {}
        self._norms = 0.0
        self._began, self._waited = time.monotonic(), self._trainer.waiting.seconds

    def add(self, losses: dict[str, float]) -> None:
        """Count the step that the trainer has just taken, and its losses on this worker."""
        skipped = self._trainer.skips.skipped(self._trainer.step)
        self.steps += 1
        self._taught += not skipped
        self._norms += 0.0 if skipped else self._trainer.gradient_norm
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + (0.0 if skipped else value)

    def is_full(self) -> bool:
        """Whether the trainer is at the end of a window: equal on all workers."""
        return self.steps >= WINDOW or self._trainer.step >= self._trainer.config.steps

    def take(self) -> tuple[dict[str, float], dict[str, float]]:
        """Means of the losses, and the other figures, over steps and workers; begins anew.

        All workers call it and get the same: the figures are ``rate/language``, ``rate/drawing``,
        ``gradient_norm`` before clipping, ``samples_per_second``, ``data_wait_share`` (0 to 1, of the time),
        ``memory_gb`` (10^9 bytes, of the fullest worker), ``gpu_seconds`` or ``cpu_seconds``,
        ``skipped_steps`` and ``substituted_pictures`` (since the training began).
        """
        trainer, names = self._trainer, sorted(self._sums)
        elapsed = max(time.monotonic() - self._began, 1e-9)
        waited = (trainer.waiting.seconds - self._waited) / elapsed
        memory = [0.0] * trainer.ranks
        memory[trainer.rank] = memory_gb(trainer.device)
        substituted = float(trainer.data.faults.substituted)
        own = [*(self._sums[name] for name in names), waited, substituted, *memory]
        sums = parallel.sums_over_workers(own, trainer.ranks, trainer.device)
        count = self._taught * trainer.ranks
        losses = {name: total / count for name, total in zip(names, sums, strict=False)} if count else {}
        figures = {
            **{f"rate/{name}": rate for name, rate in trainer.rates().items()},
            **({"gradient_norm": self._norms / self._taught} if self._taught else {}),
            "samples_per_second": self.steps * trainer.config.samples_per_step / elapsed,
            "data_wait_share": sums[len(names)] / trainer.ranks,
            "memory_gb": max(sums[len(names) + 2 :]),
            **trainer.device_seconds(),
            "skipped_steps": float(len(trainer.skips.steps)),
            "substituted_pictures": self._substituted_before + sums[len(names) + 1],
        }
        self._start()
        return losses, figures


def memory_gb(device: torch.device) -> float:
    """10^9 bytes that this process has held at most: allocated on its GPU, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
