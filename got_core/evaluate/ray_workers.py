"""Ray actors that each hold one loaded thing, a pipeline or networks, and work off one queue of pieces.

Belongs here: how many there are and on what, handing out pieces, starting again what dies. Not here: what is
held and what is done with it (`drawers.cluster`, `geneval.cluster`, `cluster_networks`).

A worker gets a piece when it is free, so a slow one holds nobody up. One that dies is started anew and its
piece done again: whoever calls says what of it was done already. Workers are started when there is something
to do for them.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError, WorkerCrashedError

from got_core.ray_nodes import TooFewError, once_there
from got_core.ray_sessions import ray_session

Held = TypeVar("Held")
Piece = TypeVar("Piece")
Result = TypeVar("Result")

ATTEMPTS = 3
"""Workers that one piece may end."""

_OPEN: list[RayWorkers[Any]] = []


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a worker is."""

    device: str
    """`cuda`, which is a GPU of its own, or `cpu`."""

    threads: int
    """Of torch: its share of the machine's cores, or OMP_NUM_THREADS where that is set."""


class LostWorkersError(RuntimeError):
    """Workers have died more often than they are started again."""


class RayWorkers(Generic[Held]):
    """Workers of one kind, between `with` and its end.

    Args:
        hold: makes what a worker holds, in its own process.
        what: they do, for errors.
        workers: how many (GOT_WORKERS); None: all GPUs of the cluster, or one on its processors.
        device: `auto` (GPUs where there are any, one each), `cpu` or `cuda`.
        address: of the Ray cluster; None: Ray is started on this machine and ended with the block.
        restarts: how often, all together, workers that have died are started again.
    """

    def __init__(
        self,
        hold: Callable[[Place], Held],
        *,
        what: str,
        workers: int | None = None,
        device: str = "auto",
        address: str | None = None,
        restarts: int = 20,
    ) -> None:
        if device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"{what}: the device must be auto, cpu or cuda, got {device!r}")
        if workers is not None and workers < 1:
            raise ValueError(f"{what}: GOT_WORKERS must be at least 1, got {workers}")
        self._hold, self._what, self._wanted, self._device = hold, what, workers, device
        self._address, self._restarts = address, restarts
        self._stack = ExitStack()
        self._actors: list[Any] = []
        self._count = 0
        self._place = Place(device="cpu", threads=1)

    def __enter__(self) -> Self:
        """Connect, and look what there is, or comes soon. Raises TooFewError, which says what was found and
        needed, where there is too little for as many workers."""
        with ExitStack() as stack:
            stack.enter_context(ray_session(self._address, self._wanted))
            once_there(self._choose, self._address)
            _OPEN.append(self)
            stack.callback(_OPEN.remove, self)
            stack.callback(self._end)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _end(self) -> None:
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []

    def _choose(self) -> None:
        found = ray.cluster_resources()
        gpus = 0 if self._device == "cpu" else int(found.get("GPU", 0))
        cpus = int(found.get("CPU", 0))
        if self._device == "cuda" and not gpus:
            raise TooFewError(
                f"{self._what}: GOT_DEVICE=cuda needs {self._wanted or 1} GPUs, found 0; connect to a "
                "cluster that has GPUs (GOT_RAY_ADDRESS), or set GOT_DEVICE=cpu"
            )
        self._count = self._wanted or gpus or 1
        others = sum(one._count for one in _OPEN)
        if gpus:
            self._check("GPU", gpus, others)
        self._check("processor core", cpus, others)
        nodes = max(1, sum(bool(node["Alive"]) for node in ray.nodes()))
        share = max(1, cpus // nodes // -(-(self._count + others) // nodes))
        wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
        threads = int(wanted) if wanted.isdecimal() and int(wanted) else share
        self._place = Place(device="cuda" if gpus else "cpu", threads=threads)

    def _check(self, kind: str, found: int, others: int) -> None:
        if self._count + others > found:
            beside = f" beside the {others} workers that this process has already" if others else ""
            raise TooFewError(
                f"{self._what}: {self._count} workers need a {kind} each{beside}, and the cluster has "
                f"{found}; set GOT_WORKERS to {max(1, found - others)}, or give it more"
            )

    @property
    def count(self) -> int:
        """Workers. RuntimeError outside of the block."""
        if not self._count or self not in _OPEN:
            raise RuntimeError(f"{self._what}: workers are there inside of a `with` block only")
        return self._count

    def start(self) -> float:
        """Start all workers now, and wait until each holds what it works with; seconds that took."""
        started = time.perf_counter()
        for _ in self.results(range(1, self.count + 1), _held):  # each worker is free for one
            pass
        return time.perf_counter() - started

    def ask(self, question: Callable[[Held], Result]) -> Result:
        """What a function says about what a worker holds."""
        return next(self.results([[question]], _asked))[1]

    def results(
        self, pieces: Iterable[Piece], work: Callable[[Held, Piece, bool], Result]
    ) -> Iterator[tuple[Piece, Result]]:
        """Each piece with what a worker made of it, in any order.

        The next piece is asked for when a worker is, or will be, free. A piece that is false says: wait for
        one that is under way before you ask again. `work` is told whether a worker has died over the piece
        before. What it raises is raised here, after the results of the pieces that are under way.
        """
        run = _Run(self, iter(pieces), work)
        while run.hand_out():
            yield from run.first()
        if run.error:
            raise run.error

    def _started(self) -> Any:
        gpu = self._place.device == "cuda"
        options = {"num_cpus": 1, "num_gpus": int(gpu), "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        return ray.remote(_Actor).options(**options).remote(self._hold, self._place)

    def _free(self, busy: set[Any]) -> Any | None:
        free = next((actor for actor in self._actors if actor not in busy), None)
        if free is None and len(self._actors) < self.count:
            free = self._started()
            self._actors.append(free)
        return free

    def _lost(self, actor: Any, attempts: int, error: Exception) -> LostWorkersError | None:
        """Leave out an actor that has died; the error where that was once too often."""
        if actor in self._actors:
            self._actors.remove(actor)
        self._restarts -= 1
        if attempts < ATTEMPTS and self._restarts >= 0:
            return None
        often = f"{attempts} times over the same piece" if attempts >= ATTEMPTS else "too often"
        return LostWorkersError(
            f"{self._what}: a worker has died {often}, the last time: {_first_line(error)}; memory may be "
            "short (smaller batches, fewer workers), Ray's logs say more; what is done is kept, so run it "
            "again"
        )


class OnWorkers(Generic[Held]):
    """Something whose work is done by workers; between `with` and its end."""

    _pool: RayWorkers[Held]

    def __enter__(self) -> Self:
        """Raises ValueError where there is too little for as many workers."""
        self._pool.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.__exit__(*error)

    @property
    def workers(self) -> int:
        """Pieces that are worked on at once."""
        return self._pool.count

    def start(self) -> float:
        """Load what each worker holds now, not with its first piece; seconds that took."""
        return self._pool.start()


class _Run(Generic[Held, Piece, Result]):
    """Pieces on their way to workers and back."""

    def __init__(
        self,
        workers: RayWorkers[Held],
        pieces: Iterator[Piece],
        work: Callable[[Held, Piece, bool], Result],
    ) -> None:
        self._workers, self._pieces, self._work = workers, pieces, work
        self._ready: deque[tuple[Piece, int]] = deque()
        """With the number of workers that it has ended."""
        self._running: dict[Any, tuple[Any, Piece, int]] = {}
        self._ended = False
        self.error: BaseException | None = None
        """What ends the run when nothing is under way any more."""

    def hand_out(self) -> bool:
        """Give every free worker a piece; whether any is under way. One more is kept ready."""
        while not self.error and (self._ready or self._pull()):
            actor = self._workers._free({one for one, _, _ in self._running.values()})
            if actor is None:
                break
            piece, attempts = self._ready.popleft()
            reference = actor.work.remote(self._work, piece, attempts > 0)
            self._running[reference] = (actor, piece, attempts)
        if not self._running and not self._ended and not self.error:
            self.error = RuntimeError("every piece that is left waits for another that nobody works on")
        return bool(self._running)

    def _pull(self) -> bool:
        """Ask for a piece; whether there was one."""
        if self._ended:
            return False
        try:
            piece = next(self._pieces, None)
        except Exception as error:
            self.error = error
            return False
        self._ended = piece is None
        if piece:
            self._ready.append((piece, 0))
        return bool(piece)

    def first(self) -> Iterator[tuple[Piece, Result]]:
        """The piece that is done first, or none where its worker has died."""
        (ready, *_), _ = ray.wait(list(self._running), num_returns=1)
        actor, piece, attempts = self._running.pop(ready)
        try:
            result = ray.get(ready)
        except RayTaskError as error:
            self.error = self.error or _cause(error)
        except (RayActorError, OutOfMemoryError, WorkerCrashedError) as error:
            lost = self._workers._lost(actor, attempts + 1, error)
            self.error = self.error or lost
            self._ready.appendleft((piece, attempts + 1))
        else:
            yield piece, result


class _Actor:
    """One worker's process."""

    def __init__(self, hold: Callable[[Place], Any], place: Place) -> None:
        self._make, self._place, self._held = hold, place, None

    def work(self, work: Callable[[Any, Any, bool], Any], piece: Any, again: bool) -> Any:
        """What becomes of a piece; the first one waits until what is held is loaded."""
        if self._held is None:
            self._held = self._make(self._place)
        return work(self._held, piece, again)


def on_device(load: Callable[..., Held], place: Place) -> Held:
    """What `load(device=…)` makes, in a process with its share of threads."""
    import torch

    torch.set_num_threads(place.threads)
    return load(device=place.device)


def _held(held: Any, piece: int, again: bool) -> None:
    """Nothing: it is there."""


def _asked(held: Any, piece: list[Callable[[Any], Any]], again: bool) -> Any:
    return piece[0](held)


def _cause(error: RayTaskError) -> BaseException:
    """The worker's own error, with where it happened."""
    cause = error.cause if isinstance(error.cause, Exception) else error
    if cause is not error:
        cause.add_note(f"in a Ray worker:\n{error}")
    return cause


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def host() -> str:
    """Name of this machine, for errors."""
    return socket.gethostname()
