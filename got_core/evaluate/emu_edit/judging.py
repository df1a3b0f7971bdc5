"""Judging edited pictures: one row for each, kept as soon as its batch is done, and never made twice.

Belongs here: which rows there are, keeping and finding them again. Not here: their figures (`measuring`), or
means over rows (`scoring`).

The sources are judged besides as if a model had copied them, because CLIP-I and DINO reward that; targets,
where there are any, as if a model had hit them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from got_core.evaluate.emu_edit.measuring import Figures, Job, measure
from got_core.evaluate.emu_edit.samples import EditSample, EditSamples, Faults, Pictures
from got_core.evaluate.emu_edit.stored import StoredRows
from got_core.evaluate.geneval.layout import drawing_fault
from got_core.evaluate.networks import Measurer, Networks
from got_core.evaluate.samples import Progress

if TYPE_CHECKING:
    from got_core.storage import Storage

VERSION = 1
"""Raise when the same pictures and captions give other figures (networks and rules are in the protocol)."""

KINDS = EDITED, COPIED, TARGET = "edited", "copied", "target"
JUDGED, MISSING, UNREADABLE = "judged", "missing", "unreadable"
METRICS = ("clip_i", "clip_t", "clip_dir", "l1", "l2", "dino")

ROWS: dict[str, pl.DataType] = {
    "sample": pl.String(),
    "kind": pl.String(),
    "task": pl.String(),
    "cluster": pl.String(),
    "settings": pl.List(pl.String()),
    "bad": pl.String(),
    "state": pl.String(),
    "reason": pl.String(),
    **dict.fromkeys(METRICS, pl.Float64()),
    "resized": pl.Boolean(),
    "unchanged": pl.Boolean(),
    "caption_cut": pl.Boolean(),
    "row_id": pl.String(),
    "edited_sha256": pl.String(),
    "source_sha256": pl.String(),
    "reference_sha256": pl.String(),
}
"""`sample`: key of the sample; `kind`: edited, copied (the source in place of an edit) or target; `state`:
judged, missing or unreadable, with its `reason`; `resized`: the picture had another size than what it is
compared with; `unchanged`: the picture is the source, byte by byte; `caption_cut`: a caption is longer than
CLIP reads."""


@dataclass(frozen=True)
class _Batch:
    """Rows to make in one go."""

    samples: int
    """Samples that it is of."""

    jobs: list[Job]
    ids: list[str]


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """A row, before its figures."""

    sample: EditSample
    kind: str
    row_id: str
    hashes: Mapping[str, str]
    fault: str | None
    """Why its picture is none, though it can be read."""


def judge(
    samples: EditSamples,
    pictures: Pictures,
    networks: Measurer,
    *,
    directed: bool,
    progress: Progress | None = None,
    storage: Storage | None = None,
    prefix: str,
    batch_size: int = 16,
    partial: bool = False,
) -> pl.DataFrame:
    """One row a picture (columns ROWS), in the order of the samples.

    `networks`: in this process, or a `cluster_networks.RayNetworks`. `directed`: whether there is a CLIP-dir.
    `storage`: where rows are kept under `prefix` and found again, as long as pictures, captions, networks and
    formulas are the same. `batch_size`: samples whose pictures are measured in one go. Raises
    BenchmarkDataError that names pictures that are missing or cannot be read, unless `partial`; all others
    are judged and kept by then.
    """
    faults = Faults("edited pictures")
    there = set(pictures.names())
    faults.add("missing", *(one.key for one in samples.samples if one.key not in there))
    faults.settle(partial=partial)
    stored = StoredRows(storage, prefix, _measure(networks, directed))
    judging = _Judging(samples, pictures, there, stored, progress or _silent)
    work = functools.partial(_measured, directed=directed)
    for batch, results in networks.each(work, judging.batches(batch_size)):
        judging.keep(batch, results)
    rows = judging.rows()
    broken = Faults("pictures")
    unreadable = [row for row in rows if row["state"] == UNREADABLE]
    broken.add("not readable", *(f"{row['sample']}: {row['reason']}" for row in unreadable))
    broken.settle(partial=partial)
    return pl.DataFrame(_in_order(rows, samples.samples), schema=ROWS)


def _in_order(rows: list[dict[str, Any]], samples: Sequence[EditSample]) -> list[dict[str, Any]]:
    places = {one.key: number for number, one in enumerate(samples)}
    return sorted(rows, key=lambda row: (places[row["sample"]], KINDS.index(row["kind"])))


def _silent(done: int, total: int) -> None:
    """Progress that nobody wants to see."""


def _measured(networks: Networks, batch: _Batch, *, directed: bool) -> list[Figures | str]:
    return measure(networks, batch.jobs, directed=directed)


def _measure(networks: Measurer, directed: bool) -> list[Any]:
    """What every figure depends on."""
    return [VERSION, networks.profile.name, networks.records(), networks.resize(), directed]


def _batches(samples: Sequence[EditSample], size: int) -> Iterator[Sequence[EditSample]]:
    return (samples[start : start + size] for start in range(0, len(samples), size))


def _jobs(batch: Sequence[EditSample], data: Pictures, edited: Pictures, there: set[str]) -> Iterator[Job]:
    own = data.read([name for one in batch for name in (one.source, one.reference)])
    made = edited.read([one.key for one in batch if one.key in there])
    for one in batch:
        source, reference = own[one.source], own[one.reference]
        if one.key in made:
            yield Job(one, EDITED, made[one.key], source, reference)
        yield Job(one, COPIED, source, source, reference)
        if one.reference != one.source:
            yield Job(one, TARGET, reference, source, reference)


class _Judging:
    """Rows of one batch after another, of which several may be measured at once."""

    def __init__(
        self,
        samples: EditSamples,
        edited: Pictures,
        there: set[str],
        stored: StoredRows,
        progress: Progress,
    ) -> None:
        self._samples, self._edited, self._there = samples, edited, there
        self._drawn_by: str | None = getattr(edited, "drawn_by", None)  # known of folders alone
        self._stored, self._progress = stored, progress
        self._judged: list[_Judged] = []
        self._reasons: dict[str, str] = {}
        """Why a picture of a row cannot be read."""
        self._under_way: set[str] = set()
        self._done = 0

    def batches(self, size: int) -> Iterator[_Batch]:
        """What is not stored yet; pictures of a batch are read when it is asked for."""
        for samples in _batches(self._samples.samples, size):
            new: dict[str, Job] = {}
            for job in _jobs(samples, self._samples.pictures, self._edited, self._there):
                one = _judged(job, self._stored.row_id(_facts(job)), self._drawn_by)
                self._judged.append(one)
                if not (one.fault or one.row_id in self._stored or one.row_id in self._under_way):
                    new[one.row_id] = job
            self._under_way |= set(new)
            if new:
                yield _Batch(len(samples), list(new.values()), list(new))
            else:
                self._count(len(samples))

    def keep(self, batch: _Batch, results: Sequence[Figures | str]) -> None:
        """What was measured, in storage at once."""
        made = dict(zip(batch.ids, results, strict=True))
        self._stored.add({row_id: one for row_id, one in made.items() if not isinstance(one, str)})
        self._reasons.update({row_id: one for row_id, one in made.items() if isinstance(one, str)})
        self._count(batch.samples)

    def _count(self, samples: int) -> None:
        self._done += samples
        self._progress(self._done, len(self._samples.samples))

    def rows(self) -> list[dict[str, Any]]:
        """Of all samples, when all is measured."""
        missing = (one for one in self._samples.samples if one.key not in self._there)
        return [*map(self._row, self._judged), *(_row(one, EDITED, MISSING) for one in missing)]

    def _row(self, one: _Judged) -> dict[str, Any]:
        known = {"row_id": one.row_id, **one.hashes}
        if reason := one.fault or self._reasons.get(one.row_id):
            return _row(one.sample, one.kind, UNREADABLE, reason=reason, **known)
        return _row(one.sample, one.kind, JUDGED, **known, **self._stored.get(one.row_id))


def _judged(job: Job, row_id: str, drawn_by: str | None) -> _Judged:
    """With the fault of an edit that this project drew and that held NaN or infinity, or that other weights
    drew than the rest."""
    fault = drawing_fault(job.edited, drawn_by) if job.kind == EDITED else None
    return _Judged(
        sample=job.sample,
        kind=job.kind,
        row_id=row_id,
        hashes=job.hashes,
        fault=f"it {fault}" if fault else None,
    )


def _facts(job: Job) -> list[Any]:
    return [job.hashes, job.sample.input_caption, job.sample.output_caption]


def _row(sample: EditSample, kind: str, state: str, **more: Any) -> dict[str, Any]:
    empty = dict.fromkeys(ROWS)
    return {
        **empty,
        "sample": sample.key,
        "kind": kind,
        "task": sample.task,
        "cluster": sample.cluster or more.get("source_sha256"),
        "settings": list(sample.settings),
        "bad": sample.bad,
        "state": state,
        **more,
    }
