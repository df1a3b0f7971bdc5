"""Batches of training samples as the joint stages take them.

A batch depends on nothing but seed, step and rank, so a resumed run sees the same data as an undisturbed one.
Belongs here: which samples, and their tensors. Not here: one sample (``samples``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from got_core.model.guidance import black_latents, encode, spatial_latents, to_tensor
from got_core.model.inpaint_mask import free_cells
from got_core.model.sequence import SequenceBuilder
from got_core.train.data.samples import TrainingData, TrainingSample, draw_rows, step_generator

LENGTH_MULTIPLE = 16
"""Training sequences are padded to a multiple of this."""


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
        rows, draws = draw_rows(rng, pool, count), rng.random((count, 3))
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
        chains = [self._written(sample) for sample in samples]
        sources = [Image.fromarray(s.source) for s in samples if s.source is not None]
        batch = language_inputs(self.sequences, texts, chains, sources)
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


def pictures_encoded(samples: int, boxes: int, *, edit: bool, spatial_guidance: bool = True) -> list[int]:
    """How many pictures each call of the autoencoder takes in :func:`drawing_inputs`, for samples of so many
    boxes each."""
    calls = [samples, samples if edit else 1]
    return [*calls, samples * max(1, boxes)] if spatial_guidance else calls


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
    for group, rows in data.groups(mixture):
        for bucket in np.unique(data.bucket[rows]):
            pools.append(rows[data.bucket[rows] == bucket])
            shares.append(group.share * len(pools[-1]) / len(rows))
    cumulative = np.cumsum(shares)
    return pools, cumulative[:-1] / cumulative[-1]
