"""Progress lines on their way from Ray workers to the terminal.

Kept apart from the code that trains, so that the actor that carries the lines need not load torch.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import ray

if TYPE_CHECKING:
    from got_core.train.run import TrainingRun


class ProgressActor:
    """A Ray actor that carries progress lines from workers to the process that waits for them."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def put(self, line: str) -> None:
        """Add a line."""
        self._lines.append(line)

    def take(self) -> list[str]:
        """All lines since the last call."""
        lines, self._lines = self._lines, []
        return lines


@contextmanager
def relayed_progress(run: TrainingRun) -> Iterator[TrainingRun]:
    """The run as workers get it: what they say is passed on to ``run.report`` here, about once a second."""
    actor = ray.remote(num_cpus=0)(ProgressActor).remote()
    finished = threading.Event()

    def pass_on() -> None:
        while not finished.wait(1.0):
            lines = _taken(actor)
            for line in ["progress of workers is not heard of any more"] if lines is None else lines:
                run.report(line)
            if lines is None:
                return

    thread = threading.Thread(target=pass_on, daemon=True)
    thread.start()
    try:
        yield replace(run, progress=partial(_put, actor))
    finally:
        finished.set()
        thread.join()
        for line in _taken(actor) or ():
            run.report(line)


def _taken(actor: Any) -> list[str] | None:
    """Lines since the last call; None where the actor is lost, which no result depends on."""
    try:
        return ray.get(actor.take.remote())
    except ray.exceptions.RayActorError:
        return None


def _put(actor: Any, line: str) -> None:
    actor.put.remote(line)
