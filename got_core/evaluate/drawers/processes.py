"""Drawing by this process and by others beside it, each with the pipeline and one thread.

Belongs here: a small model on the cores of this machine. Not here: workers of a cluster (`cluster`).

Of pictures of a few dozen pixels, threads share too little work to keep the cores busy. What a picture looks
like does not depend on the number of processes: batches are the same whoever draws them, and each plans for
itself.
"""

from __future__ import annotations

import copy
import math
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from got_core.evaluate.drawers.costs import Costs, device_name
from got_core.evaluate.drawers.drawer import Answer, Drawer
from got_core.evaluate.drawers.local import LocalDrawer
from got_core.evaluate.drawers.opening import chosen_device, torch_threads
from got_core.evaluate.samples import Request, Spent, draw_batch
from got_core.local_files import files_below
from got_core.storage import Storage

if TYPE_CHECKING:
    from got_core.model.pipeline import GoTPipeline

Batch = Sequence[Request]

SMALL = 500_000_000
"""Bytes of a model's files above which one process draws, with all cores as threads."""
PICTURES = 12
"""In a batch: few enough that the processes are done at about the same time."""
START_SECONDS = 16.0
"""Of drawing that have to be left before other processes are started: they load libraries and the model."""
AHEAD = 2
"""Batches that another process has, so that it need not wait for this one to be done with its own."""


def drawer_here(open_pipeline: partial[GoTPipeline], folder: Path, processes: int | None = None) -> Drawer:
    """The fastest drawer of this machine: on processors several processes where the model is small, else this
    one alone.

    Args:
        open_pipeline: opens `folder` on the device of `chosen_device("auto")`, in any process that it was
            sent to.
        folder: of the model.
        processes: at most so many; None: one for each core.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if chosen_device("auto") == "cpu" and sum(one.stat().st_size for one in files_below(folder)) <= SMALL:
        return ProcessDrawer(open_pipeline, min(cores, processes or cores))
    return LocalDrawer(open_pipeline(), threads=cores)


@contextmanager
def drawing_together() -> Iterator[None]:
    """Processes that are started for one drawing stay for those that follow, until the end."""
    if _TOGETHER:
        yield
        return
    with _Pool() as pool:
        _TOGETHER.append(pool)
        try:
            yield
        finally:
            _TOGETHER.clear()


class ProcessDrawer(Drawer):
    """Draws with a pipeline that `open_pipeline` gives, in this process and `processes` - 1 others, which are
    started where it takes long enough. Where one of them dies, this one goes on alone."""

    batch_limit = PICTURES

    def __init__(
        self, open_pipeline: partial[GoTPipeline], processes: int, costs: Costs | None = None
    ) -> None:
        self._open, self._processes, self._costs = open_pipeline, processes, costs

    @cached_property
    def _pipeline(self) -> GoTPipeline:
        return self._open()

    @property
    def workers(self) -> int:
        """One, to those who cut batches: how many processes there are changes none."""
        return 1

    def draw_batches(
        self,
        batches: Iterable[Batch],
        storage: Storage,
        *,
        sampler: Mapping[str, Any],
        weights_hash: str | None = None,
    ) -> Iterator[Batch]:
        """See `Drawer`."""
        draw = partial(_draw, storage=storage, sampler=dict(sampler), weights_hash=weights_hash)
        shared = not storage.url.startswith("memory://")
        with ExitStack() as stack:
            stack.enter_context(torch_threads(1))
            pool = _TOGETHER[0] if _TOGETHER else stack.enter_context(_Pool())
            others = _Others(pool, partial(_drawn, self._open, draw))
            queue = _Queue(iter(batches))
            seconds = 0.0
            while True:
                if shared and seconds and queue.look(math.ceil(START_SECONDS / seconds)):
                    pool.start(self._processes - 1)
                if shared:
                    others.take(queue)
                yield from self._noted(others.done(queue))
                if batch := queue.next():
                    began = time.perf_counter()
                    spent = draw(self._pipeline, batch)
                    seconds = time.perf_counter() - began
                    yield from self._noted([(batch, spent)])
                elif others.running:
                    others.wait()
                elif queue.left:
                    raise RuntimeError("every picture that is left waits for another that nobody draws")
                else:
                    return

    def _noted(self, drawn: Iterable[tuple[Batch, Spent]]) -> Iterator[Batch]:
        for batch, spent in drawn:
            if self._costs:
                self._costs.add(spent, device_name(self._pipeline.device))
            yield batch

    def ask(self, question: Callable[[GoTPipeline], Answer]) -> Answer:
        """See `Drawer`."""
        with torch_threads(1):
            return question(self._pipeline)

    def recording(self, costs: Costs | None) -> Self:
        """See `Drawer`."""
        other = copy.copy(self)
        other._costs = costs
        return other


class _Queue:
    """Batches that nobody has yet."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches, self._ready = batches, deque[Batch]()
        self.left = True
        """Whether there may be more to come."""

    def look(self, count: int) -> bool:
        """Whether so many batches are there to be drawn now."""
        while self.left and len(self._ready) < count:
            batch = next(self._batches, None)
            self.left = batch is not None
            if not batch:  # the others wait for one that is under way
                break
            self._ready.append(batch)
        return len(self._ready) >= count

    def next(self) -> Batch | None:
        return self._ready.popleft() if self.look(1) else None

    def put_back(self, batches: Iterable[Batch]) -> None:
        self._ready.extendleft(batches)


