"""Trainings that wait to be disturbed, and workers that are killed at random moments."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from bench.slow_storage import SlowStorage
from got_core.storage import Storage
from got_core.train.run import Reference, TrainingRun
from got_core.train.stages import train_stage

_LONGEST = 1800.0
"""Seconds that a training waits to be disturbed."""


class HeldStorage(SlowStorage):
    """A slow storage that completes no checkpoint beyond step ``until`` before the file ``gate`` is there."""

    def __init__(self, url: str, *, gate: Path, until: int, **options: Any) -> None:
        super().__init__(url, **options)
        self.gate, self.until = gate, until

    def _write(self, path: str, fill: Callable[[IO[bytes]], object], *, exclusive: bool) -> None:
        found, last = re.search(r"/step-(\d+)-\w+/rank-\d+-of-", path), time.monotonic() + _LONGEST
        while found and int(found[1]) > self.until and not self.gate.exists():
            if time.monotonic() > last:
                raise TimeoutError(f"{self.gate} did not come")
            time.sleep(0.02)
        super()._write(path, fill, exclusive=exclusive)


@dataclass(frozen=True, kw_only=True)
class HeldRun(TrainingRun):
    """A run that does not end before it was disturbed, however late that is: it waits for a file."""

    gate: Path
    until: int
    bytes_per_second: float

    def storage(self) -> Storage:
        return HeldStorage(
            self.storage_url,
            gate=self.gate,
            until=self.until,
            bytes_per_second=self.bytes_per_second,
            **self.storage_options,
        )


def held(run: TrainingRun, gate: Path, until: int, bytes_per_second: float = float("inf")) -> HeldRun:
    """The run, with such a storage."""
    return HeldRun(**vars(run), gate=gate, until=until, bytes_per_second=bytes_per_second)


@dataclass
class Killer:
    """Kills one of the workers, picked by a seed, some time after all of them have started, again and again.

    Every other time that is after their first complete checkpoint, so that the stage goes on however slow the
    machine is, and while one is half there. ``starts`` gives the process and first step of every worker that
    has announced itself, ``uploading`` tells whether a checkpoint is half there, ``reached`` the step of the
    last complete one. When all are done, the file ``gate`` is there.
    """

    starts: Callable[[], list[tuple[int, int]]]
    uploading: Callable[[], bool]
    reached: Callable[[], int]
    gate: Path
    kills: int
    span: float
    """Seconds after the start, or that checkpoint, at most."""
    seed: int = 0
    workers: int = 2
    log: list[dict[str, Any]] = field(default_factory=list)

    def work(self, finished: Callable[[], bool]) -> None:
        """Until all kills are done, or the stage is finished."""
        try:
            self._work(finished)
        finally:
            self.gate.touch()

    def _work(self, finished: Callable[[], bool]) -> None:
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
            while not (uploading := self.uploading()) and len(self.log) % 2 and not finished():
                time.sleep(0.001)
            os.kill(process, signal.SIGKILL)
            self.log.append({"after": round(after, 2), "from_step": step, "during_upload": uploading})


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
