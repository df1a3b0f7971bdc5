"""Edits by a pipeline in a benchmark's layout: drawn once, found again after an interruption.

Belongs here: requests with their sources, a few in memory at a time, in an order in which sources are there.
Not here: drawing and its resumption by picture (`evaluate.samples`), or reading the folder (`folders`).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from got_core.chain.grammar import Chain
from got_core.evaluate.emu_edit.folders import Folder, Place, storage_of
from got_core.evaluate.emu_edit.judging import decode
from got_core.evaluate.emu_edit.samples import BenchmarkDataError, EditRequest, EditSamples
from got_core.evaluate.samples import Progress, Request, draw_missing

if TYPE_CHECKING:
    from got_core.model.pipeline import GoTPipeline
    from got_core.storage import Storage


def draw_edits(
    samples: EditSamples,
    requests: Sequence[EditRequest],
    pipeline: GoTPipeline,
    folder: Folder,
    place: Place,
    *,
    seed: int,
    plan: bool = True,
    sampler: Mapping[str, Any] | None = None,
    weights_hash: str | None = None,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> int:
    """Draw what is missing in a folder; returns how many pictures were drawn.

    With `plan` the model writes a plan and draws from it, without it draws from the instruction and source
    alone. Each picture has a seed of its own. Raises BenchmarkDataError for a source that cannot be read,
    and for a picture that is there already and is of another model, source, seed or sampler: nothing is
    overwritten.
    """
    storage, drawn, done = storage_of(folder), 0, 0
    for batch in _batches(requests, batch_size):
        sources = _sources(samples, batch, storage, place)
        wanted = {
            number: Request(
                f"{place(one.key)}.png",
                one.instruction,
                _seed(seed, one.key),
                source=sources[one.key],
                chain=None if plan else Chain(()),
            )
            for number, one in enumerate(batch)
        }
        _refuse_others(storage, wanted, sampler or {}, weights_hash)
        options: dict[str, Any] = {"sampler": sampler or {}, "weights_hash": weights_hash}
        drawn += draw_missing(pipeline, wanted, storage, batch_size=batch_size, **options)
        done += len(batch)
        if progress:
            progress(done, len(requests))
    return drawn


def _batches(requests: Sequence[EditRequest], size: int) -> Iterator[list[EditRequest]]:
    """Such that an edit of an edit is in a later batch than that."""
    batch: list[EditRequest] = []
    for one in requests:
        if len(batch) == size or (one.of_edited and one.source in {other.key for other in batch}):
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def _sources(
    samples: EditSamples, batch: Sequence[EditRequest], storage: Storage, place: Place
) -> dict[str, Image.Image]:
    own = samples.pictures.read([one.source for one in batch if not one.of_edited])
    earlier = {one.source: f"{place(one.source)}.png" for one in batch if one.of_edited}
    made = storage.read_many(earlier.values())
    found = {}
    for one in batch:
        data = made.get(earlier[one.source], b"") if one.of_edited else own[one.source]
        try:
            found[one.key] = decode(data)
        except ValueError as error:
            raise BenchmarkDataError(
                f"the source {one.source} of {one.key} cannot be edited: {error}"
            ) from error
    return found


def _seed(seed: int, key: str) -> int:
    own = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16)
    return int(np.random.SeedSequence([seed, own]).generate_state(1)[0])


def _refuse_others(
    storage: Storage,
    requests: Mapping[int, Request],
    sampler: Mapping[str, Any],
    weights_hash: str | None,
) -> None:
    """Whole pictures of something else stay; what is damaged is drawn again."""
    stored = storage.read_many(one.name for one in requests.values())
    for one in requests.values():
        if one.name in stored and _key_of(stored[one.name]) not in (None, one.key(sampler, weights_hash)):
            raise BenchmarkDataError(
                f"{storage.url_of(one.name)} is there already, of another model, source, seed or sampler: "
                "take an empty folder"
            )


def _key_of(data: bytes) -> str | None:
    """Of the request that a picture was drawn for; empty for other people's pictures, None for a damaged
    one."""
    try:
        picture = Image.open(io.BytesIO(data))
        picture.load()
        return str(json.loads(picture.info.get("got", "{}")).get("key", ""))
    except (OSError, SyntaxError, ValueError, AttributeError):
        return None
