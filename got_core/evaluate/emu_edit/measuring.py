"""Figures of edited pictures from the pictures themselves, where the networks are.

Belongs here: decoding, features and figures of a batch. Not here: which pictures are compared, and what is
kept (`judging`), or the formulas (`metrics`).
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from got_core.evaluate.emu_edit.metrics import cosine, direction_cosine, level_distances, same_size
from got_core.evaluate.emu_edit.samples import EditSample, canonical
from got_core.evaluate.networks import Networks

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""Of pictures. Others, some of which Pillow hands to outside programs, are not opened."""

MAX_PIXELS = 100_000_000
MAX_ASPECT = 20

Figures = dict[str, Any]


@dataclass(frozen=True)
class Job:
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


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def measure(networks: Networks, jobs: Sequence[Job], *, directed: bool) -> list[Figures | str]:
    """Of each job its figures, or why one of its pictures cannot be read. `directed`: whether there is a
    CLIP-dir."""
    pictures, reasons = _decoded(jobs)
    bad = [next((reasons[one] for one in _files(job) if one in reasons), None) for job in jobs]
    sound = [job for job, reason in zip(jobs, bad, strict=True) if reason is None]
    figures = iter(_Measuring(networks, directed).figures(sound, pictures))
    return [next(figures) if reason is None else reason for reason in bad]


def _files(job: Job) -> tuple[bytes, bytes, bytes]:
    return job.edited, job.source, job.reference


class _Measuring:
    """Networks at work on a batch."""

    def __init__(self, networks: Networks, directed: bool) -> None:
        self._networks, self._directed = networks, directed
        self._texts: dict[str, np.ndarray] = {}

    def figures(self, jobs: Sequence[Job], pictures: Mapping[bytes, Image.Image]) -> list[Figures]:
        """Of jobs whose pictures are all there."""
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

    def _flags(self, job: Job, resized: bool) -> dict[str, bool]:
        captions = [job.sample.output_caption, *([job.sample.input_caption] if self._directed else [])]
        cut = any(self._networks.clip.is_cut(caption) for caption in captions)
        return {"resized": resized, "unchanged": job.edited == job.source, "caption_cut": cut}

    def _features(self, jobs: Sequence[Job], pictures: Mapping[bytes, Image.Image]) -> dict[str, np.ndarray]:
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


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _decoded(jobs: Iterable[Job]) -> tuple[dict[bytes, Image.Image], dict[bytes, str]]:
    """Pictures by their bytes, and why there is none."""
    pictures, reasons = {}, {}
    for data in dict.fromkeys(one for job in jobs for one in _files(job)):
        try:
            pictures[data] = decode(data)
        except ValueError as error:
            reasons[data] = str(error)
    return pictures, reasons


class _UnfitError(ValueError):
    """A picture that can be read and is not judged."""


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
