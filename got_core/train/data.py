"""Training samples: rows of the manifest with their pictures, and the batches made of them.

A batch depends on nothing but seed, step and rank, so a resumed run sees the same data as an undisturbed one.
How a picture is cut to training size belongs to ``geometry``.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from PIL import Image
from torch import Tensor, nn

from got_core.chain.edits import read_edit_chain
from got_core.chain.grammar import Chain, ChainError, parse
from got_core.corpus.config import IngestConfig
from got_core.corpus.ingest import edits_root
from got_core.corpus.reader import ImageReader
from got_core.model.guidance import black_latents, encode, spatial_latents, to_tensor
from got_core.model.keeping import free_cells
from got_core.model.sequence import SequenceBuilder
from got_core.train.config import Geometry
from got_core.train.geometry import Placement, Size, bucket_sizes, covering, nearest_bucket, stretched

KINDS = ("t2i", "edit")

LENGTH_MULTIPLE = 16
"""Training sequences are padded to a multiple of this."""


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


@dataclass(frozen=True)
class _Decoded:
    """A row's pictures, resized and not yet cut."""

    row: dict[str, Any]
    chain: Chain
    original: Size
    target: np.ndarray
    source: np.ndarray | None

    @property
    def nbytes(self) -> int:
        return self.target.nbytes + (0 if self.source is None else self.source.nbytes)


class _Cache:
    """Decoded rows up to a number of bytes; the least recently used ones go first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.nbytes = 0
        self._rows: OrderedDict[int, _Decoded] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, index: int) -> _Decoded | None:
        with self._lock:
            if index in self._rows:
                self._rows.move_to_end(index)
            return self._rows.get(index)

    def put(self, index: int, decoded: _Decoded) -> None:
        with self._lock:
            if index in self._rows:
                return
            self._rows[index] = decoded
            self.nbytes += decoded.nbytes
            while self.nbytes > self.limit:
                self.nbytes -= self._rows.popitem(last=False)[1].nbytes


class TrainingData:
    """Samples of a manifest; decoded pictures stay in memory up to ``cache_bytes``.

    ``store_url`` is the storage that holds pictures whose source was no plain file.

    Raises ValueError where the manifest holds no sample at all, and with the geometry ``bucket`` where a row
    lacks its width or height. Rows are trusted to be accepted ones; a file that has vanished since raises the
    reader's error, which names it.
    """

    def __init__(
        self,
        manifest: pl.DataFrame,
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
    ) -> None:
        if manifest.is_empty():
            raise ValueError("the training manifest is empty; check the selections of its shards")
        self.manifest = manifest
        self.resolution = resolution
        self.geometry = geometry
        self._readers = {
            "t2i": ImageReader(raw_url, ingest, raw_options, store_url=store_url, store_options=store_options)
        }
        if edits_url is not None:
            self._readers["edit"] = ImageReader(edits_root(edits_url), ingest, edits_options)
        kinds = manifest["kind"].to_numpy()
        self.of_kind = {kind: np.flatnonzero(kinds == kind) for kind in KINDS}
        self._cache = _Cache(cache_bytes)
        self.sizes: list[Size] = [(resolution, resolution)]
        self.bucket = np.zeros(len(manifest), dtype=np.int16)
        if geometry == "bucket":
            self.sizes = bucket_sizes(resolution, bucket_multiple)
            self.bucket[:] = self._nearest_buckets()

    @property
    def rows(self) -> Iterator[dict[str, Any]]:
        """The manifest's rows in order."""
        return self.manifest.iter_rows(named=True)

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, index: int) -> TrainingSample:
        return self.take(index)

    def take(self, index: int, across: float = 0.5, down: float = 0.5) -> TrainingSample:
        """A sample, cut at a place of the free space (see ``geometry.covering``) where it has to be cut.

        An edit one of whose boxes would be cut away is stretched instead: its chain is about that box.
        """
        decoded = self._cache.get(index)
        if decoded is None:
            decoded = self._decode(index)
            self._cache.put(index, decoded)
        placement = self._placement(index, decoded.original, across, down)
        if decoded.source is not None and not placement.keeps(decoded.chain):
            placement = stretched(decoded.original, placement.size)
            decoded = _resized(decoded, placement)
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

    def _placement(self, index: int, original: Size, across: float, down: float) -> Placement:
        size = self.sizes[self.bucket[index]]
        if self.geometry == "stretch":
            # The U-Net is told the training size, which is what it is told when it draws.
            return stretched(size, size)
        return covering(original, size, across, down)

    def _decode(self, index: int) -> _Decoded:
        row = self.manifest.row(index, named=True)
        target = self._readers[row["kind"]].open(row["target_path"])
        placement = self._placement(index, target.size, 0.5, 0.5)
        source = self._readers["edit"].open(row["source_path"]) if row.get("source_path") else None
        return _Decoded(
            row,
            parse(row["chain"]),
            target.size,
            placement.resize(target),
            None if source is None else placement.resize(source),
        )

    def _nearest_buckets(self) -> list[int]:
        """Index of the size nearest to each row's target.

        The manifest says how large pictures are: opening millions of them would take hours on every worker.
        """
        known = {"width", "height"} <= set(self.manifest.columns)
        rows = self.manifest if known else self.manifest.with_columns(width=None, height=None)
        sizes = rows.select("width", "height")
        unknown = rows.filter(pl.any_horizontal(pl.col("width", "height").is_null()))
        if len(unknown):
            row = unknown.row(0, named=True)
            raise ValueError(
                f"sample {row['sample_id']} ({row['target_path']}): the training manifest does not say how "
                "wide and high the picture is, so it has no bucket; materialize training_manifest (for "
                "edits, edit_pairs before it) again"
            )
        nearest = {size: nearest_bucket(size, self.sizes) for size in sizes.unique().iter_rows()}
        return [nearest[size] for size in sizes.iter_rows()]

    def group(self, name: str) -> np.ndarray:
        """Indices of a mixture's group (see ``StageConfig.mixture``).

        Raises ValueError for a name that is no group, and for a source that no row of the kind has.
        """
        kind, _, source = name.partition("/")
        if kind not in (*KINDS, "single-turn", "multi-turn"):
            raise ValueError(f"mixture group {name!r} is none of t2i, edit, single-turn, multi-turn")
        found = self.of_kind.get(kind, self.of_kind["edit"])
        if kind not in KINDS:
            several = kind == "multi-turn"
            found = found[[self._is_multi_turn(int(k)) == several for k in found]]
        if not source:
            return found
        named = found[self.manifest["source"].gather(found).to_numpy() == source] if len(found) else found
        if not len(named):
            raise ValueError(f"mixture group {name!r}: no {kind} row of the manifest has source {source!r}")
        return named

    def _is_multi_turn(self, index: int) -> bool:
        try:
            return len(read_edit_chain(parse(self.manifest["chain"][index])).steps) > 1
        except ChainError:
            return False

    def draw(self, rng: np.random.Generator, kind: str, count: int) -> list[TrainingSample]:
        """``count`` different samples of a kind (of the other kind where there is none)."""
        pool = self.of_kind[kind]
        return [self[int(k)] for k in choose(rng, pool if len(pool) else np.arange(len(self)), count)]


