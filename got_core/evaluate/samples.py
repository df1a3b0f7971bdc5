"""Benchmark pictures in storage: drawn once, found again after an interruption, never mistaken for others.

Belongs here: which pictures a run needs, planning and drawing a batch of them, reading them back. Not here:
which batches there are, and where they are drawn (`drawers`), or judging. A picture's own PNG carries its
prompt, seed, chain and the key of the run that drew it, so one write is one finished sample and a picture of
another model or protocol under the same name is not taken for it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, PngImagePlugin

from got_core.chain.grammar import Chain, Dropped, parse_tolerant
from got_core.evaluate.protocol import digest_of

if TYPE_CHECKING:
    from got_core.model.pipeline import GoTPipeline
    from got_core.storage import Storage

Progress = Callable[[int, int], None]
"""Called with (done, total) after each batch."""

DRAWING = 2
"""Raise when the pipeline draws another picture from the same request. 2: canvases as the released inference
code paints them, and evenly spaced noise levels."""

_TEXT_KEY = "got"


@dataclass(frozen=True)
class Request:
    """One picture that a run needs."""

    name: str
    """Where it is kept in storage."""

    prompt: str
    """Prompt, or instruction if there is a source."""

    seed: int
    """Of the picture's own generator."""

    source: Image.Image | None = None
    """The picture to edit."""

    chain: Chain | None = None
    """The plan to draw from; None: the model writes it."""

    dropped: tuple[Dropped, ...] = ()
    """What was written besides a given plan."""

    @cached_property
    def plan_key(self) -> tuple[str, str]:
        """Requests that are equal in it have the same plan: planning is greedy."""
        return self.prompt, self._source_hash or ""

    @cached_property
    def _source_hash(self) -> str | None:
        return hashlib.sha256(self.source.tobytes()).hexdigest() if self.source is not None else None

    def key(self, sampler: Mapping[str, Any], weights_hash: str | None) -> str:
        """Digest of the request, the sampler, the weights and the code that draws (12 hex)."""
        parts: list[Any] = [DRAWING, self.prompt, self.seed, dict(sampler), weights_hash]
        if self._source_hash is not None:
            parts.append(self._source_hash)
        if self.chain is not None:
            parts.append({"chain": self.chain.to_model()})
        return digest_of(parts)


@dataclass(frozen=True)
class Plan:
    """A chain to draw from."""

    chain: Chain
    dropped: tuple[Dropped, ...] = ()
    """What the model wrote besides, and no chain can hold."""


@dataclass(frozen=True)
class Drawn:
    """One benchmark picture with the chain that it was drawn from."""

    name: str
    """Where it is kept in storage."""

    image: Image.Image
    chain: Chain
    dropped: tuple[Dropped, ...]
    """What the model wrote besides, and no chain can hold."""

    data: bytes
    """The PNG as stored."""

    fault: str | None = None
    """Why there is no picture (it holds NaN or infinity); the image is then an empty one."""

    @property
    def image_id(self) -> str:
        """SHA-256 hex of the PNG's bytes."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def outlines(self) -> tuple[tuple[tuple[float, float, float, float], str], ...]:
        """The chain's boxes with their colours, as a picture grid takes them: fractions of the sides."""
        return tuple((placed.box.to_pixels(1, 1), placed.color) for placed in self.chain.boxes)


def sample_name(prefix: str, index: int) -> str:
    """Storage name of picture `index`."""
    return f"{prefix.rstrip('/')}/{index:05d}.png"


def picture_seed(seed: int, sampling_seed: int) -> int:
    """Seed of a picture's generator; sampling seed 0 leaves the list's own."""
    if sampling_seed == 0:
        return seed
    return int(np.random.SeedSequence([seed, sampling_seed]).generate_state(1)[0])


def read_samples(
    storage: Storage,
    requests: Mapping[int, Request],
    *,
    sampler: Mapping[str, Any],
    weights_hash: str | None = None,
) -> dict[int, Drawn]:
    """Stored pictures that answer these requests, by the requests' numbers; other and damaged files are
    passed over."""
    folders = {request.name.rpartition("/")[0] for request in requests.values()}
    stored = {name for folder in folders for name in storage.list(f"{folder}/")}
    found = {}
    for index, request in requests.items():
        if request.name in stored:
            drawn = _decode(
                request.name, storage.read_bytes(request.name), request.key(sampler, weights_hash)
            )
            if drawn is not None:
                found[index] = drawn
    return found


class State(Enum):
    """What lies under the name of a requested picture."""

    OWN = "own"
    """The picture."""

    FAULTY = "faulty"
    """An empty picture of the request, with its fault; drawing it again may help."""

    OTHER = "other"
    """A picture of another model, prompt, source, seed or sampler, or by another program."""

    DAMAGED = "damaged"
    """No readable picture."""


_LISTED = 16
"""Requests above which the folder is listed before files are read."""
_AT_ONCE = 32
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""Of pictures by other programs, whatever their name's ending."""


def stored_states(
    storage: Storage,
    requests: Iterable[Request],
    *,
    sampler: Mapping[str, Any],
    weights_hash: str | None = None,
    there: Collection[str] | None = None,
) -> dict[str, State]:
    """What is in storage under the requests' names; those under which nothing lies are left out. A few
    pictures are in memory at a time. `there`: names in storage, where they are known."""
    keys = {one.name: one.key(sampler, weights_hash) for one in requests}
    states = {}
    for name, data in _read(storage, [name for name in keys if there is None or name in there]):
        states[name] = _state(name, data, keys[name])
    return states


