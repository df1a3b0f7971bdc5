"""Who plans and draws for the studio: a model of its own behind a queue, or a `got serve` elsewhere.

Belongs here: both behind one interface, and progress. Not here: the queue (`serving.engine`), HTTP routes.
"""

from __future__ import annotations

import base64
import json
import queue
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from got_core.chain.grammar import Chain, parse_tolerant
from got_core.registry.picture_file import picture_bytes
from got_core.registry.rows import Made, Plan
from got_core.server_settings import ServeSettings
from got_core.serving.answers import Publisher
from got_core.serving.engine import Engine, Job
from got_core.serving.errors import of_exception
from got_core.serving.metrics import Metrics
from got_core.serving.models import ModelSlot
from got_core.serving.reading import Reader, picture_cell

_SECONDS = 600.0
"""For a picture, at most."""


class PaintingError(RuntimeError):
    """What could not be planned or drawn; the message is for the artist."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be planned or drawn."""

    prompt: str
    chain: Chain | None = None
    source: bytes | None = None
    """Of an edit: a picture file."""

    earlier: bytes | None = None
    """A drawn picture's file: it stays outside the boxes that were changed since."""

    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of a prediction."""


@dataclass(frozen=True)
class Step:
    """Steps done, and of how many."""

    done: int
    of: int
    preview: bytes | None = field(default=None, repr=False)
    """What the picture looks like so far, a small PNG file; None from a server."""


@dataclass(frozen=True, kw_only=True)
class Painted:
    """A picture file and the model that drew it."""

    picture: bytes
    model: str


class Painter(Protocol):
    """Plans and draws. Both raise PaintingError."""

    def plan(self, order: Order) -> Plan:
        """The model's plan."""

    def draw(self, order: Order) -> Iterator[Step | Painted]:
        """Steps, then the picture."""

    def close(self) -> None:
        """No further orders follow."""


class EmbeddedPainter:
    """A model in this process. Orders that come together are drawn together."""

    def __init__(self, slot: ModelSlot, settings: ServeSettings, publisher: Publisher | None = None) -> None:
        self.slot, self.settings, self.publisher = slot, settings, publisher or Publisher()
        self.engine = Engine(slot, most_waiting=settings.queue, gather=settings.gather, meter=Metrics())
        self.engine.start()

    def plan(self, order: Order) -> Plan:
        made = self._wait(self._submitted(self._job(order, {"plan_only": True})))
        return made[0].plan

    def draw(self, order: Order) -> Iterator[Step | Painted]:
        told: queue.SimpleQueue[Step | None] = queue.SimpleQueue()
        job = self._job(order, order.settings)
        seen: list[bytes] = []
        job.on_preview = lambda image: seen.append(picture_bytes(image))
        job.on_step = lambda done, of: told.put(Step(done, of, seen[-1] if seen else None))
        future = self._submitted(job)
        future.add_done_callback(lambda _: told.put(None))
        try:
            while (step := told.get(timeout=_SECONDS)) is not None:
                yield step
        except queue.Empty as error:
            raise PaintingError(f"nothing was drawn within {_SECONDS:.0f} seconds") from error
        finally:
            future.cancel()  # of an artist who went away; one that is answered stays as it is
        (made,) = self._wait(future)
        data, reason = self.publisher.file(made)
        if data is None:
            raise PaintingError(reason or "nothing was drawn")
        yield Painted(picture=data, model=job.model.name if job.model else "")

    def close(self) -> None:
        self.engine.stop()
        self.slot.stop()

    def _job(self, order: Order, given: Mapping[str, Any]) -> Job:
        cells = {
            "prompt": order.prompt,
            "chain": None if order.chain is None else order.chain.to_model(),
            "image": None if order.source is None else picture_cell(order.source),
            "earlier": None if order.earlier is None else picture_cell(order.earlier),
            "seed": order.seed,
        }
        try:
            return Reader(model=self.slot.current, settings=self.settings).job(cells, given)
        except Exception as error:
            raise _said(error) from error

    def _submitted(self, job: Job) -> Future[list[Made]]:
        try:
            return self.engine.submit(job)
        except Exception as error:
            raise _said(error) from error

    def _wait(self, future: Future[list[Made]]) -> list[Made]:
        try:
            return future.result(_SECONDS)
        except Exception as error:
            raise _said(error) from error


class RemotePainter:
    """A model behind `got serve`."""

    def __init__(self, url: str, token: str | None = None) -> None:
        """`url`: such as http://127.0.0.1:8100. Raises PaintingError where no server answers there."""
        import httpx

        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._failures = httpx.HTTPError
        try:
            self.client = httpx.Client(
                base_url=url.rstrip("/"), headers=headers, timeout=_SECONDS, trust_env=False
            )
        except httpx.InvalidURL as error:
            raise PaintingError(f"{url} is no address of a server: {error}") from error
        self._answer("GET", "/v1/models", None)

    def plan(self, order: Order) -> Plan:
        found = self._answer("POST", "/v1/got/plan", _body(order, draw=False))
        chain, dropped = parse_tolerant(str(found.get("chain", "")))
        return Plan(chain=chain, dropped=dropped)

    def draw(self, order: Order) -> Iterator[Step | Painted]:
        body = {**_body(order, draw=True), "stream": True}
        try:
            with self.client.stream("POST", "/v1/got/draw", json=body) as answer:
                if answer.status_code != 200:
                    answer.read()
                    raise PaintingError(_fault(answer.content, answer.status_code))
                yield from _events(answer.iter_lines())
        except self._failures as error:
            raise PaintingError(f"the server does not answer: {error}") from error

    def close(self) -> None:
        self.client.close()

    def _answer(self, method: str, path: str, body: Any) -> dict[str, Any]:
        try:
            answer = self.client.request(method, path, json=body)
        except self._failures as error:
            raise PaintingError(f"no server answers at {self.client.base_url}: {error}") from error
        if answer.status_code != 200:
            raise PaintingError(_fault(answer.content, answer.status_code))
        try:
            return answer.json()
        except ValueError as error:
            raise PaintingError(f"what answers at {self.client.base_url} is no `got serve`") from error


def _body(order: Order, *, draw: bool) -> dict[str, Any]:
    body: dict[str, Any] = {
        "prompt": order.prompt,
        "image": None if order.source is None else base64.b64encode(order.source).decode(),
    }
    if draw:
        chain = None if order.chain is None else order.chain.to_model()
        body |= {"chain": chain, "seed": order.seed, **order.settings}
        if order.earlier is not None:
            body["earlier"] = base64.b64encode(order.earlier).decode()
    return body


def _events(lines: Iterator[str]) -> Iterator[Step | Painted]:
    """Of a stream of server-sent events, each a line `event:` and a line `data:`."""
    name, finished = "", False
    for line in lines:
        kind, _, text = line.partition(": ")
        if kind == "event":
            name = text
        elif kind == "data":
            found = json.loads(text)
            if name == "progress":
                yield Step(found["step"], found["steps"])
            elif name == "error":
                raise PaintingError(found["error"]["message"])
            elif name == "done":
                finished = True
                yield _painted(found)
    if not finished:
        raise PaintingError("the server ended before the picture was drawn: draw again")


def _painted(found: Mapping[str, Any]) -> Painted:
    (one,) = found["pictures"]
    if one["image"] is None:
        raise PaintingError(one["error"] or "nothing was drawn")
    return Painted(picture=base64.b64decode(one["image"]), model=found["model"])


def _fault(content: bytes, status: int) -> str:
    try:
        return str(json.loads(content)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {status}"


def _said(error: Exception) -> PaintingError:
    return PaintingError(of_exception(error).message)
