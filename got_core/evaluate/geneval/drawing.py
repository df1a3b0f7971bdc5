"""A folder of the official layout from a pipeline: drawn once, found again after an interruption.

Belongs here: the requests of all samples, and writing them where others' scripts look for them. Not here:
drawing and its resumption by picture (`evaluate.drawers`), or reading such a folder (`layout`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from got_core.chain.grammar import Chain
from got_core.evaluate.drawers.drawer import Order, PipelineOrDrawer, draw_orders
from got_core.evaluate.drawers.local import as_drawer
from got_core.evaluate.geneval.layout import METADATA, LayoutError, Problem, explained, metadata_fault
from got_core.evaluate.geneval.prompts import Sample, Samples
from got_core.evaluate.samples import Progress, Request, State, stored_states

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
    or a drawer such as `drawers.cluster.RayDrawer`. The pictures of a prompt are drawn in one batch, if it
    takes as many, so that it is planned once. With `plan` the model
    writes a plan and draws from it, without it draws from the prompt alone. Raises LayoutError, before
    anything is drawn, where the folder belongs to another list, model or sampler: nothing is overwritten.
    """
    requests = {one.name: one for one in (_request(sample, seed, plan) for sample in samples.all)}
    options: dict[str, Any] = {"sampler": sampler or {}, "weights_hash": weights_hash}
    states = stored_states(storage, requests.values(), **options)
    if problems := [*_other_prompts(samples, storage), *other_pictures(states)]:
        raise LayoutError(explained(storage.url, problems).rpartition("\n")[0] + "\ntake an empty folder")
    _write_metadata(samples, storage)
    return draw_orders(
        as_drawer(pipeline),
        [Order(name=sample.name, group=sample.prompt_index) for sample in samples.all],
        storage,
        lambda orders: [requests[one.name] for one in orders],
        states=states,
        batch_size=batch_size,
        progress=progress,
        **options,
    )


def _request(sample: Sample, seed: int, plan: bool) -> Request:
    own = np.random.SeedSequence([seed, sample.prompt_index, sample.image_index]).generate_state(1)
    chain = None if plan else Chain(())
    return Request(sample.name, sample.row["prompt"], int(own[0]), chain=chain)


def _metadata_names(samples: Samples) -> list[str]:
    return [f"{number:05d}/{METADATA}" for number in range(len(samples.rows))]


def _other_prompts(samples: Samples, storage: Storage) -> Iterator[Problem]:
    stored = storage.read_many(_metadata_names(samples))
    for name, row in zip(_metadata_names(samples), samples.rows, strict=True):
        if name in stored and metadata_fault(stored[name], row):
            yield Problem(name, f"is there already and does not ask for {row['prompt']!r}")


def other_pictures(states: Mapping[str, State]) -> Iterator[Problem]:
    """Whole pictures of something else; what is damaged is drawn again."""
    for name, state in states.items():
        if state is State.OTHER:
            yield Problem(name, "is there already, of another model, prompt, seed or sampler")


def _write_metadata(samples: Samples, storage: Storage) -> None:
    there = set(storage.list(""))
    for name, row in zip(_metadata_names(samples), samples.rows, strict=True):
        if name not in there:
            storage.write_bytes(name, _line(row))


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode()
