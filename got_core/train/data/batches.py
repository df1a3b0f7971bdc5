"""Batches of training samples as the joint stages take them.

A step's samples depend on nothing but seed and step, so a resumed run sees the same data as an undisturbed
one, on any number of workers.
Belongs here: which samples, and their tensors on the device. Not here: their order (``order``), reading them
(``passes``, ``loading``), what the drawing network is given (``latents``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from torch import Tensor, nn

from got_core.model.got import count_dropped
from got_core.model.picture_encoder import PictureEncoder
from got_core.model.sequence import SequenceBuilder
from got_core.train.cpu_time import Stopwatch
from got_core.train.data.latents import drawing_inputs, picture_inputs
from got_core.train.data.loading import PassLoader
from got_core.train.data.manifest import TrainingManifest
from got_core.train.data.order import DrawOrder
from got_core.train.data.passes import PassOrder, PassReader, ReadPass
from got_core.train.data.samples import TrainingData, TrainingSample, noise_seed
from got_core.train.data.stored import stacked, stored_inputs
from got_core.train.layout import Pass, StepLayout, learns


class JointBatches:
    """Batches of a joint stage for one data-parallel rank.

    A draw is of one kind and one picture size, the same on all ranks, so that no rank waits for another's
    longer sequences. ``reasoning`` and ``spatial_guidance`` are those of the model (see ``ModelConfig``),
    ``language_share`` that of the loss; ``decoders``, ``prefetch``, ``steps`` and ``timeout`` go to the
    ``PassLoader``. ``drop`` is the share of ``LossConfig`` where the loss draws first, from a source of each
    sample's ``noise_seed``, what the sample goes without: that is not encoded.

    Raises ValueError where no group of the mixture has a row.
    """

    def __init__(
        self,
        data: TrainingData,
        sequences: SequenceBuilder,
        encoder: PictureEncoder | nn.Module,
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
        drop: float = 0.0,
        decoders: int = 0,
        prefetch: int = 2,
        steps: int | None = None,
        timeout: float = 0.0,
    ) -> None:
        self.data = data
        self.encoder = encoder if isinstance(encoder, PictureEncoder) else PictureEncoder(encoder)
        self.layout = layout
        self.rank = rank
        self.device = torch.device(device)
        self.reasoning = reasoning
        self.spatial_guidance = spatial_guidance
        self.language_share = language_share
        self.drop, self.seed = drop, seed
        self.last_ids: list[str] = []
        """Ids of the samples of the last step that was asked for, substitutes under their own."""
        self.waiting = Stopwatch()
        """Time that passes were waited for, to be read or to come from their decoder processes; encoding them
        is none."""
        self.decoder_seconds = 0.0
        """CPU seconds that decoder processes took for the passes so far."""
        circles, shares = _pools(data, mixture)
        self._order = DrawOrder(
            [len(pool) for pool, *_ in circles], shares, samples=layout.samples_per_draw, seed=seed
        )
        self.reader = PassReader(
            data, sequences, circles, seed=seed, random_crop=random_crop, reasoning=reasoning
        )
        self._loader = PassLoader(
            self.reader,
            lambda step: [self.order(one) for one in layout.passes(step, rank)],
            decoders=decoders,
            prefetch=prefetch,
            steps=steps,
            pin=self.device.type == "cuda",
            timeout=timeout,
        )

    def passes(self, step: int) -> list[dict[str, Any]]:
        """The batches of a step on this rank: language inputs, labels, latents and size numbers (see
        ``GoTModel.forward``); ``index``, the samples' numbers since the first step, int64 (B,); ``learning``,
        how many of them, the first ones, the language model learns from."""
        return [self.completed(batch) for batch in self.read(step)]

    def read(self, step: int) -> list[dict[str, Any]]:
        """The batches of a step without what takes the device's time and memory: language inputs and labels
        in this process's memory, numbers, and for :meth:`completed` the ``pass`` itself."""
        with self.waiting:
            found = self._loader.step(step)
        self.last_ids = [sample_id for one in found for sample_id in one.ids]
        self.decoder_seconds += sum(one.cpu_seconds for one in found)
        for one in found:
            for index, faults in zip(one.order.indices, one.faults, strict=True):
                self.data.faults.count(index, faults)
        return [
            one.language
            | {"index": torch.tensor(one.order.indices), "learning": one.order.learning, "pass": one}
            for one in found
        ]

    def completed(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """A batch that :meth:`read` gave as :meth:`passes` gives it."""
        one: ReadPass = batch["pass"]
        inputs = self._stored(one.stored, one.time_ids) if one.stored else self._encoded(one)
        numbers = {name: batch[name] for name in ("index", "learning")}
        return self._on_device(one.language) | inputs | numbers

    def _encoded(self, one: ReadPass) -> dict[str, Tensor]:
        return self._known(
            picture_inputs(
                self.encoder,
                one.targets,
                one.sources,
                chains=one.chains,
                time_ids=one.time_ids,
                device=self.device,
                spatial_guidance=self.spatial_guidance,
                dropped=self.dropped(one.order.indices),
            )
        )

    def dropped(self, indices: Sequence[int]) -> list[int]:
        """How many conditions samples, by their numbers since the first step, go without."""
        sources = [torch.Generator().manual_seed(noise_seed(self.seed, index)) for index in indices]
        return [int(count) for count in count_dropped(len(indices), self.drop, sources)]

    def of(self, samples: Sequence[TrainingSample], texts: Sequence[str]) -> dict[str, Any]:
        """The batch of samples of one kind and size, with a wording of each; without its numbers."""
        language = self._on_device(self.reader.language(samples, texts))
        if stored := stacked(samples):
            return language | self._stored(stored, [sample.time_ids for sample in samples])
        return language | self.latents(samples)

    def _on_device(self, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        return {name: value.to(self.device, non_blocking=True) for name, value in tensors.items()}

    def order(self, one: Pass) -> PassOrder:
        """What a pass reads: those samples first that the language model learns from.

        Which they are follows from their positions in the draw, whatever the number of workers.
        """
        learning = [k for k in one.indices if learns(self._position(k), self.language_share)]
        indices = [*learning, *(k for k in one.indices if k not in learning)]
        pool = self._order.pool(one.draw)
        rows = self.reader.circles[pool][0][self._order.places(one.draw)]
        return PassOrder(
            step=one.draw // self.layout.draws,
            pool=pool,
            indices=tuple(indices),
            rows=tuple(int(rows[self._position(index)]) for index in indices),
            learning=len(learning),
        )

    def _position(self, index: int) -> int:
        return index % self.layout.samples_per_draw

    def latents(self, samples: Sequence[TrainingSample]) -> dict[str, Tensor]:
        """What the U-Net is given of samples and should draw (see ``drawing_inputs``)."""
        return self._known(drawing_inputs(self.encoder, samples, self.device, self.spatial_guidance))

    def _stored(self, stored: dict[str, Tensor], time_ids: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """The same of stored latents."""
        return self._known(
            stored_inputs(self.encoder.black, stored, time_ids, self.device, self.spatial_guidance)
        )

    def _known(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        if not self.reasoning:
            # Where the boxes are would reach a model that has no chain through the weights of its loss.
            inputs.pop("kept", None)
        return inputs

    def close(self) -> None:
        """End the decoder processes, if there are any."""
        self._loader.close()


def _pools(
    data: TrainingData, mixture: Mapping[str, float]
) -> tuple[list[tuple[np.ndarray, ...]], list[float]]:
    """Rows that may share a batch (one group, one picture size), and their shares of draws.

    With the rows come, for substitutes, those of the group, and those of the kind.
    """
    pools: list[tuple[np.ndarray, ...]] = []
    shares: list[float] = []
    shards = _shards(data.manifest)
    for group, rows in data.groups(mixture):
        kind = data.of_kind["t2i" if group.name.partition("/")[0] == "t2i" else "edit"]
        # As tars hold them, whether or not they are read from tars: what is drawn must not depend on that.
        stored = rows[np.argsort(shards[rows], kind="stable")]
        for bucket in np.unique(data.bucket[rows]):
            pool = stored[data.bucket[stored] == bucket]
            pools.append((pool, rows, kind))
            shares.append(group.share * len(pool) / len(rows))
    return pools, shares


def _shards(manifest: TrainingManifest) -> np.ndarray:
    """Number of each row's shard, int32 (N,), by the order of their names; zeros where none is told."""
    numbers: dict[str | None, int] = {}
    parts = [np.empty(0, dtype=np.int32)]
    for batch in manifest.batches:
        if "shard" not in batch.schema.names:
            return np.zeros(len(manifest), dtype=np.int32)
        encoded = pc.dictionary_encode(batch.column("shard"), null_encoding="encode")
        own = [numbers.setdefault(name, len(numbers)) for name in encoded.dictionary.to_pylist()]
        parts.append(np.array(own, dtype=np.int32)[encoded.indices.to_numpy(zero_copy_only=False)])
    ranks = np.empty(len(numbers), dtype=np.int32)
    ranks[[numbers[name] for name in sorted(numbers, key=lambda name: name or "")]] = np.arange(len(numbers))
    return ranks[np.concatenate(parts)]
