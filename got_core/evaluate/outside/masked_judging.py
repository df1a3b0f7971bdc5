"""Rows of SmartEdit's figures: one for each edited picture, and one for its source as if it were the edit.

Belongs here: which rows there are, measuring a batch, keeping rows and finding them again. Not here: the
figures of one picture (`masked`), or means over rows (`emu_edit.scoring`).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from got_core.evaluate.emu_edit.judging import COPIED, EDITED, JUDGED, MISSING, UNREADABLE
from got_core.evaluate.emu_edit.measuring import decode
from got_core.evaluate.emu_edit.metrics import cosine
from got_core.evaluate.emu_edit.samples import EditSample, EditSamples, Faults, Pictures
from got_core.evaluate.emu_edit.stored import StoredRows
from got_core.evaluate.geneval.layout import drawing_fault
from got_core.evaluate.networks import Measurer, Networks
from got_core.evaluate.outside.lpips import Lpips
from got_core.evaluate.outside.masked import (
    Mask,
    MaskRule,
    at_side,
    crop,
    masked_figures,
    read_mask,
    times_mask,
)
from got_core.evaluate.protocol import Network
from got_core.evaluate.samples import Progress

if TYPE_CHECKING:
    from PIL import Image

    from got_core.storage import Storage

VERSION = 1
"""Raise when the same pictures, masks and captions give other figures."""

METRICS = ("clip_score", "psnr", "ssim", "mse", "lpips")
FLAGS = ("resized", "unchanged", "caption_cut")
STORED: dict[str, pl.DataType] = {
    "row_id": pl.String(),
    **dict.fromkeys(METRICS, pl.Float64()),
    **dict.fromkeys(FLAGS, pl.Boolean()),
}
ROWS: dict[str, pl.DataType] = {
    "sample": pl.String(),
    "kind": pl.String(),
    "task": pl.String(),
    "cluster": pl.String(),
    "settings": pl.List(pl.String()),
    "bad": pl.String(),
    "prompt": pl.String(),
    "state": pl.String(),
    "reason": pl.String(),
    **dict.fromkeys(METRICS, pl.Float64()),
    **dict.fromkeys(FLAGS, pl.Boolean()),
    "row_id": pl.String(),
    "edited_sha256": pl.String(),
    "source_sha256": pl.String(),
    "mask_sha256": pl.String(),
}
"""As `emu_edit.judging.ROWS`; `clip_score`: 100 cos of the crop and the caption, at least 0; `psnr`: null
where nothing outside the mask differs; `lpips`: null without its weights; `prompt`: the instruction."""


@dataclass(frozen=True)
class MaskedNetworks(Networks):
    """CLIP, and LPIPS where its weights are there."""

    lpips: Lpips | None = None

    def records(self) -> dict[str, Network]:
        """See `Measurer`."""
        return {**super().records(), **({"lpips": self.lpips.record} if self.lpips else {})}


@dataclass(frozen=True)
class Job:
    """One row to make, with its pictures as files."""

    sample: EditSample
    kind: str
    edited: bytes
    source: bytes
    mask: bytes

    @functools.cached_property
    def hashes(self) -> dict[str, str]:
        """Of its pictures, by the names of their columns."""
        files = {"edited": self.edited, "source": self.source, "mask": self.mask}
        return {f"{name}_sha256": hashlib.sha256(data).hexdigest() for name, data in files.items()}


def judge_masked(
    samples: EditSamples,
    pictures: Pictures,
    networks: Measurer,
    rule: MaskRule,
    *,
    progress: Progress | None = None,
    storage: Storage | None = None,
    prefix: str,
    batch_size: int = 16,
    partial: bool = False,
) -> pl.DataFrame:
    """One row for each picture and each source (columns ROWS), in the order of the samples.

    Rows are kept in `storage` below `prefix` and found again. Raises BenchmarkDataError that names pictures
    and masks that are missing or cannot be read, unless `partial`; all others are judged and kept by then.
    """
    there = set(pictures.names())
    faults = Faults("edited pictures")
    faults.add("missing", *(one.key for one in samples.samples if one.key not in there))
    faults.settle(partial=partial)
    measure = [VERSION, networks.profile.name, networks.records(), networks.resize(), rule.record()]
    run = _Run(samples, pictures, there, StoredRows(storage, prefix, measure, STORED), progress)
    work = functools.partial(measure_batch, rule=rule)
    for batch, found in networks.each(work, run.batches(batch_size)):
        run.keep(batch, found)
    rows = run.rows()
    broken = Faults("pictures")
    unreadable = [row for row in rows if row["state"] == UNREADABLE]
    broken.add("not readable", *(f"{row['sample']}: {row['reason']}" for row in unreadable))
    broken.settle(partial=partial)
    return pl.DataFrame(rows, schema=ROWS)


class _Run:
    """Rows of one batch after another."""

    def __init__(
        self,
        samples: EditSamples,
        edited: Pictures,
        there: set[str],
        stored: StoredRows,
        progress: Progress | None,
    ) -> None:
        self._samples, self._edited, self._there, self._stored = samples, edited, there, stored
        self._weights: str | None = getattr(edited, "drawn_by", None)
        self._progress, self._done = progress or (lambda done, total: None), 0
        self._made: list[tuple[EditSample, str, dict[str, Any]]] = []
        """Sample, kind, and what is known of the row before it is measured."""
        self._reasons: dict[str, str] = {}
        self._under_way: set[str] = set()

    def batches(self, size: int) -> Iterator[list[Job]]:
        """Jobs that are not done yet; their pictures are read when a batch is asked for."""
        everything = self._samples.samples
        for start in range(0, len(everything), size):
            new = [job for job in self._jobs(everything[start : start + size]) if self._is_new(job)]
            if new:
                yield new
            self._done = min(start + size, len(everything))
            self._progress(self._done, len(everything))

    def _jobs(self, batch: Sequence[EditSample]) -> Iterator[Job]:
        names = [name for one in batch for name in (one.source, one.mask) if name]
        own = self._samples.pictures.read(names)
        made = self._edited.read([one.key for one in batch if one.key in self._there])
        for one in batch:
            source, mask = own[one.source], own.get(one.mask or "", b"")
            if one.key in made:
                yield Job(one, EDITED, made[one.key], source, mask)
            else:
                self._made.append((one, EDITED, {"state": MISSING}))
            yield Job(one, COPIED, source, source, mask)

    def _is_new(self, job: Job) -> bool:
        one = job.sample
        row_id = self._stored.row_id([job.hashes, one.output_caption])
        fault = drawing_fault(job.edited, self._weights) if job.kind == EDITED else None
        known = {"row_id": row_id, **job.hashes}
        if fault:
            self._made.append((one, job.kind, {**known, "state": UNREADABLE, "reason": f"it {fault}"}))
            return False
        self._made.append((one, job.kind, known))
        new = row_id not in self._stored and row_id not in self._under_way
        self._under_way.add(row_id)
        return new

    def keep(self, batch: Sequence[Job], found: Sequence[dict[str, Any] | str]) -> None:
        """What was measured, in storage at once."""
        ids = [self._stored.row_id([job.hashes, job.sample.output_caption]) for job in batch]
        made = dict(zip(ids, found, strict=True))
        self._stored.add({row_id: one for row_id, one in made.items() if not isinstance(one, str)})
        self._reasons.update({row_id: one for row_id, one in made.items() if isinstance(one, str)})

    def rows(self) -> list[dict[str, Any]]:
        """Of all samples, when all is measured."""
        return [self._row(*one) for one in self._made]

    def _row(self, sample: EditSample, kind: str, known: Mapping[str, Any]) -> dict[str, Any]:
        row: dict[str, Any] = {**dict.fromkeys(ROWS), "sample": sample.key, "kind": kind}
        row |= {"task": sample.task, "settings": list(sample.settings), "prompt": sample.instruction}
        row |= {"cluster": sample.cluster or known.get("source_sha256") or sample.source, **known}
        if row["state"]:
            return row
        if reason := self._reasons.get(known["row_id"]):
            return {**row, "state": UNREADABLE, "reason": reason}
        return {**row, "state": JUDGED, **self._stored.get(known["row_id"])}


# -- where the networks are --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pair:
    """Pictures of a job at the benchmark's size."""

    source: Image.Image
    edited: Image.Image
    mask: Mask
    resized: bool


