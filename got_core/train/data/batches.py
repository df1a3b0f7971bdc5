"""Batches of training samples as the joint stages take them.

A step's samples depend on nothing but seed and step, so a resumed run sees the same data as an undisturbed
one, on any number of workers.
Belongs here: which samples, and their tensors. Not here: one sample (``samples``) and what the autoencoder
makes of its pictures (``latents``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from got_core.model.picture_encoder import PictureEncoder
from got_core.model.sequence import SequenceBuilder
from got_core.train.data.latents import drawing_inputs
from got_core.train.data.samples import (
    TrainingData,
    TrainingSample,
    draw_rows,
    sample_generator,
    step_generator,
)
from got_core.train.data.substitutes import Substitutes
from got_core.train.layout import Pass, StepLayout, learns

LENGTH_MULTIPLE = 16
"""Training sequences are padded to a multiple of this."""


class JointBatches:
    """Batches of a joint stage for one data-parallel rank.

    A draw is of one kind and one picture size, the same on all ranks, so that no rank waits for another's
    longer sequences. ``reasoning`` and ``spatial_guidance`` are those of the model (see ``ModelConfig``),
    ``language_share`` that of the loss.

    Raises ValueError where no group of the mixture has a row.
    """

    def __init__(
        self,
        data: TrainingData,
        sequences: SequenceBuilder,
        autoencoder: PictureEncoder | nn.Module,
        *,
        layout: StepLayout,
        mixture: Mapping[str, float],
        seed: int,
        random_crop: bool = True,
        rank: int = 0,
        device: torch.device | str = "cpu",
        reasoning: bool = True,
        spatial_guidance: bool = True,
        language_share: float = 1.0,
    ) -> None:
        self.data = data
        self.sequences = sequences
        self.autoencoder = autoencoder
        self.layout = layout
        self.random_crop = random_crop
        self.seed = seed
        self.rank = rank
        self.device = device
        self.reasoning = reasoning
        self.spatial_guidance = spatial_guidance
        self.language_share = language_share
        self.last_ids: list[str] = []
        """Ids of the samples of the last step that was asked for, substitutes under their own."""
        self.pools, self.shares = _pools(data, mixture)
        self._substitutes = Substitutes(data, seed)

    def passes(self, step: int) -> list[dict[str, Any]]:
        """The batches of a step on this rank: language inputs, labels, latents and size numbers (see
        ``GoTModel.forward``); ``index``, the samples' numbers since the first step, int64 (B,); ``learning``,
        how many of them, the first ones, the language model learns from."""
        self.last_ids = []
        return [self.batch(one) for one in self.layout.passes(step, self.rank)]

    def batch(self, one: Pass) -> dict[str, Any]:
        """The batch of a pass (see :meth:`passes`)."""
        indices, learning = self.order(one)
        samples, texts = self.samples(one.draw, indices)
        self.last_ids += [sample.sample_id for sample in samples]
        numbers = {"index": torch.tensor(indices), "learning": learning}
        return self.of(samples, texts) | numbers

    def of(self, samples: Sequence[TrainingSample], texts: Sequence[str]) -> dict[str, Any]:
        """The batch of samples of one kind and size, with a wording of each; without its numbers."""
        chains = [self._written(sample) for sample in samples]
        sources = [Image.fromarray(s.source) for s in samples if s.source is not None]
        batch = language_inputs(self.sequences, texts, chains, sources)
        return {k: v.to(self.device) for k, v in batch.items()} | self.latents(samples)

    def order(self, one: Pass) -> tuple[list[int], int]:
        """The samples of a pass, those first that the language model learns from, and how many these are.

        Which they are follows from their positions in the draw, whatever the number of workers.
        """
        learning = [k for k in one.indices if learns(self._position(k), self.language_share)]
        return [*learning, *(k for k in one.indices if k not in learning)], len(learning)

    def _position(self, index: int) -> int:
        return index % self.layout.samples_per_draw

    def samples(self, draw: int, indices: Sequence[int]) -> tuple[list[TrainingSample], list[str]]:
        """Samples of a draw by their numbers since the first step, and the wording drawn for each.

        Every rank draws the rows of all, and opens the files of its own alone. A row that was taken down, or
        whose pictures cannot be read, is substituted (see ``substitutes``).
        """
        rng, step = step_generator(self.seed, draw), draw // self.layout.draws
        circles = self.pools[int(np.searchsorted(self.shares, rng.random(), side="right"))]
        rows = draw_rows(rng, circles[0], self.layout.samples_per_draw)
        samples, texts = [], []
        for index in indices:
            wording, *place = sample_generator(self.seed, index).random(3).tolist()
            across, down = place if self.random_crop else (0.5, 0.5)
            row = int(rows[self._position(index)])
            sample = self._substitutes.take(row, circles, index=index, step=step, across=across, down=down)
            samples.append(sample)
            texts.append(sample.prompts[int(wording * len(sample.prompts))])
        return samples, texts

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


def language_inputs(
    sequences: SequenceBuilder, prompts: Sequence[str], chains: Sequence[str], sources: Sequence[Image.Image]
) -> dict[str, Tensor]:
    """What the language model is given of samples of one kind, labels included, padded to a common length.

    ``sources`` are the pictures that are edited; none for text to image.
    """
    samples = [
        sequences.training(sequences.prompt(prompt, has_image=bool(sources)), chain)
        for prompt, chain in zip(prompts, chains, strict=True)
    ]
    return sequences.collate(samples, sources or None, LENGTH_MULTIPLE)


def _pools(
    data: TrainingData, mixture: Mapping[str, float]
) -> tuple[list[tuple[np.ndarray, ...]], np.ndarray]:
    """Rows that may share a batch (one group, one picture size), and their cumulative shares of draws.

    With the rows come, for substitutes, those of the group, and those of the kind.
    """
    pools: list[tuple[np.ndarray, ...]] = []
    shares: list[float] = []
    for group, rows in data.groups(mixture):
        kind = data.of_kind["t2i" if group.name.partition("/")[0] == "t2i" else "edit"]
        for bucket in np.unique(data.bucket[rows]):
            pool = rows[data.bucket[rows] == bucket]
            pools.append((pool, rows, kind))
            shares.append(group.share * len(pool) / len(rows))
    cumulative = np.cumsum(shares)
    return pools, cumulative[:-1] / cumulative[-1]
