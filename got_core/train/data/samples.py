"""Training samples: rows of the manifest with their pictures at training size.

Belongs here: from a row to decoded pictures. Not here: how a picture is cut (``geometry``), and which samples
make a batch (``batches``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from got_core.chain.grammar import Chain, parse
from got_core.corpus.config import IngestConfig
from got_core.corpus.ingest import edits_root
from got_core.corpus.reader import ImageReader
from got_core.model.buckets import Size, bucket_sizes
from got_core.storage import Storage
from got_core.train.config import KINDS, Geometry, StageConfig
from got_core.train.data.columns import nearest_buckets
from got_core.train.data.decoded import Decoded, DecodedCache, Key
from got_core.train.data.faults import PictureFaults
from got_core.train.data.geometry import Placement, covering, keeping, stretched
from got_core.train.data.manifest import MemoryManifest, TrainingManifest
from got_core.train.data.manifest_file import manifest_of
from got_core.train.data.pictures import PictureCare, PictureError
from got_core.train.data.shared import shared
from got_core.train.data.sources.latents import LatentPlaces, Latents, latents_of
from got_core.train.data.sources.places import TarPlaces, places_of
from got_core.train.data.sources.protocol import Content, SampleSource
from got_core.train.data.sources.raw import RawFiles
from got_core.train.data.sources.tars import Tars
from got_core.train.latents.blocks import StoredLatents
from got_core.train.mixture import Group, resolve
from got_core.train.run import TrainingRun

NEVER = np.iinfo(np.int32).max
"""The step from which on a row that was not taken down is left out."""


@dataclass(frozen=True)
class TrainingSample:
    """One row of the manifest with its pictures at training size (H, W)."""

    sample_id: str
    kind: str
    prompts: tuple[str, ...]
    """The prompt, or the wordings of the instruction; one is drawn each time the sample is used."""
    chain: Chain
    target: np.ndarray
    """The picture to draw, uint8 (H, W, 3)."""
    source: np.ndarray | None
    """The picture to edit, alike."""
    time_ids: tuple[int, ...]
    """SDXL's size numbers: original height and width, top and left of the crop, height and width."""
    latents: StoredLatents | None = None
    """What is stored in place of pictures: ``target`` is then (0, 0, 3), and ``source`` of the size that the
    language model is shown."""


Fetched = dict[Key, Decoded | StoredLatents | Exception]
_NO_PIXELS = np.zeros((0, 0, 3), dtype=np.uint8)