def measure_batch(networks: Networks, jobs: Sequence[Job], *, rule: MaskRule) -> list[dict[str, Any] | str]:
    """Of each job its figures, or why one of its pictures cannot be read."""
    pairs = [_pair(job, rule) for job in jobs]
    sound = [(job, one) for job, one in zip(jobs, pairs, strict=True) if isinstance(one, _Pair)]
    figures = iter(_figures(networks, sound))
    return [one if isinstance(one, str) else next(figures) for one in pairs]


def _pair(job: Job, rule: MaskRule) -> _Pair | str:
    try:
        source, edited = decode(job.source), decode(job.edited)
    except ValueError as error:
        return str(error)
    try:
        mask = read_mask(decode(job.mask), rule)
    except ValueError as error:
        return f"{job.sample.mask}: {error}"
    return _Pair(at_side(source), at_side(edited), mask, source.size != edited.size)


def _figures(networks: Networks, jobs: Sequence[tuple[Job, _Pair]]) -> list[dict[str, Any]]:
    if not jobs:
        return []
    left = np.stack([times_mask(pair.source, pair.mask) for _, pair in jobs])
    right = np.stack([times_mask(pair.edited, pair.mask) for _, pair in jobs])
    lpips = getattr(networks, "lpips", None)
    far = lpips.distances(left, right).tolist() if lpips else [None] * len(jobs)
    scores = _clip_scores(networks, jobs)
    return [
        {
            "clip_score": scores[k],
            **masked_figures(left[k], right[k]),
            "lpips": far[k],
            "resized": pair.resized,
            "unchanged": job.edited == job.source,
            "caption_cut": networks.clip.is_cut(job.sample.output_caption),
        }
        for k, (job, pair) in enumerate(jobs)
    ]


def _clip_scores(networks: Networks, jobs: Sequence[tuple[Job, _Pair]]) -> list[float | None]:
    """100 cos of crop and caption, at least 0; None where the crop has no area."""
    crops = {k: seen for k, (_, pair) in enumerate(jobs) if (seen := crop(pair.edited, pair.mask))}
    if not crops:
        return [None] * len(jobs)
    texts = [jobs[k][0].sample.output_caption for k in crops]
    found = cosine(networks.clip.pictures(list(crops.values())), networks.clip.texts(texts))
    values = dict(zip(crops, found, strict=True))
    return [max(100 * float(values[k]), 0.0) if k in values else None for k in range(len(jobs))]
