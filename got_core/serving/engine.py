"""One queue before one model: what arrives together is drawn together.

Belongs here: order, which jobs share a call, limits of what waits. Not here: HTTP (`app`), drawing itself
(`registry.rows`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from PIL import Image

from got_core.registry.request import Params, Row
from got_core.registry.rows import BATCH_PIXELS, Made, OnLatents, Plan
from got_core.serving.errors import ApiError
from got_core.serving.models import ModelSlot, ServedModel

if TYPE_CHECKING:
    from torch import Tensor

    from got_core.model.pipeline import GoTPipeline

log = logging.getLogger(__name__)

_FIRST_GUESS = 1.0
"""Seconds for a picture, before any was drawn."""
_SHARE, _PATIENCE = 0.05, 0.25
"""Of the seconds of a call, and seconds at most, for which the next one waits for its clients to ask again:
else they would go on in groups that are drawn in turn."""
_MOST_PIXELS = 4 * BATCH_PIXELS
"""Pixels of the pictures that wait with their jobs, at most: they are in memory."""


class Meter(Protocol):
    """What the engine tells of its work."""

    def drawn(self, jobs: int, pictures: int, seconds: float) -> None:
        """A call has ended."""

    def waiting(self, pictures: int) -> None:
        """The queue has changed."""


@dataclass(eq=False)
class Job:
    """Rows of one request, all edits or none, and where their answer goes."""

    rows: Sequence[Row]
    params: Params
    future: Future[list[Made]] = field(default_factory=Future)
    on_step: Callable[[int, int], None] | None = None
    on_plans: Callable[[Job, list[Plan]], None] | None = None
    """Given the job: were it to keep that, neither would leave memory with the answer."""

    on_preview: Callable[[Image.Image], None] | None = None
    """Told after each step, before `on_step`, what the first picture looks like so far."""

    model: ServedModel | None = None
    """That has answered it."""

    @property
    def pictures(self) -> int:
        """How many it takes."""
        return len(self.rows) * self.params.images

    @property
    def pixels(self) -> int:
        """Of the pictures that came with it."""
        return sum(row.pixels for row in self.rows)

    @property
    def key(self) -> Any:
        """Jobs of equal keys can share a call."""
        params = self.params
        settings = tuple(sorted(params.settings.items()))
        rest = (params.repair, params.images, params.plan_only, params.max_new_tokens)
        return (self.rows[0].source is not None, settings, rest)


class Engine:
    """Answers jobs in a thread of its own, in order of arrival but for those that join a call."""

    def __init__(self, slot: ModelSlot, *, most_waiting: int, gather: float, meter: Meter) -> None:
        """`most_waiting`: pictures; `gather`: seconds that a first job waits for others."""
        self.slot, self.most_waiting, self.gather, self.meter = slot, most_waiting, gather, meter
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._seconds = _FIRST_GUESS
        self._returning, self._until = 0, 0.0
        self._thread = threading.Thread(target=self._run, name="got-engine", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether jobs are answered."""
        return self._thread.is_alive() and not self._stopped

    def stop(self, seconds: float = 60.0) -> None:
        """Answer no further jobs; the call that is under way is waited for."""
        with self._changed:
            self._stopped = True
            left = [self._waiting.popleft() for _ in range(len(self._waiting))]
            self.meter.waiting(0)
            self._changed.notify_all()
        for job in left:
            _fail(job, ApiError(503, "the server is being stopped", retry_after=5))
        if self._thread.is_alive():
            self._thread.join(seconds)

    def submit(self, job: Job) -> Future[list[Made]]:
        """Put a job into the queue, which it leaves when its future is cancelled. Raises ApiError 429 where
        too much waits, 503 where it is stopped."""
        with self._changed:
            if self._stopped:
                raise ApiError(503, "the server is being stopped", retry_after=5)
            waiting, pixels = self._count(), sum(one.pixels for one in self._waiting)
            if waiting + job.pictures > self.most_waiting or pixels + job.pixels > _MOST_PIXELS:
                raise ApiError(
                    429,
                    f"{waiting} pictures wait already, and this request takes {job.pictures}: at most "
                    f"{self.most_waiting} may wait, and {_MOST_PIXELS} pixels of pictures sent; try again "
                    "later",
                    code="rate_limit_exceeded",
                    retry_after=self._expected(waiting),
                )
            self._waiting.append(job)
            self.meter.waiting(waiting + job.pictures)
            self._changed.notify_all()
        job.future.add_done_callback(self._leave)
        return job.future

    def _leave(self, future: Future[list[Made]]) -> None:
        """Told of the future alone: one that knew its job would keep the pictures of both in memory until the
        garbage collector comes by."""
        if not future.cancelled():
            return
        with self._changed:
            for job in [one for one in self._waiting if one.future is future]:
                self._waiting.remove(job)
                self.meter.waiting(self._count())
            self._changed.notify_all()  # what is gathered for it may have to go without it

    def _count(self) -> int:
        return sum(job.pictures for job in self._waiting)

    def _expected(self, pictures: int) -> float:
        """Seconds until so many are drawn, by how long pictures took lately."""
        return min(600.0, max(1.0, pictures * self._seconds))

    # -- in the thread ------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (jobs := self._next()) is not None:
            if jobs:
                started = time.monotonic()
                self._answer(jobs)
                self._expect(jobs, time.monotonic() - started)
            del jobs  # with their pictures: the next call may be far

    def _expect(self, jobs: list[Job], seconds: float) -> None:
        """Note how many pictures may soon be asked for, and until when they are waited for."""
        with self._changed:
            self._returning = self._count() + sum(job.pictures for job in jobs)
            self._until = time.monotonic() + min(_PATIENCE, _SHARE * seconds)

    def _next(self) -> list[Job] | None:
        """Jobs for one call, none where they have left meanwhile; None at the end."""
        with self._changed:
            while not self._waiting:
                if self._stopped:
                    return None
                self._changed.wait()
            model, key = self.slot.current, self._waiting[0].key
            most = model.drawer.fitting(self._waiting[0].params)
            self._gather(key, most)
            if not self._waiting or self._waiting[0].key != key:
                return []  # those that it was gathered for have left
            taken: list[Job] = []
            for job in [one for one in self._waiting if one.key == key]:
                if taken and sum(one.pictures for one in taken) + job.pictures > most:
                    break
                taken.append(job)
                self._waiting.remove(job)
            self.meter.waiting(self._count())
        return [job for job in taken if job.future.set_running_or_notify_cancel()]

    def _gather(self, key: Any, most: int) -> None:
        """Wait a moment for jobs that can join the first, unless the call is full; a little longer for those
        of the last call's clients. Over, too, where the first leaves."""
        until = time.monotonic() + self.gather
        while not self._stopped and self._waiting and self._waiting[0].key == key:
            ready = sum(job.pictures for job in self._waiting if job.key == key)
            left = (until if ready >= self._returning else max(until, self._until)) - time.monotonic()
            if ready >= most or left <= 0:
                return
            self._changed.wait(left)

    def _answer(self, jobs: list[Job]) -> None:
        model, started = self.slot.current, time.monotonic()
        try:
            made = self._drawn(model, jobs)
        except Exception as error:
            if len(jobs) > 1:  # one of them may be at fault: the others are answered without it
                for job in jobs:
                    self._answer([job])
                return
            log.warning("drawing failed", exc_info=not isinstance(error, ValueError | TypeError))
            _fail(jobs[0], error)
            return
        pictures, seconds = sum(job.pictures for job in jobs), time.monotonic() - started
        self._seconds += 0.3 * (seconds / pictures - self._seconds)
        self.meter.drawn(len(jobs), pictures, seconds)
        for job, mine in zip(jobs, made, strict=True):
            job.model = model
            with suppress(InvalidStateError):
                job.future.set_result(mine)

    def _drawn(self, model: ServedModel, jobs: list[Job]) -> list[list[Made]]:
        """What became of each job's rows."""
        rows = [row for job in jobs for row in job.rows]
        numbered = [replace(row, number=number) for number, row in enumerate(rows)]
        made = model.drawer.answer(
            numbered,
            jobs[0].params,
            on_step=_told_steps(jobs),
            on_plans=_told_plans(jobs),
            on_latents=_told_latents(model.drawer.pipeline, jobs),
        )
        images, start, answers = jobs[0].params.images, 0, []
        for job in jobs:
            count = len(job.rows) * images
            answers.append(made[start : start + count])
            start += count
        return answers


