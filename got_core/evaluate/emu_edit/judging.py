"""Judging edited pictures: one row for each, kept as soon as its batch is done, and never made twice.

Belongs here: which rows there are, decoding, features and figures of a batch, finding stored rows again.
Not here: the formulas (`metrics`), or means over rows (`scoring`).

The sources are judged besides as if a model had copied them, because CLIP-I and DINO reward that; targets,
where there are any, as if a model had hit them.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from PIL import Image, UnidentifiedImageError

from got_core.evaluate.emu_edit.metrics import cosine, direction_cosine, level_distances, same_size
from got_core.evaluate.emu_edit.samples import EditSample, EditSamples, Faults, Pictures, canonical
from got_core.evaluate.emu_edit.stored import StoredRows
from got_core.evaluate.geneval.layout import drawing_fault
from got_core.evaluate.networks import Networks
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


class _UnfitError(ValueError):
    """A picture that can be read and is not judged."""


FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""Of pictures. Others, some of which Pillow hands to outside programs, are not opened."""

MAX_PIXELS = 100_000_000
MAX_ASPECT = 20


@dataclass(frozen=True)
class _Job:
    """One row to make, with its pictures as files."""

    sample: EditSample
    kind: str
    edited: bytes
    source: bytes
    reference: bytes

    @cached_property
    def hashes(self) -> dict[str, str]:
        """Of its pictures, by the names of their columns."""
        return {
            "edited_sha256": _sha256(self.edited),
            "source_sha256": _sha256(self.source),
            "reference_sha256": _sha256(self.reference),
        }


def judge(
    samples: EditSamples,
    pictures: Pictures,
    networks: Networks,
    *,
    directed: bool,
    progress: Progress | None = None,
    storage: Storage | None = None,
    prefix: str,
    batch_size: int = 16,
    partial: bool = False,
) -> pl.DataFrame:
    """One row a picture (columns ROWS), in the order of the samples.

    `directed`: whether there is a CLIP-dir. `storage`: where rows are kept under `prefix` and found again, as
    long as pictures, captions, networks and formulas are the same. `batch_size`: samples whose pictures are
    in memory at once. Raises BenchmarkDataError that names pictures that are missing or cannot be read,
    unless `partial`; all others are judged and kept by then.
    """
    faults = Faults("edited pictures")
    there = set(pictures.names())
    faults.add("missing", *(one.key for one in samples.samples if one.key not in there))
    faults.settle(partial=partial)
    judging = _Judging(networks, directed, StoredRows(storage, prefix, _measure(networks, directed)))
    rows: list[dict[str, Any]] = []
    done = 0
    for batch in _batches(samples.samples, batch_size):
        rows += judging.rows_of(list(_jobs(batch, samples.pictures, pictures, there)))
        rows += [_row(one, EDITED, MISSING) for one in batch if one.key not in there]
        done += len(batch)
        if progress:
            progress(done, len(samples.samples))
    broken = Faults("pictures")
    unreadable = [row for row in rows if row["state"] == UNREADABLE]
    broken.add("not readable", *(f"{row['sample']}: {row['reason']}" for row in unreadable))
    broken.settle(partial=partial)
    return pl.DataFrame(_in_order(rows, samples.samples), schema=ROWS)


def _in_order(rows: list[dict[str, Any]], samples: Sequence[EditSample]) -> list[dict[str, Any]]:
    places = {one.key: number for number, one in enumerate(samples)}
    return sorted(rows, key=lambda row: (places[row["sample"]], KINDS.index(row["kind"])))


def _measure(networks: Networks, directed: bool) -> list[Any]:
    """What every figure depends on."""
    return [VERSION, networks.profile.name, networks.records(), networks.resize(), directed]


def _batches(samples: Sequence[EditSample], size: int) -> Iterator[Sequence[EditSample]]:
    return (samples[start : start + size] for start in range(0, len(samples), size))


def _jobs(batch: Sequence[EditSample], data: Pictures, edited: Pictures, there: set[str]) -> Iterator[_Job]:
    own = data.read([name for one in batch for name in (one.source, one.reference)])
    made = edited.read([one.key for one in batch if one.key in there])
    for one in batch:
        source, reference = own[one.source], own[one.reference]
        if one.key in made:
            yield _Job(one, EDITED, made[one.key], source, reference)
        yield _Job(one, COPIED, source, source, reference)
        if one.reference != one.source:
            yield _Job(one, TARGET, reference, source, reference)