class TrainingData:
    """Samples of a manifest; decoded pictures stay in memory up to ``cache_bytes``.

    The share ``held_out`` of the rows is in no group, and never drawn, but of :meth:`held_out_rows`; of the
    others the share ``row_share`` is drawn.
    ``store_url`` is the storage that holds pictures whose source was no plain file, and the training tars
    that ``places`` speaks of; without places all pictures are read from raw files. With places of latents
    (``LatentPlaces``) those are read and no picture. Picklable: a copy keeps no pictures in memory and has no
    faults.

    Raises ValueError where the manifest holds no sample at all, and with the geometry ``bucket`` where a row
    lacks its width or height. Rows are trusted to be accepted ones. A picture that cannot be had raises the
    reader's error, which names it; with ``care``, a PictureError once patience is at its end (see
    ``pictures``).
    """

    def __init__(
        self,
        manifest: TrainingManifest | pl.DataFrame,
        raw_url: str,
        edits_url: str | None,
        ingest: IngestConfig,
        resolution: int,
        raw_options: dict[str, Any] | None = None,
        edits_options: dict[str, Any] | None = None,
        *,
        store_url: str | None = None,
        store_options: dict[str, Any] | None = None,
        geometry: Geometry = "stretch",
        bucket_multiple: int = 64,
        cache_bytes: int = 2 << 30,
        care: PictureCare | None = None,
        faults: PictureFaults | None = None,
        held_out: float = 0.0,
        row_share: float = 1.0,
        places: TarPlaces | LatentPlaces | None = None,
    ) -> None:
        rows = MemoryManifest(manifest) if isinstance(manifest, pl.DataFrame) else manifest
        if not len(rows):
            raise ValueError("the training manifest is empty; check the selections of its shards")
        self.manifest = rows
        self.resolution = resolution
        self.geometry = geometry
        readers = {
            "t2i": ImageReader(raw_url, ingest, raw_options, store_url=store_url, store_options=store_options)
        }
        if edits_url is not None:
            readers["edit"] = ImageReader(edits_root(edits_url), ingest, edits_options)
        self.source: SampleSource = RawFiles(rows.row, readers, care)
        if places is not None and store_url is not None:
            storage = Storage(store_url, **(store_options or {}))
            if isinstance(places, LatentPlaces):
                self.source = Latents(storage, places, rows.row, care)
            else:
                self.source = Tars(storage, places, rows.sample_id, self.source, ingest, care)
        none = np.zeros(len(rows), dtype=bool)
        self._held_out = rows.column("place") < held_out if held_out else none
        last = held_out + row_share * (1 - held_out)
        self._undrawn = self._held_out | (rows.column("place") >= last if row_share < 1 else none)
        self.of_kind = {kind: self._divided(rows.of_kind(kind), held_out=False) for kind in KINDS}
        """Rows by kind, int32."""
        self._cache = DecodedCache(cache_bytes)
        self.faults = faults or PictureFaults()
        """Samples whose pictures could not be had (see ``substitutes``)."""
        self.sizes: list[Size] = [(resolution, resolution)]
        self.bucket = np.zeros(len(rows), dtype=np.int16)
        self.taken_down_from = np.full(len(rows), NEVER, dtype=np.int32)
        """Number of the first step that goes without a row; see :meth:`leave_out`."""
        self.changes = 0
        """How often rows were left out since."""
        if geometry == "bucket":
            self.sizes = bucket_sizes(resolution, bucket_multiple)
            self.bucket = self._nearest_buckets()

    @property
    def rows(self) -> Iterator[dict[str, Any]]:
        """The manifest's rows in order."""
        return self.manifest.rows()

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, index: int) -> TrainingSample:
        return self.take(index)

    def sample_id(self, index: int) -> str:
        """The id of a row."""
        return self.manifest.sample_id(index)

    def is_taken_down(self, index: int, step: int) -> bool:
        """Whether a step, by its number, goes without a row."""
        return bool(self.taken_down_from[index] <= step)

    def leave_out(self, rows: Sequence[int], step: int) -> None:
        """Leave rows out of all steps from the number of one on."""
        if (self.taken_down_from[rows] != step).any():
            self.taken_down_from[rows] = step
            self.changes += 1

    def share(self) -> None:
        """Keep what is known of rows in memory that copies of this in decoder processes share."""
        self.taken_down_from, self.bucket = shared(self.taken_down_from), shared(self.bucket)
        self._held_out, self._undrawn = shared(self._held_out), shared(self._undrawn)
        self.of_kind = {kind: shared(rows) for kind, rows in self.of_kind.items()}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_cache": None, "faults": PictureFaults()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._cache = DecodedCache(0)

    def take(
        self,
        index: int,
        across: float = 0.5,
        down: float = 0.5,
        *,
        bucket: int | None = None,
        fetched: Fetched | None = None,
    ) -> TrainingSample:
        """A sample, cut at a place of the free space (see ``geometry.covering``) where it has to be cut.

        The window moves to where something of every box is in it (see ``geometry.keeping``); where there is
        no such place the picture is stretched: chain and prompt speak of all boxes.

        Args:
            bucket: index of the size in ``sizes`` that it is cut to; None: the nearest to its own.
            fetched: what :meth:`fetch` gave, where it was asked for.
        """
        key = index, int(self.bucket[index]) if bucket is None else bucket
        decoded = (fetched or {}).get(key) or self.fetch([key])[key]
        if isinstance(decoded, Exception):
            raise decoded
        if isinstance(decoded, StoredLatents):
            return self._stored(*key, decoded)
        cut = self._placement(*key, decoded.original, across, down)
        placement = keeping(cut, decoded.chain)
        if placement is None:
            placement = stretched(decoded.original, cut.size)
            decoded = _stretched(decoded, placement)
        row, source = decoded.row, decoded.source
        return TrainingSample(
            sample_id=row["sample_id"],
            kind=row["kind"],
            prompts=wordings(row),
            chain=placement.chain(decoded.chain),
            target=placement.window(decoded.target),
            source=None if source is None else placement.window(source),
            time_ids=placement.time_ids(),
        )

    def _stored(self, index: int, bucket: int, latents: StoredLatents) -> TrainingSample:
        """The sample of stored latents, which have one size."""
        row, (height, width) = self.manifest.row(index), latents.size
        if (width, height) != self.sizes[bucket]:
            detail = f"they are of {width} x {height} pixels, needed are {self.sizes[bucket]}"
            raise PictureError(f"latents of {row['sample_id']}", "other_size", detail)
        return TrainingSample(
            sample_id=row["sample_id"],
            kind=row["kind"],
            prompts=wordings(row),
            chain=parse(latents.chain),
            target=_NO_PIXELS,
            source=latents.source,
            time_ids=latents.time_ids,
            latents=latents,
        )

    def _placement(self, index: int, bucket: int, original: Size, across: float, down: float) -> Placement:
        size = self.sizes[bucket]
        if self.geometry == "stretch" or self.manifest.kind(index) == "edit":
            # Edits are drawn so (see ``model.frames``). The U-Net is told what it is told when it draws.
            return stretched(size, size)
        return covering(original, size, across, down)

    def fetch(self, keys: Sequence[Key]) -> Fetched:
        """Rows, each resized for a size, read at the same time where that is quicker; an error in place of
        what cannot be had."""
        found: Fetched = {key: kept for key in keys if (kept := self._cache.get(key)) is not None}
        missing = [key for key in dict.fromkeys(keys) if key not in found]
        contents = self.source.read([row for row, _ in missing])
        for key, content in zip(missing, contents, strict=True):
            found[key] = decoded = self._resized(*key, content)
            if isinstance(decoded, Decoded):
                self._cache.put(key, decoded)
        return found

    def _resized(
        self, index: int, bucket: int, content: Content | Exception
    ) -> Decoded | StoredLatents | Exception:
        if isinstance(content, Exception | StoredLatents):
            return content
        row, target = self.manifest.row(index), content.target
        placement = self._placement(index, bucket, target.size, 0.5, 0.5)
        source = None if content.source is None else placement.resize(content.source)
        return Decoded(row, parse(row["chain"]), target.size, placement.resize(target), source)

    def _nearest_buckets(self) -> np.ndarray:
        """Index of the size nearest to each row's target, int16.

        The manifest says how large pictures are: opening millions of them would take hours on every worker.
        """
        width, height = self.manifest.column("width"), self.manifest.column("height")
        unknown = np.flatnonzero((width <= 0) | (height <= 0))
        if len(unknown):
            row = self.manifest.row(int(unknown[0]))
            raise ValueError(
                f"sample {row['sample_id']} ({row['target_path']}): the training manifest does not say how "
                "wide and high the picture is, so it has no bucket; materialize training_manifest (for "
                "edits, edit_pairs before it) again"
            )
        return nearest_buckets(width, height, self.sizes)

    def groups(self, mixture: Mapping[str, float]) -> list[tuple[Group, np.ndarray]]:
        """The groups of a mixture (see ``StageConfig.mixture``), each with the indices of its rows.

        Raises ValueError as ``mixture.resolve``.
        """
        groups = resolve(self.manifest.counted(mixture, self._undrawn), mixture)
        return [
            (group, self._divided(self.manifest.of_group(group.name), held_out=False)) for group in groups
        ]

    def held_out_rows(self, mixture: Mapping[str, float]) -> np.ndarray:
        """Indices of the rows of a mixture's groups that are held out, in no order; a row may come twice."""
        rows = np.concatenate([self.manifest.of_group(name) for name in mixture])
        return self._divided(rows, held_out=True)

    def _divided(self, rows: np.ndarray, *, held_out: bool) -> np.ndarray:
        return rows[self._held_out[rows] if held_out else ~self._undrawn[rows]]

    def draw(self, rng: np.random.Generator, kind: str, count: int) -> list[TrainingSample]:
        """``count`` different samples of a kind (of the other kind where there is none)."""
        return [self[int(k)] for k in self._drawn(rng, kind, count)]

    def prompts(self, rng: np.random.Generator, kind: str, count: int, step: int = 0) -> list[str]:
        """The prompts of rows drawn like :meth:`draw`'s, others for those that the step goes without; no
        picture is opened."""
        rows = [int(k) for k in self._drawn(rng, kind, count)]
        others = (k for k in map(int, self.of_kind[kind]) if k not in rows)
        spare = (k for k in others if not self.is_taken_down(k, step))
        kept = [next(spare, None) if self.is_taken_down(k, step) else k for k in rows]
        return [wordings(self.manifest.row(k))[0] for k in kept if k is not None]

    def _drawn(self, rng: np.random.Generator, kind: str, count: int) -> np.ndarray:
        pool = self.of_kind[kind]
        return draw_rows(rng, pool if len(pool) else np.sort(np.concatenate([*self.of_kind.values()])), count)