def _read(storage: Storage, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    if len(names) > _LISTED:  # most of them may not be there
        common = os.path.commonpath([name.rpartition("/")[0] for name in names])
        stored = set(storage.list(f"{common}/" if common else ""))
        names = [name for name in names if name in stored]
    for start in range(0, len(names), _AT_ONCE):
        yield from storage.read_many(names[start : start + _AT_ONCE]).items()


def _state(name: str, data: bytes, key: str) -> State:
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            record = json.loads(image.info.get(_TEXT_KEY, "{}"))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return State.DAMAGED
    except Image.DecompressionBombError:
        return State.OTHER
    if not isinstance(record, dict) or record.get("key") != key:
        return State.OTHER
    drawn = _decode(name, data, key)
    if drawn is None:
        return State.DAMAGED
    return State.OWN if drawn.fault is None else State.FAULTY


Plans = dict[tuple[str, str], Plan]
"""Plans that a model has written, by what they depend on: planning is greedy."""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What a batch took."""

    pictures: int
    planned: int
    """Plans that the model wrote for it."""

    plan_seconds: float
    draw_seconds: float


def draw_batch(
    pipeline: GoTPipeline,
    batch: Sequence[Request],
    storage: Storage,
    planned: Plans,
    *,
    sampler: Mapping[str, Any],
    weights_hash: str | None = None,
) -> Spent:
    """Plan and draw pictures in one call each, and write them one by one.

    Each picture has a generator of its own, so neither batch nor interruption changes it beyond rounding. One
    that holds NaN or infinity is stored as an empty picture with its `fault`. `planned` keeps the plans, so
    that a prompt of several requests is planned once. `sampler`: arguments for the pipeline;
    `max_new_tokens` goes to planning, the rest to drawing. Either all requests have a source or none has.
    """
    before, started = len(planned), time.perf_counter()
    plans = plan_requests(pipeline, batch, sampler, planned)
    written = time.perf_counter()
    images, faults = _draw(pipeline, batch, [plan.chain for plan in plans], sampler)
    ended = time.perf_counter()
    for number, (request, plan, image) in enumerate(zip(batch, plans, images, strict=True)):
        record = {
            "key": request.key(sampler, weights_hash),
            "chain": plan.chain.to_model(),
            "dropped": [dataclasses.astuple(one) for one in plan.dropped],
            "prompt": request.prompt,
            "seed": request.seed,
            "weights_hash": weights_hash,
            "fault": faults.get(number),
        }
        storage.write_bytes(request.name, _encode(image, record))
    return Spent(
        pictures=len(batch),
        planned=len(planned) - before,
        plan_seconds=written - started,
        draw_seconds=ended - written,
    )


def plan_requests(
    pipeline: GoTPipeline,
    requests: Sequence[Request],
    sampler: Mapping[str, Any],
    planned: Plans,
) -> list[Plan]:
    """The requests' own chains, or those that the model writes; `planned` keeps what it has written."""
    unplanned = {r.plan_key: r for r in requests if r.chain is None and r.plan_key not in planned}
    if unplanned:
        chosen = list(unplanned.values())
        options = {key: value for key, value in sampler.items() if key == "max_new_tokens"}
        texts = pipeline.write_chains([r.prompt for r in chosen], _sources(chosen), **options)
        for key, text in zip(unplanned, texts, strict=True):
            chain, dropped = parse_tolerant(text)
            planned[key] = Plan(chain, tuple(dropped))
    return [planned[r.plan_key] if r.chain is None else Plan(r.chain, r.dropped) for r in requests]


def _sources(requests: Sequence[Request]) -> list[Image.Image] | None:
    return [r.source for r in requests if r.source is not None] or None


def _draw(
    pipeline: GoTPipeline, requests: Sequence[Request], chains: Sequence[Chain], sampler: Mapping[str, Any]
) -> tuple[list[Image.Image], dict[int, str]]:
    """The pictures, an empty one where there is none, and why there is none."""
    import torch

    from got_core.model.finite import NotFiniteError

    try:
        images = pipeline.draw(
            chains,
            [request.prompt for request in requests],
            _sources(requests),
            generator=[torch.Generator("cpu").manual_seed(request.seed) for request in requests],
            **{key: value for key, value in sampler.items() if key != "max_new_tokens"},
        )
    except NotFiniteError as error:
        empty = Image.new("RGB", (pipeline.config.resolution,) * 2)
        return [empty if image is None else image for image in error.images], error.reasons
    return images, {}  # type: ignore[return-value]  # the default output type is PIL


def _encode(image: Image.Image, record: Mapping[str, Any]) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_itxt(_TEXT_KEY, json.dumps(record, ensure_ascii=False, sort_keys=True))
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def _decode(name: str, data: bytes, key: str) -> Drawn | None:
    """The picture, or None if it is damaged or was drawn for something else."""
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
        record = json.loads(image.info.get(_TEXT_KEY, "{}"))
        if record.get("key") != key:
            return None
        dropped = tuple(Dropped(*one) for one in record["dropped"])
        chain = parse_tolerant(record["chain"])[0]
        return Drawn(name, image.convert("RGB"), chain, dropped, data, record.get("fault"))
    except (OSError, SyntaxError, ValueError, TypeError, KeyError):
        return None
