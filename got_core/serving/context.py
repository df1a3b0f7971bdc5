"""What the routes share: model, queue, metrics, and waiting for an answer.

Belongs here: from a job to what became of it, inside of the event loop. Not here: routes (`images_api`,
`got_api`, `status_api`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from got_core.registry.rows import Made, Plan
from got_core.server_settings import ServeSettings
from got_core.serving.answers import Publisher
from got_core.serving.engine import Engine, Job
from got_core.serving.errors import client_gone, of_exception
from got_core.serving.metrics import Metrics
from got_core.serving.models import ModelSlot
from got_core.serving.reading import Reader

Files = list[tuple[bytes | None, str | None]]
T = TypeVar("T")

_READING = 4
"""Requests that are read at once, at most: a picture to edit may have 50 million pixels."""


@dataclass(frozen=True, kw_only=True)
class Serving:
    """One server."""

    slot: ModelSlot
    engine: Engine
    settings: ServeSettings
    publisher: Publisher = field(default_factory=Publisher)
    metrics: Metrics
    _reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_READING))

    async def read(self, function: Callable[..., T], *given: Any) -> T:
        """What a function makes of a request, in a thread of its own: pictures are decoded there."""
        async with self._reading:
            return await run_in_threadpool(function, *given)

    def reader(self) -> Reader:
        """Of requests to the model of now."""
        return Reader(model=self.slot.current, settings=self.settings)

    def begin(self, job: Job) -> Future[list[Made]]:
        """Put a job into the queue. Raises ApiError where there is no room."""
        return self.engine.submit(job)

    async def finish(self, future: Future[list[Made]]) -> list[Made]:
        """What became of a job's rows. Cancelled, it takes the job from the queue. Raises ApiError."""
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            future.cancel()
            raise
        except Exception as error:
            raise of_exception(error) from error

    async def answer(self, job: Job, request: Request) -> list[Made]:
        """Both of them, for a request whose body has been read: if its client goes away while the job waits,
        that leaves the queue. Raises ApiError."""
        work = asyncio.ensure_future(self.finish(self.begin(job)))
        gone = asyncio.ensure_future(_gone(request))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise client_gone()
            return work.result()
        finally:
            work.cancel()
            gone.cancel()

    async def files(self, made: Sequence[Made], kind: str = "png", quality: int | None = None) -> Files:
        """Files of the pictures, or why there are none."""
        return [await run_in_threadpool(self.publisher.file, one, kind, quality) for one in made]


def serving_of(request: Request) -> Serving:
    """Of the app that a request came to."""
    return request.app.state.serving


class Events:
    """Progress of a job as server-sent events."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    def on_step(self, step: int, steps: int) -> None:
        """From the engine's thread."""
        self._loop.call_soon_threadsafe(self.put, "progress", {"step": step, "steps": steps})

    def on_plans(self, plans: list[Plan], job: Job, model: str) -> None:
        """From the engine's thread."""
        from got_core.serving.answers import plan_answer

        document = {**plan_answer(job, plans[0]), "model": model}
        self._loop.call_soon_threadsafe(self.put, "plan", document)

    def put(self, name: str, value: dict[str, Any]) -> None:
        """Send an event."""
        self._queue.put_nowait(event(name, value))

    def close(self) -> None:
        """No further events follow."""
        self._queue.put_nowait(None)

    async def stream(self) -> AsyncIterator[bytes]:
        """The events until the end."""
        while (one := await self._queue.get()) is not None:
            yield one


class EventStream(StreamingResponse):
    """Server-sent events about some work, which ends with the connection: also where that is lost before the
    first event is asked for, and nothing of the iterator runs."""

    def __init__(self, events: AsyncIterator[bytes], work: asyncio.Future[Any]) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._work.cancel()


async def _gone(request: Request) -> None:
    """Returns when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def event(name: str, value: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps(value)}\n\n".encode()


def error_event(error: Exception, name: str = "error") -> bytes:
    """The event of a job that failed."""
    return event(name, of_exception(error).body())