class _Pool:
    """Other processes, once they were started, between `with` and its end."""

    def __init__(self) -> None:
        self.count = 0
        self._executor: ProcessPoolExecutor | None = None
        self._broken = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def start(self, count: int) -> None:
        """So many, unless there are some, or one has died."""
        if self.count or self._broken or count < 1:
            return
        self.count, context = count, multiprocessing.get_context("spawn")
        self._executor = ProcessPoolExecutor(count, mp_context=context, initializer=_begin)

    def submit(self, work: Callable[[Batch], Spent], batch: Batch) -> Future[Spent]:
        assert self._executor
        return self._executor.submit(work, batch)

    def give_up(self) -> None:
        """Do without, from now on."""
        self._broken = True
        self._end()

    def _end(self) -> None:
        if self._executor:  # what is being drawn is finished
            self._executor.shutdown(cancel_futures=True)
        self._executor, self.count = None, 0


_TOGETHER: list[_Pool] = []


class _Others:
    """What the other processes have of one drawing."""

    def __init__(self, pool: _Pool, work: Callable[[Batch], Spent]) -> None:
        self._pool, self._work = pool, work
        self.running: dict[Future[Spent], Batch] = {}

    def take(self, queue: _Queue) -> None:
        """Give them what they have room for."""
        while len(self.running) < AHEAD * self._pool.count and (batch := queue.next()):
            try:
                self.running[self._pool.submit(self._work, batch)] = batch
            except BrokenProcessPool:
                self._give_up(queue, batch)

    def done(self, queue: _Queue) -> Iterator[tuple[Batch, Spent]]:
        """What they have drawn since; where one has died, what they had goes back."""
        for future in [one for one in self.running if one.done()]:
            try:
                spent = future.result()
            except BrokenProcessPool:
                self._give_up(queue)
                return
            yield self.running.pop(future), spent

    def _give_up(self, queue: _Queue, *batches: Batch) -> None:
        queue.put_back([*batches, *self.running.values()])
        self.running = {}
        self._pool.give_up()

    def wait(self) -> None:
        """Until something is done."""
        wait(self.running, return_when=FIRST_COMPLETED)


def _draw(
    pipeline: GoTPipeline,
    batch: Batch,
    *,
    storage: Storage,
    sampler: Mapping[str, Any],
    weights_hash: str | None,
) -> Spent:
    return draw_batch(pipeline, batch, storage, {}, sampler=sampler, weights_hash=weights_hash)


# ---------------------------------------------------------------- in another process

_HELD: list[tuple[partial[GoTPipeline], GoTPipeline]] = []
"""The pipeline of the batch before."""


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, and ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _drawn(
    open_pipeline: partial[GoTPipeline], draw: Callable[[GoTPipeline, Batch], Spent], batch: Batch
) -> Spent:
    if not (_HELD and _same(_HELD[0][0], open_pipeline)):
        _HELD[:] = [(open_pipeline, open_pipeline())]
        import torch

        torch.set_num_threads(1)
    return draw(_HELD[0][1], batch)


def _same(one: partial[Any], other: partial[Any]) -> bool:
    return (one.func, one.args, one.keywords) == (other.func, other.args, other.keywords)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    wait_for([parent.sentinel])
    os._exit(1)
