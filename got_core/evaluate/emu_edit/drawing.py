"""Edits by a pipeline in a benchmark's layout: drawn once, found again after an interruption.

Belongs here: requests with their sources, a few in memory at a time. Not here: drawing in an order in which
sources are there, and its resumption by picture (`evaluate.drawers`), or reading the folder (`folders`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from got_core.chain.grammar import Chain
from got_core.evaluate.drawers.drawer import Order, PipelineOrDrawer, draw_orders
from got_core.evaluate.drawers.local import as_drawer
from got_core.evaluate.emu_edit.folders import Folder, Place, storage_of
from got_core.evaluate.emu_edit.measuring import decode
from got_core.evaluate.emu_edit.samples import BenchmarkDataError, EditRequest, EditSamples
from got_core.evaluate.samples import Progress, Request

if TYPE_CHECKING:
    from got_core.storage import Storage


def draw_edits(
    samples: EditSamples,
    requests: Sequence[EditRequest],
    pipeline: PipelineOrDrawer,
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

    `pipeline`: a pipeline, or a drawer such as `drawers.cluster.RayDrawer`. An edit of an edit is drawn when
    that is there. With `plan` the model writes a plan and draws from it, without it draws from the
    instruction and source alone. Each picture has a seed of its own. Raises BenchmarkDataError for a source
    that cannot be read, and for a picture that is there already and is of another model, source, seed or
    sampler: nothing is overwritten.
    """
    storage = storage_of(folder)
    names = {f"{place(one.key)}.png": one for one in requests}

    def load(orders: Sequence[Order]) -> list[Request]:
        chosen = [names[order.name] for order in orders]
        sources, chain = _sources(samples, chosen, storage, place), None if plan else Chain(())
        return [
            Request(order.name, one.instruction, _seed(seed, one.key), source=sources[one.key], chain=chain)
            for order, one in zip(orders, chosen, strict=True)
        ]

    return draw_orders(
        as_drawer(pipeline),
        [
            Order(name=name, after=f"{place(one.source)}.png" if one.of_edited else None)
            for name, one in names.items()
        ],
        storage,
        load,
        sampler=sampler or {},
        weights_hash=weights_hash,
        batch_size=batch_size,
        progress=progress,
        refuse=lambda name: BenchmarkDataError(
            f"{storage.url_of(name)} is there already, of another model, source, seed or sampler: "
            "take an empty folder"
        ),
    )


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