def _told_steps(jobs: list[Job]) -> Callable[[int, int], None] | None:
    listeners = [job.on_step for job in jobs if job.on_step is not None]
    if not listeners:
        return None

    def tell(step: int, steps: int) -> None:
        for listener in listeners:
            listener(step, steps)

    return tell


def _told_plans(jobs: list[Job]) -> Callable[[list[Plan]], None]:
    def tell(plans: list[Plan]) -> None:
        start = 0
        for job in jobs:
            if job.on_plans is not None:
                job.on_plans(job, plans[start : start + len(job.rows)])
            start += len(job.rows)

    return tell


def _told_latents(pipeline: GoTPipeline, jobs: list[Job]) -> OnLatents | None:
    """Decodes for those who want to see it."""
    from got_core.model.decoding import can_preview, preview

    listeners: dict[int, Callable[[Image.Image], None]] = {}
    start = 0
    for job in jobs:
        if job.on_preview is not None:
            listeners[start] = job.on_preview
        start += len(job.rows)
    if not listeners or not can_preview(pipeline):
        return None

    def tell(rows: list[Row], latents: Tensor) -> None:
        numbers = [row.number for row in rows]
        for number, listener in listeners.items():
            if number in numbers:
                listener(preview(pipeline, latents[numbers.index(number)]))

    return tell


def _fail(job: Job, error: Exception) -> None:
    with suppress(InvalidStateError):
        job.future.set_exception(error)
