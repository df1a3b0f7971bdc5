"""A folder of the official layout from a pipeline: drawn once, found again after an interruption.

Belongs here: the requests of all prompts, and the listing that others' scripts read. Not here: drawing and
its resumption by picture (`evaluate.samples`), or reading such a folder (`layout`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from got_core.chain.grammar import Chain
from got_core.evaluate.geneval.layout import LayoutError, Problem, drawing_record, explained, read_files
from got_core.evaluate.geneval2.layout import LISTING
from got_core.evaluate.geneval2.prompts import Sample, Samples
from got_core.evaluate.samples import Progress, Request, draw_missing

if TYPE_CHECKING:
    from got_core.model.pipeline import GoTPipeline
    from got_core.storage import Storage


def write_layout(
    samples: Samples,
    pipeline: GoTPipeline,
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

    Each file is whole or not there, and pictures that are there are not drawn again. With `plan` the model
    writes a plan and draws from it, without it draws from the prompt alone. Raises LayoutError, before
    anything is drawn, where the folder belongs to another list, model or sampler: nothing is overwritten.
    """
    requests = {number: _request(sample, seed, plan) for number, sample in enumerate(samples.all)}
    keys = {one.name: one.key(sampler or {}, weights_hash) for one in requests.values()}
    listing = json.dumps({sample.prompt: sample.name for sample in samples.all}, indent=1).encode()
    if problems := [*_other_listing(storage, listing), *_other_pictures(storage, keys)]:
        raise LayoutError(explained(storage.url, problems).rpartition("\n")[0] + "\ntake an empty folder")
    storage.write_bytes(LISTING, listing)
    return draw_missing(
        pipeline,
        requests,
        storage,
        sampler=sampler or {},
        weights_hash=weights_hash,
        batch_size=batch_size,
        progress=progress,
    )


def _request(sample: Sample, seed: int, plan: bool) -> Request:
    own = np.random.SeedSequence([seed, sample.prompt_index]).generate_state(1)
    return Request(sample.name, sample.prompt, int(own[0]), chain=None if plan else Chain(()))


def _other_listing(storage: Storage, listing: bytes) -> Iterator[Problem]:
    stored = storage.read_many([LISTING]).get(LISTING, listing)
    if stored != listing:
        yield Problem(LISTING, "is there already, of another list of prompts or other pictures")


def _other_pictures(storage: Storage, keys: Mapping[str, str]) -> Iterator[Problem]:
    """Whole pictures of something else; what is damaged is drawn again."""
    for name, data in read_files(storage, [name for name in storage.list("") if name in keys]):
        record = drawing_record(data)
        if record is not None and record.get("key") != keys[name]:
            yield Problem(name, "is there already, of another model, prompt, seed or sampler")
