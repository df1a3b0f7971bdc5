"""What one forward pass learns from, ready for the device: read, decoded, cut, and in tokens.

Everything of a pass follows from its order, so it does not matter which process reads it. Belongs here:
one pass, on the processor. Not here: which passes there are (``batches``), processes that read them
(``loading``), latents (``latents``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from got_core.chain.grammar import Chain
from got_core.model.sequence import SequenceBuilder
from got_core.train.data.faults import Faults
from got_core.train.data.samples import TrainingData, TrainingSample, sample_generator
from got_core.train.data.shared import shared
from got_core.train.data.stored import stacked
from got_core.train.data.substitutes import Substitutes

LENGTH_MULTIPLE = 16
"""Training sequences are padded to a multiple of this."""


@dataclass(frozen=True)
class PassOrder:
    """What is to be read for a pass."""

    step: int
    pool: int
    """That its rows are of, by number."""
    indices: tuple[int, ...]
    """Numbers of its samples since the first step."""
    rows: tuple[int, ...]
    """Their rows."""
    learning: int
    """How many of them, the first ones, the language model learns from."""


@dataclass(frozen=True)
class ReadPass:
    """A pass that was read; its samples are of one kind and size."""

    order: PassOrder
    ids: tuple[str, ...]
    """Of the samples, substitutes under their own."""
    texts: tuple[str, ...]
    chains: tuple[Chain, ...]
    time_ids: tuple[tuple[int, ...], ...]
    targets: Tensor
    """uint8 (B, H, W, 3)."""
    sources: Tensor | None
    """Of edits, alike."""
    language: dict[str, Tensor]
    """See :func:`language_inputs`."""
    stored: dict[str, Tensor] = field(default_factory=dict)
    """Latents in place of targets (see ``stored.stacked``); empty where pictures were read."""
    faults: tuple[Faults, ...] = field(default=())
    """Of each sample, the rows that could not be had for it."""
    cpu_seconds: float = 0.0
    """That a decoder process took; 0 where this process has read it."""

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by name."""
        found = {"targets": self.targets} | ({} if self.sources is None else {"sources": self.sources})
        found |= {f"language/{name}": value for name, value in self.language.items()}
        return found | {f"stored/{name}": value for name, value in self.stored.items()}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> ReadPass:
        """With others in their place, by the same names."""
        return replace(
            self,
            targets=tensors["targets"],
            sources=tensors.get("sources"),
            language={name: tensors[f"language/{name}"] for name in self.language},
            stored={name: tensors[f"stored/{name}"] for name in self.stored},
        )

    @property
    def samples(self) -> list[TrainingSample]:
        """Its samples, each with the wording that was drawn; pictures are views."""
        kind = "t2i" if self.sources is None else "edit"
        return [
            TrainingSample(
                sample_id=self.ids[k],
                kind=kind,
                prompts=(self.texts[k],),
                chain=self.chains[k],
                target=self.targets[k].numpy(),
                source=None if self.sources is None else self.sources[k].numpy(),
                time_ids=self.time_ids[k],
            )
            for k in range(len(self.ids))
        ]


class PassReader:
    """Reads passes. Picklable: each decoder process has a copy.

    Args:
        data: the rows.
        sequences: of the model's language.
        circles: of each pool its rows and, for substitutes, those of its group and of its kind.
        seed: of the stage.
        random_crop: whether pictures are cut at random, else from the middle.
        reasoning: whether chains stand between prompts and image tokens.
    """

    def __init__(
        self,
        data: TrainingData,
        sequences: SequenceBuilder,
        circles: Sequence[tuple[np.ndarray, ...]],
        *,
        seed: int,
        random_crop: bool = True,
        reasoning: bool = True,
    ) -> None:
        self.data = data
        self.sequences = sequences
        self.circles = list(circles)
        self.seed = seed
        self.random_crop = random_crop
        self.reasoning = reasoning

    def share(self) -> None:
        """Keep rows in memory that copies in decoder processes share."""
        self.data.share()
        made: dict[int, np.ndarray] = {}
        for circle in self.circles:
            made |= {id(rows): shared(rows) for rows in circle if id(rows) not in made}
        self.circles = [tuple(made[id(rows)] for rows in circle) for circle in self.circles]

    def read(self, order: PassOrder) -> ReadPass:
        """Read a pass, all its rows at once where the source does so.

        A row that was taken down, or whose pictures cannot be read, is substituted (see ``substitutes``).
        Raises TooManySubstitutesError where nothing can be had in a row's place.
        """
        data, substitutes = self.data, Substitutes(self.data, self.seed)
        wanted = [row for row in order.rows if not data.is_taken_down(row, order.step)]
        fetched = data.fetch([(row, int(data.bucket[row])) for row in wanted])
        samples, texts, faults = [], [], []
        for index, row in zip(order.indices, order.rows, strict=True):
            wording, *place = sample_generator(self.seed, index).random(3).tolist()
            across, down = place if self.random_crop else (0.5, 0.5)
            sample, missing = substitutes.find(
                row,
                self.circles[order.pool],
                index=index,
                step=order.step,
                across=across,
                down=down,
                fetched=fetched,
            )
            samples.append(sample)
            texts.append(sample.prompts[int(wording * len(sample.prompts))])
            faults.append(missing)
        return self._collated(order, samples, texts, faults)

    def _collated(
        self,
        order: PassOrder,
        samples: Sequence[TrainingSample],
        texts: Sequence[str],
        faults: Sequence[Faults],
    ) -> ReadPass:
        sources = [sample.source for sample in samples if sample.source is not None]
        return ReadPass(
            order=order,
            ids=tuple(sample.sample_id for sample in samples),
            texts=tuple(texts),
            chains=tuple(sample.chain for sample in samples),
            time_ids=tuple(sample.time_ids for sample in samples),
            targets=torch.from_numpy(np.stack([sample.target for sample in samples])),
            # Of stored latents nobody but the language model needs sources.
            sources=torch.from_numpy(np.stack(sources)) if sources and not samples[0].latents else None,
            language=self.language(samples, texts),
            stored=stacked(samples),
            faults=tuple(faults),
        )

    def language(self, samples: Sequence[TrainingSample], texts: Sequence[str]) -> dict[str, Tensor]:
        """What the language model is given of samples of one kind, with a wording of each."""
        chains = [sample.chain.to_model() if self.reasoning else "" for sample in samples]
        sources = [Image.fromarray(one.source) for one in samples if one.source is not None]
        return language_inputs(self.sequences, texts, chains, sources)


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