def wordings(row: dict[str, Any]) -> tuple[str, ...]:
    """The prompt of a row, or all wordings of its instruction."""
    return tuple(row.get("instructions") or [row["prompt"]])


def _resized(decoded: _Decoded, placement: Placement) -> _Decoded:
    target, source = (
        None if pixels is None else placement.resize(Image.fromarray(pixels))
        for pixels in (decoded.target, decoded.source)
    )
    assert target is not None
    return _Decoded(decoded.row, decoded.chain, decoded.original, target, source)


def choose(rng: np.random.Generator, pool: np.ndarray, count: int) -> np.ndarray:
    """``count`` different entries of a pool; entries repeat only where the pool is smaller than that."""
    return rng.choice(pool, size=count, replace=count > len(pool))


def step_generator(seed: int, *key: int) -> np.random.Generator:
    """The random source of one step, a function of the seed and the key alone."""
    return np.random.default_rng([seed, *key])


class JointBatches:
    """Batches of a joint stage for one data-parallel rank.

    A batch is of one kind and one picture size, the same on all ranks, so that no rank waits for another's
    longer sequences. ``reasoning`` and ``spatial_guidance`` are those of the model (see ``ModelConfig``).

    Raises ValueError where no group of the mixture has a row.
    """

    def __init__(
        self,
        data: TrainingData,
        sequences: SequenceBuilder,
        autoencoder: nn.Module,
        *,
        batch_size: int,
        mixture: Mapping[str, float],
        seed: int,
        random_crop: bool = True,
        rank: int = 0,
        ranks: int = 1,
        device: torch.device | str = "cpu",
        reasoning: bool = True,
        spatial_guidance: bool = True,
    ) -> None:
        self.data = data
        self.sequences = sequences
        self.autoencoder = autoencoder
        self.batch_size = batch_size
        self.random_crop = random_crop
        self.seed = seed
        self.rank = rank
        self.ranks = ranks
        self.device = device
        self.reasoning = reasoning
        self.spatial_guidance = spatial_guidance
        self.pools, self.shares = _pools(data, mixture)

    def samples(self, index: int) -> tuple[list[TrainingSample], list[str]]:
        """The samples of a batch on this rank, and the wording drawn for each.

        Every rank draws the rows of all, and opens the files of its own alone.
        """
        rng = step_generator(self.seed, index)
        pool = self.pools[int(np.searchsorted(self.shares, rng.random(), side="right"))]
        count = self.batch_size * self.ranks
        rows, draws = choose(rng, pool, count), rng.random((count, 3))
        samples, texts = [], []
        for k in range(self.rank * self.batch_size, (self.rank + 1) * self.batch_size):
            place = draws[k, 1:] if self.random_crop else (0.5, 0.5)
            sample = self.data.take(int(rows[k]), float(place[0]), float(place[1]))
            samples.append(sample)
            texts.append(sample.prompts[int(draws[k, 0] * len(sample.prompts))])
        return samples, texts

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Language inputs, labels, latents and size numbers of a batch (see ``GoTModel.forward``)."""
        samples, texts = self.samples(index)
        edit = samples[0].source is not None
        tokens = [
            self.sequences.training(self.sequences.prompt(text, has_image=edit), self._written(sample))
            for sample, text in zip(samples, texts, strict=True)
        ]
        sources = [Image.fromarray(s.source) for s in samples if s.source is not None]
        batch = self.sequences.collate(tokens, sources or None, LENGTH_MULTIPLE)
        return {k: v.to(self.device) for k, v in batch.items()} | self.latents(samples)

    def _written(self, sample: TrainingSample) -> str:
        """What stands between a sample's prompt and its image tokens."""
        return sample.chain.to_model() if self.reasoning else ""

    def latents(self, samples: Sequence[TrainingSample]) -> dict[str, Tensor]:
        """What the U-Net is given of samples and should draw (see ``drawing_inputs``)."""
        inputs = drawing_inputs(self.autoencoder, samples, self.device, self.spatial_guidance)
        if not self.reasoning:
            # Where the boxes are would reach a model that has no chain through the weights of its loss.
            inputs.pop("kept", None)
        return inputs