def wordings(row: dict[str, Any]) -> tuple[str, ...]:
    """The prompt of a row, or all wordings of its instruction."""
    return tuple(row.get("instructions") or [row["prompt"]])


def _stretched(decoded: Decoded, placement: Placement) -> Decoded:
    target, source = (
        None if pixels is None else placement.resize(Image.fromarray(pixels))
        for pixels in (decoded.target, decoded.source)
    )
    assert target is not None
    return Decoded(decoded.row, decoded.chain, decoded.original, target, source)


def draw_rows(rng: np.random.Generator, pool: np.ndarray, count: int) -> np.ndarray:
    """``count`` different entries of a pool; entries repeat only where the pool is smaller than that."""
    return rng.choice(pool, size=count, replace=count > len(pool))


def step_generator(seed: int, *key: int) -> np.random.Generator:
    """The random source of one step, a function of the seed and the key alone.

    Zeros at the end of a key change nothing, for NumPy pads keys with them: to be apart from the steps' own
    keys, longer ones end with another number.
    """
    return np.random.default_rng([seed, *key])


def sample_generator(seed: int, index: int) -> np.random.Generator:
    """The random source of a sample's cut and wording, by its number since the first step."""
    return step_generator(seed, index, 1)


def noise_seed(seed: int, index: int) -> int:
    """Seed of a sample's noise, its timestep and what it goes without, by its number since the first step."""
    return int(step_generator(seed, index, 2).integers(2**62))


def dropout_seed(seed: int, step: int, rank: int, number: int) -> int:
    """Seed of the dropout masks of a rank's pass, by its number in the step."""
    return int(step_generator(seed, step, rank, number, 3).integers(2**62))


def training_data(run: TrainingRun, config: StageConfig | None = None) -> TrainingData:
    """The samples of the run's manifest, with the geometry of a stage; stretched where none is given."""
    options: dict[str, Any] = {"store_url": run.storage_url, "store_options": run.storage_options}
    options["held_out"] = (config or run.recipe.stages[0].config).held_out
    if config is not None:
        options["row_share"] = config.row_share
        options |= {"geometry": config.geometry, "bucket_multiple": config.bucket_multiple}
        options["cache_bytes"] = config.cache_megabytes << 20
        options["care"] = PictureCare(retries=config.picture_retries, timeout=config.picture_timeout)
        options["faults"] = PictureFaults(max_share=config.max_substituted, report=run.report)
    manifest = manifest_of(run)
    return TrainingData(
        manifest,
        run.raw_url,
        run.edits_url,
        run.recipe.ingest,
        run.recipe.model.resolution,
        run.raw_options,
        run.edits_options,
        places=latents_of(run) if config and config.latents else places_of(run, manifest),
        **options,
    )
