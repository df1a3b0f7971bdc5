"""Latents of one shard: its pictures decoded, encoded once, and written in parts.

Belongs here: which samples of a shard are made, and their making. Not here: bytes and files
(``got_core.train.latents``), and spreading shards over workers (``making``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import groupby
from typing import Any

import numpy as np
import polars as pl
import torch
from PIL import Image
from torch import Tensor, nn

from got_core.model.picture_encoder import PictureEncoder
from got_core.storage import Storage
from got_core.train.data.latents import drawing_inputs
from got_core.train.data.pictures import PictureError
from got_core.train.data.samples import TrainingData, TrainingSample
from got_core.train.latents.blocks import StoredLatents, pack
from got_core.train.latents.key import LatentKey
from got_core.train.latents.parts import (
    LATENT_INDEX,
    Placed,
    copied,
    covered,
    indexes,
    part_number,
    present,
    row_digest,
    shard_folder,
    sweep,
    write_part,
)

SAMPLES_PER_PART = 1000
AT_ONCE = 4
"""Samples of one kind and size that are encoded together."""
DECODERS = 4
"""Threads that decode pictures while others are encoded."""
MOST_UNAVAILABLE = 20
"""Pictures of a shard that cannot be had for now before the store is at fault."""
MAY_PASS = {"slow", "unavailable", "unreadable"}
"""Reasons that are no verdict on a picture."""


class LatentsUnfinishedError(RuntimeError):
    """Pictures cannot be had for now: what could be made is kept, and the rest waits for the next time."""


@dataclass
class Made:
    """What was done for a shard."""

    samples: int = 0
    """Samples that have latents now."""
    new: int = 0
    """Those of them that were made now."""
    listed: int = 0
    """Samples whose pictures cannot be read, listed with the reason."""
    bytes: int = 0
    unavailable: tuple[str, ...] = ()
    """What could not be had for now, in words."""

    def __add__(self, other: Made) -> Made:
        return Made(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


def write_shard(
    storage: Storage,
    key: LatentKey,
    shard: str,
    data: TrainingData,
    autoencoder: nn.Module,
    *,
    device: torch.device | str = "cpu",
    samples_per_part: int = SAMPLES_PER_PART,
    report: Callable[[int, int], None] | None = None,
) -> Made:
    """Bring the latents of a shard up to date with its rows, which are those of ``data``.

    Parts that hold what they should are left as they are, so a stopped run goes on where it was; in one that
    does not, samples are copied but for those whose row has changed. Rows that ``data`` lacks stay, for a
    training that goes on with an older manifest, until they are taken down. A picture that cannot be read is
    listed with its reason; one that cannot be had for now is not, and is tried again the next time.

    Args:
        data: the shard's rows; their pictures are cut from the middle.
        device: that ``autoencoder`` is on.
        report: called with the number of samples that are up to date, and of all.

    Raises:
        LatentsUnfinishedError: more than MOST_UNAVAILABLE pictures cannot be had for now.
        LatentOverflowError: the number format cannot hold a latent.
    """
    writer = _Writer(storage, key, data, autoencoder, device)
    folder = shard_folder(key.folder, shard)
    parts = {name: storage.read_table(name) for name in indexes(storage, folder)}
    plan = _planned(folder, writer.rows, parts, samples_per_part)
    done = 0
    for name, wanted in plan.items():
        index = parts.get(name)
        if index is None or not writer.is_up_to_date(index):
            index = write_part(storage, name, writer.part(wanted, index))
        writer.count(index)
        done += index.height
        if report:
            report(done, sum(map(len, plan.values())))
    sweep(storage, folder)
    return writer.made


def _planned(
    folder: str, rows: Mapping[str, int], parts: Mapping[str, pl.DataFrame], size: int
) -> dict[str, list[str]]:
    """Sample ids of each part: what is in a part already stays there, new samples make new parts."""
    plan = {name: index["sample_id"].to_list() for name, index in sorted(parts.items())}
    placed = {one for names in plan.values() for one in names}
    new = sorted(one for one in rows if one not in placed)
    first = 1 + max((part_number(name) for name in plan), default=-1)
    for number, start in enumerate(range(0, len(new), size), start=first):
        plan[f"{folder}/{number:05d}"] = new[start : start + size]
    return plan


class _Writer:
    """Makes the samples of one shard's parts."""

    def __init__(
        self,
        storage: Storage,
        key: LatentKey,
        data: TrainingData,
        autoencoder: nn.Module,
        device: torch.device | str,
    ) -> None:
        self._storage, self._key, self._data = storage, key, data
        self._encoder, self._device = PictureEncoder(autoencoder), device
        self.rows = {data.sample_id(place): place for place in range(len(data))}
        """Places of the shard's samples."""
        self._digests = {row["sample_id"]: row_digest(row) for row in data.rows}
        self.made = Made()

    def count(self, index: pl.DataFrame) -> None:
        """Count a part that is up to date."""
        held = index.drop_nulls("file")
        self.made.samples += held.height
        self.made.listed += index.height - held.height
        self.made.bytes += int(held["size"].sum())

    def is_up_to_date(self, index: pl.DataFrame) -> bool:
        """Whether a part's samples were made of the rows as they are now."""
        made_of = index.select("sample_id", "digest").iter_rows()
        same = all(self._digests.get(one, digest) == digest for one, digest in made_of)
        return same and covered(self._storage, index)

    def part(self, wanted: Sequence[str], index: pl.DataFrame | None) -> Iterator[Placed]:
        """The samples of a part, those that are made now behind those that are copied."""
        kept = [] if index is None else present(self._storage, index).to_dicts()
        kept = [row for row in kept if self._digests.get(row["sample_id"], row["digest"]) == row["digest"]]
        yield from (copied(self._storage, row) for row in kept)
        copies = {row["sample_id"] for row in kept}
        new = [self.rows[one] for one in wanted if one not in copies and one in self.rows]
        for places, samples in self._decoded(new):
            yield from self._encoded(places, samples)

    def _decoded(self, new: list[int]) -> Iterator[tuple[list[int], list[TrainingSample | PictureError]]]:
        """Samples of one kind and size at a time; the next ones are decoded meanwhile."""
        chunks = self._chunks(new)
        with ThreadPoolExecutor(DECODERS) as pool:
            ahead: deque[list[Future]] = deque()
            for number, chunk in enumerate(chunks):
                for later in chunks[number + len(ahead) : number + 2]:
                    ahead.append([pool.submit(self._take, place) for place in later])
                yield chunk, [one.result() for one in ahead.popleft()]

    def _chunks(self, new: list[int]) -> list[list[int]]:
        """At most AT_ONCE of one kind and size."""
        alike = {place: (self._row(place)["kind"], int(self._data.bucket[place])) for place in new}
        groups = [[*group] for _, group in groupby(sorted(new, key=alike.__getitem__), key=alike.__getitem__)]
        return [group[k : k + AT_ONCE] for group in groups for k in range(0, len(group), AT_ONCE)]

    def _row(self, place: int) -> dict[str, Any]:
        return self._data.manifest.row(place)

    def _take(self, place: int) -> TrainingSample | PictureError:
        try:
            return self._data.take(place)
        except PictureError as error:
            return error

    def _encoded(
        self, places: Sequence[int], found: Sequence[TrainingSample | PictureError]
    ) -> Iterator[Placed]:
        good = [one for one in found if not isinstance(one, PictureError)]
        entries = iter(self._latents(good)) if good else iter(())
        for place, one in zip(places, found, strict=True):
            row = self._row(place)
            listed = {name: row.get(name) for name in LATENT_INDEX if name in row}
            listed |= {"digest": self._digests[row["sample_id"]], "width": None, "height": None}
            if not isinstance(one, PictureError):
                stored = next(entries)
                height, width = stored.size
                self.made.new += 1
                yield Placed(listed | {"width": width, "height": height}, pack(stored, self._key.format))
            elif one.reason in MAY_PASS:
                self._pass_over(one)
            else:
                yield Placed(listed | {"error": str(one), "reason": one.reason}, [])

    def _pass_over(self, error: PictureError) -> None:
        self.made.unavailable += (str(error),)
        if len(self.made.unavailable) > MOST_UNAVAILABLE:
            raise unfinished(self.made.unavailable)

    def _latents(self, samples: Sequence[TrainingSample]) -> list[StoredLatents]:
        key = self._key
        inputs = drawing_inputs(self._encoder, samples, self._device, key.spatial_guidance)
        clean = _numpy(inputs["clean"])
        reference = _numpy(inputs["reference"]) if samples[0].source is not None else None
        spatial = _numpy(inputs["spatial"]) if key.spatial_guidance else None
        return [
            StoredLatents(
                sample_id=sample.sample_id,
                digest=self._digests[sample.sample_id],
                chain=sample.chain.to_model(),
                time_ids=tuple(sample.time_ids),
                clean=clean[k],
                reference=None if reference is None else reference[k],
                spatial=None if spatial is None else spatial[k],
                source=None if sample.source is None else shown(sample.source, key.source_size),
            )
            for k, sample in enumerate(samples)
        ]


def shown(source: np.ndarray, side: int) -> np.ndarray:
    """The picture to edit, uint8 (H, W, 3), as the language model is shown it: a square of this side."""
    return np.asarray(Image.fromarray(source).resize((side, side), Image.Resampling.BICUBIC))


def unfinished(faults: Sequence[str]) -> LatentsUnfinishedError:
    """The error that names the first pictures that could not be had."""
    return LatentsUnfinishedError(
        f"{len(faults)} pictures cannot be had for now: {'; '.join(faults[:5])}. What was made is kept: "
        "bring them or their store back, then materialize latent_shards again"
    )


def _numpy(tensor: Tensor) -> np.ndarray[Any, Any]:
    return tensor.float().cpu().numpy()