@torch.no_grad()
def drawing_inputs(
    autoencoder: nn.Module,
    samples: Sequence[TrainingSample],
    device: torch.device | str = "cpu",
    spatial_guidance: bool = True,
) -> dict[str, Tensor]:
    """Latents ``clean``, ``spatial`` (Gs) and ``reference`` (Gr) of samples of one kind and size, each
    (B, C, h, w), unscaled; size numbers ``time_ids`` (B, 6); of edits also ``kept`` (B, 1, h, w), 1 in the
    cells that no box reaches. Gs is zero without ``spatial_guidance``."""
    height, width = samples[0].target.shape[:2]
    chains = [sample.chain for sample in samples]

    def encoded(pictures: Sequence[np.ndarray]) -> Tensor:
        return encode(autoencoder, to_tensor(np.stack(pictures)).to(device))

    inputs = {"clean": encoded([sample.target for sample in samples])}
    sources = [sample.source for sample in samples if sample.source is not None]
    if sources:
        inputs["reference"] = encoded(sources)
        cell = height // inputs["clean"].shape[-2]
        inputs["kept"] = (~free_cells(chains, height, width, cell)).to(inputs["clean"])
    else:
        inputs["reference"] = black_latents(autoencoder, len(samples), height, width)
    if spatial_guidance:
        inputs["spatial"] = spatial_latents(autoencoder, chains, height, width)
    else:
        inputs["spatial"] = torch.zeros_like(inputs["clean"])
    sizes = [sample.time_ids for sample in samples]
    return inputs | {"time_ids": torch.tensor(sizes, dtype=torch.float32, device=device)}


def _pools(data: TrainingData, mixture: Mapping[str, float]) -> tuple[list[np.ndarray], np.ndarray]:
    """Rows that may share a batch (one group, one picture size), and their cumulative shares of batches."""
    pools, shares = [], []
    for name, share in mixture.items():
        rows = data.group(name)
        for bucket in np.unique(data.bucket[rows]):
            pools.append(rows[data.bucket[rows] == bucket])
            shares.append(share * len(pools[-1]) / len(rows))
    if not pools:
        held = {kind: len(rows) for kind, rows in data.of_kind.items()}
        raise ValueError(f"the manifest has no row of the mixture {dict(mixture)}; its rows are {held}")
    cumulative = np.cumsum(shares)
    return pools, cumulative[:-1] / cumulative[-1]