class _Judging:
    """Rows of one batch after another."""

    def __init__(self, networks: Networks, directed: bool, stored: StoredRows) -> None:
        self._networks, self._directed, self._stored = networks, directed, stored
        self._texts: dict[str, np.ndarray] = {}

    def rows_of(self, jobs: Sequence[_Job]) -> list[dict[str, Any]]:
        """Of these jobs, in their order; what is not stored is judged and stored."""
        ids = [self._stored.row_id(_facts(job)) for job in jobs]
        new = [job for job, row_id in zip(jobs, ids, strict=True) if row_id not in self._stored]
        pictures, reasons = _decoded(new)
        reasons |= _empty(jobs)
        sound = [job for job in new if _bad_picture(job, reasons) is None]
        figures = self._figures(sound, pictures)
        self._stored.add(
            {self._stored.row_id(_facts(job)): one for job, one in zip(sound, figures, strict=True)}
        )
        return [self._row(job, row_id, reasons) for job, row_id in zip(jobs, ids, strict=True)]

    def _row(self, job: _Job, row_id: str, reasons: Mapping[bytes, str]) -> dict[str, Any]:
        known = {"row_id": row_id, **job.hashes}
        if (bad := _bad_picture(job, reasons)) is not None:
            return _row(job.sample, job.kind, UNREADABLE, reason=reasons[bad], **known)
        return _row(job.sample, job.kind, JUDGED, **known, **self._stored.get(row_id))

    def _figures(self, jobs: Sequence[_Job], pictures: Mapping[bytes, Image.Image]) -> list[dict[str, Any]]:
        if not jobs:
            return []
        columns = self._features(jobs, pictures)
        rows = []
        for number, job in enumerate(jobs):
            edited, reference = pictures[job.edited], pictures[job.reference]
            l1, l2 = level_distances(same_size(edited, reference), reference)
            row = {name: _plain(values[number]) for name, values in columns.items()}
            rows.append({**row, "l1": l1, "l2": l2, **self._flags(job, edited.size != reference.size)})
        return rows

    def _flags(self, job: _Job, resized: bool) -> dict[str, bool]:
        captions = [job.sample.output_caption, *([job.sample.input_caption] if self._directed else [])]
        cut = any(self._networks.clip.is_cut(caption) for caption in captions)
        return {"resized": resized, "unchanged": job.edited == job.source, "caption_cut": cut}

    def _features(self, jobs: Sequence[_Job], pictures: Mapping[bytes, Image.Image]) -> dict[str, np.ndarray]:
        """Figures from features, by column, (n,) each; NaN where a figure is not defined."""
        named = list(pictures)
        clip = dict(zip(named, self._networks.clip.pictures([pictures[one] for one in named]), strict=True))
        edited, source, reference = (
            np.stack([clip[one] for one in data])
            for data in zip(*((job.edited, job.source, job.reference) for job in jobs), strict=True)
        )
        output = self._captions([job.sample.output_caption for job in jobs])
        columns = {"clip_i": cosine(edited, reference), "clip_t": cosine(edited, output)}
        if self._directed:
            inputs = self._captions([job.sample.input_caption for job in jobs])
            columns["clip_dir"] = direction_cosine(edited, source, output, inputs)
        if dino := self._networks.dino:
            found = dict(zip(named, dino.pictures([pictures[one] for one in named]), strict=True))
            pairs = [(found[job.edited], found[job.reference]) for job in jobs]
            columns["dino"] = cosine(*(np.stack(side) for side in zip(*pairs, strict=True)))
        return columns

    def _captions(self, captions: Sequence[str]) -> np.ndarray:
        """(n, d); NaN for an empty caption. Captions that CLIP reads as the same are encoded once, so their
        difference is exactly nothing."""
        new = {
            canonical(one): one for one in captions if canonical(one) not in self._texts and canonical(one)
        }
        if new:
            found = self._networks.clip.texts(list(new.values()))
            self._texts.update(zip(new, found, strict=True))
        nothing = np.full(self._networks.clip.width, np.nan, np.float32)
        return np.stack([self._texts.get(canonical(one), nothing) for one in captions])


def _facts(job: _Job) -> list[Any]:
    return [job.hashes, job.sample.input_caption, job.sample.output_caption]


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


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


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# -- decoding ----------------------------------------------------------------------------------------


def _decoded(jobs: Iterable[_Job]) -> tuple[dict[bytes, Image.Image], dict[bytes, str]]:
    """Pictures by their bytes, and why there is none."""
    pictures, reasons = {}, {}
    for data in dict.fromkeys(one for job in jobs for one in (job.edited, job.source, job.reference)):
        try:
            pictures[data] = decode(data)
        except ValueError as error:
            reasons[data] = str(error)
    return pictures, reasons


def _empty(jobs: Iterable[_Job]) -> dict[bytes, str]:
    """Edits that this project drew and that held NaN or infinity, by their bytes, with the reason."""
    faults = {job.edited: drawing_fault(job.edited) for job in jobs if job.kind == EDITED}
    return {data: f"it is an empty picture: {fault}" for data, fault in faults.items() if fault}


def _bad_picture(job: _Job, reasons: Mapping[bytes, str]) -> bytes | None:
    """The first of its pictures that cannot be read."""
    return next((one for one in (job.edited, job.source, job.reference) if one in reasons), None)


def decode(data: bytes) -> Image.Image:
    """An RGB picture, as the benchmarks' scripts read it. Raises ValueError that says why there is none."""
    if not data:
        raise ValueError("there are no bytes; download the data set with its pictures inside the files")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
            _check_size(*picture.size)
            _check_levels(picture.mode)
            return picture.convert("RGB")
    except _UnfitError:
        raise
    except UnidentifiedImageError as error:
        raise ValueError(f"no readable picture: it is none of {', '.join(FORMATS)}") from error
    except Exception as error:  # Pillow's decoders raise nearly anything
        raise ValueError(f"no readable picture: {error}") from error


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS or max(width, height) > MAX_ASPECT * min(width, height):
        raise _UnfitError(
            f"it has {width} x {height} pixels; at most {MAX_PIXELS:,}, with sides of at most 1 to "
            f"{MAX_ASPECT}, are judged"
        )


def _check_levels(mode: str) -> None:
    if mode.startswith(("I", "F")):  # Pillow would cut off all above 255: a white picture
        raise _UnfitError("it has levels of more than 8 bits; write it with 8 bits a channel")
