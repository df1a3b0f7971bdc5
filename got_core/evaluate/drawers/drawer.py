"""What can draw the pictures of a benchmark, and the order in which it gets them.

Belongs here: the interface, and cutting requests into batches that are handed out one by one. Not here: a
drawer (`local`, `cluster`).
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

from got_core.evaluate.drawers.costs import Costs
from got_core.evaluate.samples import Progress, Request, State, stored_states

if TYPE_CHECKING:
    from got_core.model.pipeline import GoTPipeline
    from got_core.storage import Storage

Answer = TypeVar("Answer")

PIECES = 4
"""Batches a worker, at least, so that one that is slow is not waited for long."""


class Drawer(typing.Protocol):
    """Something that draws requests into a storage."""

    @property
    def workers(self) -> int:
        """Batches that it draws at once."""
        ...

    def draw_batches(
        self,
        batches: Iterable[Sequence[Request]],
        storage: Storage,
        *,
        sampler: Mapping[str, Any],
        weights_hash: str | None = None,
    ) -> Iterator[Sequence[Request]]:
        """Draw batches (see `samples.draw_batch`) whether they are there or not, and give each when it is
        stored, in any order.

        A batch is asked for when a worker will soon be free. An empty one says: wait for one that is under
        way before you ask again.
        """
        ...

    def ask(self, question: Callable[[GoTPipeline], Answer]) -> Answer:
        """What a function says about the pipeline, called where the pipeline is."""
        ...

    def recording(self, costs: Costs | None) -> Self:
        """The same drawer, which notes what each batch costs."""
        ...

    def draw(
        self,
        requests: Mapping[int, Request],
        storage: Storage,
        *,
        sampler: Mapping[str, Any],
        weights_hash: str | None = None,
        batch_size: int = 50,
        progress: Progress | None = None,
    ) -> int:
        """Draw every request whose picture is not in storage yet; returns how many were drawn.

        What lies under its name and is something else is replaced. Of one that could not be drawn (NaN) an
        empty picture with its fault is stored, which the next run tries again. With several workers, requests
        of one plan stay together, and batches are smaller where there would be too few.
        """
        key: dict[str, Any] = {"sampler": sampler, "weights_hash": weights_hash}
        wanted = {one.name: one for one in requests.values()}
        many = self.workers > 1
        return draw_orders(
            self,
            [Order(name=name, group=one.plan_key if many else None) for name, one in wanted.items()],
            storage,
            lambda orders: [wanted[one.name] for one in orders],
            states=stored_states(storage, wanted.values(), **key),
            batch_size=batch_size,
            progress=progress,
            **key,
        )


PipelineOrDrawer = typing.Union["GoTPipeline", Drawer]


@dataclass(frozen=True, kw_only=True)
class Order:
    """A picture to draw, before its source is read."""

    name: str
    """Where it is kept in storage."""

    group: Hashable = None
    """Those of one group are drawn in one batch, if they are no more than a batch; None: it stands alone."""

    after: str | None = None
    """Name of the picture that has to be there before."""


def draw_orders(
    drawer: Drawer,
    orders: Sequence[Order],
    storage: Storage,
    load: Callable[[Sequence[Order]], Sequence[Request]],
    *,
    sampler: Mapping[str, Any],
    weights_hash: str | None = None,
    batch_size: int,
    progress: Progress | None = None,
    states: Mapping[str, State] | None = None,
    refuse: Callable[[str], Exception] | None = None,
) -> int:
    """Draw every ordered picture that is not in storage yet; returns how many were drawn.

    `load` makes the requests of a few orders, with their sources, when they are to be drawn. `states`: what
    is in storage, by name, where that is known already; else it is looked at batch by batch. `refuse` makes
    the error for a picture of something else under a name; without it such a picture is replaced.
    """
    queue = _Queue(orders, load, batch_size, drawer.workers, states or {})
    if states is None:
        there = frozenset(storage.list())
        queue.look = lambda requests: stored_states(
            storage, requests, sampler=sampler, weights_hash=weights_hash, there=there
        )
    queue.refuse = refuse
    queue.progress = progress or queue.progress
    queue.say()
    for batch in drawer.draw_batches(queue.batches(), storage, sampler=sampler, weights_hash=weights_hash):
        queue.finish(batch)
        queue.drawn += len(batch)
        queue.say()
    return queue.drawn


class _Queue:
    """Orders on their way: waiting, handed out, finished."""

    def __init__(
        self,
        orders: Sequence[Order],
        load: Callable[[Sequence[Order]], Sequence[Request]],
        batch_size: int,
        workers: int,
        states: Mapping[str, State],
    ) -> None:
        missing = [one for one in orders if states.get(one.name) is not State.OWN]
        few = -(-len(missing) // (workers * PIECES))
        self.size = batch_size if workers == 1 else max(1, min(batch_size, few))
        self.total, self.load, self.drawn = len(orders), load, 0
        self.unfinished = {one.name for one in missing}
        self.waiting = list(_groups(missing, batch_size))
        self.look: Callable[[Sequence[Request]], Mapping[str, State]] = lambda requests: {}
        self.refuse: Callable[[str], Exception] | None = None
        self.progress: Progress = lambda done, total: None

    def say(self) -> None:
        self.progress(self.total - len(self.unfinished), self.total)

    def finish(self, requests: Iterable[Request]) -> None:
        self.unfinished -= {one.name for one in requests}

    def batches(self) -> Iterator[Sequence[Request]]:
        """Requests to draw now; empty ones while all others wait for pictures that are being drawn."""
        while self.waiting:
            chosen = self._chosen()
            requests = self.load(chosen) if chosen else []
            missing = self._missing(requests)
            if missing or not chosen:
                yield missing

    def _missing(self, requests: Sequence[Request]) -> list[Request]:
        states = self.look(requests) if requests else {}
        other = next((name for name, state in states.items() if state is State.OTHER), None)
        if other is not None and self.refuse is not None:
            raise self.refuse(other)
        own = [one for one in requests if states.get(one.name) is State.OWN]
        if own:
            self.finish(own)
            self.say()
        return [one for one in requests if states.get(one.name) is not State.OWN]

    def _chosen(self) -> list[Order]:
        """Whole groups, in order, whose sources are there."""
        chosen: list[Order] = []
        later = []
        for number, group in enumerate(self.waiting):
            if chosen and len(chosen) + len(group) > self.size:
                later += self.waiting[number:]
                break
            if any(one.after in self.unfinished for one in group):
                later.append(group)
            else:
                chosen += group
        self.waiting = later
        return chosen


def _groups(orders: Sequence[Order], most: int) -> Iterator[list[Order]]:
    """In the order of their first, each of at most so many."""
    groups: dict[Hashable, list[Order]] = {}
    for number, one in enumerate(orders):
        groups.setdefault(("alone", number) if one.group is None else ("group", one.group), []).append(one)
    for group in groups.values():
        yield from (group[start : start + most] for start in range(0, len(group), most))
