"""Workers that are killed at random moments, for the tests of what a stage then leaves."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from bench.slow_storage import SlowStorage
from got_core.storage import Storage
from got_core.train.run import Reference, TrainingRun
from got_core.train.stages import train_stage


@dataclass(frozen=True, kw_only=True)
class SlowRun(TrainingRun):
    """A run whose storage takes its time."""

    bytes_per_second: float

    def storage(self) -> Storage:
        return SlowStorage(self.storage_url, bytes_per_second=self.bytes_per_second)


def slow(run: TrainingRun, bytes_per_second: float) -> SlowRun:
    """The run, with such a storage."""
    return SlowRun(**vars(run), bytes_per_second=bytes_per_second)


@dataclass
class Killer:
    """Kills one of the workers, picked by a seed, some time after all of them have started, again and again.

    Every other time that is some time after their first complete checkpoint, so that the stage goes on
    however slow the machine is. ``starts`` gives the process and first step of every worker that has
    announced itself, ``uploading`` tells whether a checkpoint is half there, ``reached`` the step of the last
    complete one.
    """

    starts: Callable[[], list[tuple[int, int]]]
    uploading: Callable[[], bool]
    reached: Callable[[], int]
    kills: int
    span: float
    """Seconds after the start, or that checkpoint, at most."""
    seed: int = 0
    workers: int = 2
    log: list[dict[str, Any]] = field(default_factory=list)

    def work(self, finished: Callable[[], bool]) -> None:
        """Until all kills are done, or the stage is finished."""
        dice = random.Random(self.seed)
        while len(self.log) < self.kills and not finished():
            started = self.starts()[self.workers * len(self.log) :]
            if len(started) < self.workers:
                time.sleep(0.01)
                continue
            after, (process, step) = dice.uniform(0, self.span), dice.choice(started)
            while len(self.log) % 2 and self.reached() <= step and not finished():
                time.sleep(0.01)
            time.sleep(after)
            self._kill(process, {"after": round(after, 2), "from_step": step})

    def _kill(self, process: int, entry: dict[str, Any]) -> None:
        entry["during_upload"] = self.uploading()
        os.kill(process, signal.SIGKILL)
        self.log.append(entry)


def train_while_killing(run: TrainingRun, start: Reference, killer: Killer) -> Reference:
    """The last stage of the run, with a killer at its side."""
    with ThreadPoolExecutor(1) as pool:
        finished: list[bool] = []
        killing = pool.submit(killer.work, lambda: bool(finished))
        try:
            reference = train_stage(run, run.recipe.stages[-1], start)
        finally:
            finished.append(True)
        killing.result()
    return reference
