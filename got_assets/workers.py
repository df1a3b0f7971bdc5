"""Processes beside that of `got run`, each of which brings one shard after another up to date.

Belongs here: starting and ending them, handing out shards and other calls, what happens when one dies. Not
here: what is done with a shard (`runner`).

Processes and not threads: Dagster redirects the standard streams of the whole process while it runs steps,
and lets only the main thread of a process be interrupted in a step; and reading pictures is work for cores.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from got_assets.interrupts import keep_interrupts
from got_assets.outcomes import Outcome
from got_assets.pauses import Pause

if TYPE_CHECKING:
    from dagster._core.instance.ref import InstanceRef

    from got_assets.runner import Runner

R = TypeVar("R")

_GRACE = 60.0
"""Seconds that a process has to end its step after it was interrupted."""


@dataclass(frozen=True)
class Task:
    """A shard to bring up to date."""

    assets: tuple[str, ...]
    shard: str
    again: str = ""
    """Why its first asset is made in any case."""

    paused: Pause | None = None
    """What is not to be asked."""

    wait: bool = True
    """Whether to wait for another process that works on it."""


@dataclass(frozen=True)
class Call:
    """Something else to do, which needs nothing but its arguments."""

    function: Callable[[], Any]


@dataclass(frozen=True)
class Answer:
    """What came of a shard, or of a call."""

    outcome: Outcome = field(default_factory=Outcome)
    paused: Pause | None = None
    interrupted: bool = False
    held: str = ""
    """Who works on it, where that was not waited for."""

    returned: Any = None
    """What a call gave."""

    raised: Exception | None = None
    """What a call raised instead."""


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, ref: InstanceRef) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(theirs, ref), name="got shard")
        self.process.start()
        theirs.close()
        self.task: Task | Call | None = None
        self.ready = False

    def give(self, task: Task | Call) -> None:
        """Let it work on a task. Where it has died meanwhile, its answer says so."""
        self.task = task
        with suppress(OSError):
            self.pipe.send(task)

    def take(self) -> tuple[Task | Call, Answer] | None:
        """The answer to its task; None at its start. A process that died is an error of its shard.

        Raises RuntimeError where it could not even start.
        """
        try:
            answer = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            if self.task is None:
                raise RuntimeError(f"a process for shards could not start: {self._died()}") from None
            answer = Answer(Outcome(error=self._died()), raised=RuntimeError(self._died()))
        task, self.task, self.ready = self.task, None, True
        return (task, answer) if task else None

    def _died(self) -> str:
        code = self.process.exitcode
        how = f"signal {-code}" if code and code < 0 else f"status {code}"
        return (
            f"the process that worked on it ended with {how}; where memory is short, set GOT_PARALLEL to "
            "fewer shards at once, then run it again"
        )

    def stop(self) -> None:
        """End it: an idle one at once, a busy one by an interrupt, as Ctrl-C does."""
        with suppress(OSError):
            self.pipe.send(None)
        if self.process.pid and (self.task or not self.ready):
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGINT if self.ready else signal.SIGTERM)

    def join(self, seconds: float) -> None:
        """Wait for its end, and make it end after that time."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()


class Workers:
    """At most ``count`` processes, started when there is work; a context, at whose end they are gone.

    Args:
        ref: gives the Dagster instance as other processes can open it; asked only where some are started.
    """

    def __init__(self, ref: Callable[[], InstanceRef], count: int) -> None:
        self.count = count
        self._ref = ref
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.stop()
        until = time.monotonic() + _GRACE
        for worker in self._workers:
            worker.join(max(0.0, until - time.monotonic()))

    def calls(self, functions: Sequence[Callable[[], R]]) -> Iterator[R]:
        """What functions give that can be sent to processes, in any order; at once where that is here.

        Raises what one of them raised.
        """
        if min(self.count, len(functions)) < 2:
            yield from (function() for function in functions)
            return
        for _, answer in self._work(map(Call, functions), len(functions)):
            if answer.raised:
                raise answer.raised
            yield answer.returned

    def work(self, tasks: Iterable[Task], count: int) -> Iterator[tuple[Task, Answer]]:
        """Bring shards up to date, as `_work`."""
        for task, answer in self._work(tasks, count):
            assert isinstance(task, Task)
            yield task, answer

    def _work(self, tasks: Iterable[Task | Call], count: int) -> Iterator[tuple[Task | Call, Answer]]:
        """Hand out tasks (``count`` in all) as processes get free; answers in the order in which they come.

        A process that dies is replaced, and its shard has an error. Raises KeyboardInterrupt where one was
        interrupted.
        """
        left = iter(tasks)
        self._start(min(self.count, count))
        busy = [worker for worker in self._workers if not worker.ready or self._give(worker, left)]
        while busy:
            pipes = {worker.pipe: worker for worker in busy}
            for pipe in wait(list(pipes)):
                worker = pipes[pipe]  # type: ignore[index]
                busy.remove(worker)
                found = worker.take()
                if found and found[1].interrupted:
                    raise KeyboardInterrupt
                if found:
                    yield found
                if not worker.process.is_alive():
                    self._workers.remove(worker)
                    worker.pipe.close()
                    busy += self._start(len(self._workers) + 1)
                elif self._give(worker, left):
                    busy.append(worker)

    def _start(self, count: int) -> list[_Worker]:
        new = [_Worker(self._ref()) for _ in range(count - len(self._workers))]
        self._workers += new
        return new

    @staticmethod
    def _give(worker: _Worker, left: Iterator[Task | Call]) -> bool:
        task = next(left, None)
        if task is not None:
            worker.give(task)
        return task is not None


def _serve(pipe: Connection, ref: InstanceRef) -> None:
    """What a worker process does: answer tasks until there are no more, or its parent is gone."""
    os.setpgrp()  # Ctrl-C reaches the parent alone, which tells those that work
    keep_interrupts()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from got_assets.quiet import quiet_libraries

    quiet_libraries()
    import dagster as dg

    from got_assets.history_files import quick_files
    from got_assets.project import PROJECT
    from got_assets.runner import Runner

    with (
        suppress(EOFError, BrokenPipeError, KeyboardInterrupt),
        quick_files(Path(os.environ["DAGSTER_HOME"])),
        dg.DagsterInstance.from_ref(ref) as instance,
    ):
        runner = Runner(PROJECT, instance, observes=False)
        pipe.send(None)
        while task := pipe.recv():
            answer = _called(task) if isinstance(task, Call) else _answer(runner, task)
            pipe.send(answer)
            if answer.interrupted:
                break


def _answer(runner: Runner, task: Task) -> Answer:
    from got_core.leases import LeaseHeld
    from got_core.store_faults import StoreUnavailableError

    runner.paused = task.paused
    try:
        outcome = runner.bring_up_to_date(task.assets, task.shard, task.again, task.wait)
        return Answer(outcome, runner.paused)
    except LeaseHeld as error:
        return Answer(held=str(error))
    except StoreUnavailableError as error:
        return Answer(paused=Pause("store", str(error)))
    except KeyboardInterrupt:
        return Answer(interrupted=True)
    except Exception as error:
        traceback.print_exc()
        return Answer(Outcome(error=f"{type(error).__name__}: {error}"))


def _called(call: Call) -> Answer:
    try:
        return Answer(returned=call.function())
    except KeyboardInterrupt:
        return Answer(interrupted=True)
    except Exception as error:
        return Answer(raised=error)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(_GRACE)
    os._exit(1)
