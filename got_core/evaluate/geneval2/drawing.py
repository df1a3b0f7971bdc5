"""A folder of the official layout from a pipeline: drawn once, found again after an interruption.

Belongs here: the requests of all prompts, and the listing that others' scripts read. Not here: drawing and
its resumption by picture (`evaluate.drawers`), or reading such a folder (`layout`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from got_core.chain.grammar import Chain
from got_core.evaluate.drawers.drawer import Order, PipelineOrDrawer, draw_orders
from got_core.evaluate.drawers.local import as_drawer
from got_core.evaluate.geneval.drawing import other_pictures
from got_core.evaluate.geneval.layout import LayoutError, Problem, explained
from got_core.evaluate.geneval2.layout import LISTING
from got_core.evaluate.geneval2.prompts import Sample, Samples
from got_core.evaluate.samples import Progress, Request, stored_states

if TYPE_CHECKING:
    from got_core.storage import Storage


def write_layout(
    samples: Samples,
    pipeline: PipelineOrDrawer,
    storage: Storage,
    *,
    seed: int,
    plan: bool = True,
    sampler: Mapping[str, Any] | None = None,
    weights_hash: str | None = None,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> int:
    """Draw what is missing in the folder that a storage is; returns how many pictures were drawn.

    Each file is whole or not there, and pictures that are there are not drawn again. `pipeline`: a pipeline,
    or a drawer such as `drawers.cluster.RayDrawer`. With `plan` the model writes a plan and draws from it,
    without it draws from the prompt alone. Raises LayoutError, before anything is drawn, where the folder
    belongs to another list, model or sampler: nothing is overwritten.
    """
    requests = {one.name: one for one in (_request(sample, seed, plan) for sample in samples.all)}
    options: dict[str, Any] = {"sampler": sampler or {}, "weights_hash": weights_hash}
    states = stored_states(storage, requests.values(), **options)
    listing = json.dumps({sample.prompt: sample.name for sample in samples.all}, indent=1).encode()
    if problems := [*_other_listing(storage, listing), *other_pictures(states)]:
        raise LayoutError(explained(storage.url, problems).rpartition("\n")[0] + "\ntake an empty folder")
    storage.write_bytes(LISTING, listing)
    return draw_orders(
        as_drawer(pipeline),
        [Order(name=name) for name in requests],
        storage,
        lambda orders: [requests[one.name] for one in orders],
        states=states,
        batch_size=batch_size,
        progress=progress,
        **options,
    )


def _request(sample: Sample, seed: int, plan: bool) -> Request:
    own = np.random.SeedSequence([seed, sample.prompt_index]).generate_state(1)
    return Request(sample.name, sample.prompt, int(own[0]), chain=None if plan else Chain(()))


def _other_listing(storage: Storage, listing: bytes) -> Iterator[Problem]:
    stored = storage.read_many([LISTING]).get(LISTING, listing)
    if stored != listing:
        yield Problem(LISTING, "is there already, of another list of prompts or other pictures")
