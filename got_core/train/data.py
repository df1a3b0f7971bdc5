"""Training samples: rows of the manifest with their pictures, and the batches made of them.

A batch depends on nothing but seed, step and rank, so a resumed run sees the same data as an undisturbed one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from PIL import Image
from torch import Tensor, nn

from got_core.chain.grammar import Chain, parse
from got_core.corpus.config import IngestConfig
from got_core.corpus.ingest import edits_root
from got_core.corpus.reader import ImageReader
from got_core.model.guidance import black_latents, encode, spatial_latents, to_tensor
from got_core.model.sequence import SequenceBuilder

KINDS = ("t2i", "edit")

LENGTH_MULTIPLE = 16
"""Training sequences are padded to a multiple of this."""


@dataclass(frozen=True)
class TrainingSample:
    """One row of the manifest with its pictures, stretched to the training resolution."""

    kind: str
    prompts: tuple[str, ...]
    """The prompt, or the wordings of the instruction; one is drawn each time the sample is used."""
    chain: Chain
    target: np.ndarray
    """The picture to draw, uint8 (R, R, 3)."""
    source: np.ndarray | None
    """The picture to edit, alike."""


class TrainingData:
    """Decoded samples of a manifest, kept in memory after their first use.

    Raises ValueError where the manifest holds no sample at all. Rows are trusted to be accepted ones; a file
    that has vanished since raises the reader's error, which names it.
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
    ) -> None:
        if manifest.is_empty():
            raise ValueError("the training manifest is empty; check the selections of its shards")
        self.rows = manifest.to_dicts()
        self.resolution = resolution
        self._readers = {"t2i": ImageReader(raw_url, ingest, raw_options)}
        if edits_url is not None:
            self._readers["edit"] = ImageReader(edits_root(edits_url), ingest, edits_options)
        kinds = np.array([row["kind"] for row in self.rows])
        self.of_kind = {kind: np.flatnonzero(kinds == kind) for kind in KINDS}
        self._cache: dict[int, TrainingSample] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> TrainingSample:
        if index not in self._cache:
            self._cache[index] = self._load(self.rows[index])
        return self._cache[index]

    def _load(self, row: dict) -> TrainingSample:
        source = row.get("source_path")
        wordings = row.get("instructions") or [row["prompt"]]
        return TrainingSample(
            kind=row["kind"],
            prompts=tuple(wordings),
            chain=parse(row["chain"]),
            target=self._pixels(row["kind"], row["target_path"]),
            source=self._pixels("edit", source) if source else None,
        )

    def _pixels(self, kind: str, path: str) -> np.ndarray:
        image = self._readers[kind].open(path)
        size = (self.resolution, self.resolution)
        return np.asarray(image if image.size == size else image.resize(size, Image.Resampling.BICUBIC))

    def draw(self, rng: np.random.Generator, kind: str, count: int) -> list[TrainingSample]:
        """``count`` different samples of a kind (of the other kind where there is none)."""
        pool = self.of_kind[kind]
        if not len(pool):
            pool = np.arange(len(self.rows))
        chosen = rng.choice(pool, size=count, replace=count > len(pool))
        return [self[int(index)] for index in chosen]


def step_generator(seed: int, *key: int) -> np.random.Generator:
    """The random source of one step, a function of the seed and the key alone."""
    return np.random.default_rng([seed, *key])


class JointBatches:
    """Batches of a joint stage for one data-parallel rank.

    A batch is of one kind, the same on all ranks, so that no rank waits for another's longer sequences.
    """

    def __init__(
        self,
        data: TrainingData,
        sequences: SequenceBuilder,
        autoencoder: nn.Module,
        *,
        batch_size: int,
        edit_share: float,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.data = data
        self.sequences = sequences
        self.autoencoder = autoencoder
        self.batch_size = batch_size
        self.edit_share = edit_share
        self.seed = seed
        self.rank = rank
        self.ranks = ranks

    def samples(self, step: int) -> tuple[list[TrainingSample], list[str]]:
        """The samples of a step on this rank, and the wording drawn for each."""
        rng = step_generator(self.seed, step)
        has_edits = len(self.data.of_kind["edit"]) > 0
        kind = "edit" if has_edits and rng.random() < self.edit_share else "t2i"
        everyone = self.data.draw(rng, kind, self.batch_size * self.ranks)
        wordings = [str(rng.choice(list(sample.prompts))) for sample in everyone]
        mine = slice(self.rank * self.batch_size, (self.rank + 1) * self.batch_size)
        return everyone[mine], wordings[mine]

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """Language inputs, labels and latents of a step (see ``GoTModel.forward``)."""
        samples, wordings = self.samples(step)
        edit = samples[0].source is not None
        tokens = [
            self.sequences.training(self.sequences.prompt(text, has_image=edit), sample.chain.to_model())
            for sample, text in zip(samples, wordings, strict=True)
        ]
        sources = [Image.fromarray(s.source) for s in samples if s.source is not None]
        return self.sequences.collate(tokens, sources or None, LENGTH_MULTIPLE) | self.latents(samples)

    @torch.no_grad()
    def latents(self, samples: Sequence[TrainingSample]) -> dict[str, Tensor]:
        """Latents of the target, Gs and Gr, each (B, C, h, w), unscaled."""
        side = self.data.resolution
        target = encode(self.autoencoder, to_tensor(np.stack([s.target for s in samples])))
        sources = [s.source for s in samples if s.source is not None]
        if sources:
            reference = encode(self.autoencoder, to_tensor(np.stack(sources)))
        else:
            reference = black_latents(self.autoencoder, len(samples), side, side)
        spatial = spatial_latents(self.autoencoder, [s.chain for s in samples], side, side)
        return {"clean": target, "spatial": spatial, "reference": reference}
