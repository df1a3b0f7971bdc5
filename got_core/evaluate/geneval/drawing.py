"""A folder of the official layout from a pipeline: drawn once, found again after an interruption.

Belongs here: the requests of all samples, and writing them where others' scripts look for them. Not here:
drawing and its resumption by picture (`evaluate.samples`), or reading such a folder (`layout`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from got_core.chain.grammar import Chain
from got_core.evaluate.geneval.layout import (
    METADATA,
    LayoutError,
    Problem,
    drawing_record,
    explained,
    metadata_fault,
    read_files,
)
from got_core.evaluate.geneval.prompts import Sample, Samples
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
    requests = {sample.id: _request(sample, seed, plan) for sample in samples.all}
    keys = {one.name: one.key(sampler or {}, weights_hash) for one in requests.values()}
    if problems := [*_other_prompts(samples, storage), *_other_pictures(storage, keys)]:
        raise LayoutError(explained(storage.url, problems).rpartition("\n")[0] + "\ntake an empty folder")
    _write_metadata(samples, storage)
    drawn = 0
    for done, batch in _batches(samples, batch_size):
        drawn += draw_missing(
            pipeline,
            {number: requests[sample.id] for number, sample in enumerate(batch)},
            storage,
            sampler=sampler or {},
            weights_hash=weights_hash,
            batch_size=batch_size,
        )
        if progress:
            progress(done, len(samples))
    return drawn


def _request(sample: Sample, seed: int, plan: bool) -> Request:
    own = np.random.SeedSequence([seed, sample.prompt_index, sample.image_index]).generate_state(1)
    chain = None if plan else Chain(())
    return Request(sample.name, sample.row["prompt"], int(own[0]), chain=chain)


def _batches(samples: Samples, batch_size: int) -> Iterator[tuple[int, Sequence[Sample]]]:
    """Whole prompts together, so that each is planned once; how many are done after it, and its samples."""
    step = max(1, batch_size // samples.images_per_prompt) * samples.images_per_prompt
    for start in range(0, len(samples), step):
        batch = samples.all[start : start + step]
        yield start + len(batch), batch


def _metadata_names(samples: Samples) -> list[str]:
    return [f"{number:05d}/{METADATA}" for number in range(len(samples.rows))]


def _other_prompts(samples: Samples, storage: Storage) -> Iterator[Problem]:
    stored = storage.read_many(_metadata_names(samples))
    for name, row in zip(_metadata_names(samples), samples.rows, strict=True):
        if name in stored and metadata_fault(stored[name], row):
            yield Problem(name, f"is there already and does not ask for {row['prompt']!r}")


def _other_pictures(storage: Storage, keys: Mapping[str, str]) -> Iterator[Problem]:
    """Whole pictures of something else; what is damaged is drawn again."""
    for name, data in read_files(storage, [name for name in storage.list("") if name in keys]):
        record = drawing_record(data)
        if record is not None and record.get("key") != keys[name]:
            yield Problem(name, "is there already, of another model, prompt, seed or sampler")


def _write_metadata(samples: Samples, storage: Storage) -> None:
    there = set(storage.list(""))
    for name, row in zip(_metadata_names(samples), samples.rows, strict=True):
        if name not in there:
            storage.write_bytes(name, _line(row))


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode()
