"""What a stage minimises, and the batches that it learns from.

Belongs here: the protocol that trainer, plan and stages know, and GoT's own objective. Not here: the model's
forward passes (``got_core.model.got``) and the loop (``trainer``). Recipes name objectives, so nothing here
imports torch before it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from got_core.model.got import GoTModel
    from got_core.model.noising import Generators
    from got_core.model.pipeline import GoTPipeline
    from got_core.train.config import StageConfig
    from got_core.train.data.samples import TrainingData

Batch = dict[str, Any]
"""Tensors by name, (B, ...), of one forward pass of one rank. ``index``, int64 (B,), holds the samples'
numbers since the first step; a sample's noise follows from its number and the seed."""


class Batches(Protocol):
    """What one rank learns from, the same for the same step in any process."""

    def passes(self, step: int) -> Sequence[Batch]:
        """The batches of a step in order: as many on all ranks, and all of one size, for each counts alike
        (see ``StageConfig.layout``)."""
        ...


class Objective(Protocol):
    """What a stage minimises. An implementation is a frozen dataclass: its fields are part of the identity of
    what it trains."""

    def batches(
        self,
        data: TrainingData,
        pipeline: GoTPipeline,
        config: StageConfig,
        *,
        rank: int,
        ranks: int,
        device: torch.device,
    ) -> Batches:
        """The batches of a rank.

        All ranks together should learn from the same samples in a step, however many they are.
        """
        ...

    def prepare(self, model: GoTModel) -> None:
        """Freeze what the stage does not train.

        What gets no gradient has to be frozen, for workers wait for each other's gradients.
        """
        ...

    def tokens(self, model: GoTModel, batch: Batch) -> int:
        """Number of tokens that the batch's text loss is a mean over, 0 where it has none.

        It is given all batches of a step before the first is learned from: those of ``JointBatches`` hold no
        latents then, and lie in the process's memory.

        Batches of one optimizer step are weighed by it (``text_share``), so that every token counts alike.
        """
        ...

    def losses(self, model: GoTModel, batch: Batch, rng: Generators) -> dict[str, Tensor]:
        """Scalars to log by name; ``loss`` carries the gradient. ``batch`` holds, beside what ``batches``
        gave, ``text_share``: 1, or the weight of the text loss among the passes and ranks of a step. ``rng``
        is one random source for all, or, while training, one for each sample."""
        ...


@dataclass(frozen=True)
class JointObjective:
    """Token cross-entropy of the chain and diffusion error of the picture, end to end (paper, 4.4)."""

    def batches(
        self,
        data: TrainingData,
        pipeline: GoTPipeline,
        config: StageConfig,
        *,
        rank: int = 0,
        ranks: int = 1,
        device: torch.device | str = "cpu",
    ) -> Batches:
        """See :class:`got_core.train.data.batches.JointBatches`.

        Conditions that :meth:`losses` leaves out are not encoded; for other losses all are.
        """
        from got_core.train.data.batches import JointBatches
        from got_core.train.data.latents import stage_encoder

        return JointBatches(
            data,
            pipeline.sequences,
            stage_encoder(pipeline.vae, config),
            layout=config.layout(ranks),
            mixture=config.mixture,
            seed=config.seed,
            random_crop=config.random_crop,
            rank=rank,
            device=device,
            reasoning=pipeline.config.reasoning,
            spatial_guidance=pipeline.config.spatial_guidance,
            language_share=config.loss.language_share,
            drop=config.loss.drop if type(self).losses is JointObjective.losses else 0.0,
            decoders=config.decoders,
            prefetch=config.prefetch,
            steps=config.steps,
            timeout=config.picture_timeout,
        )

    def prepare(self, model: GoTModel) -> None:
        """Everything that is not frozen already is trained."""

    def tokens(self, model: GoTModel, batch: Batch) -> int:
        """Labelled tokens of the rows that the language model learns from."""
        from got_core.model.sequence import IGNORED

        labels = batch["labels"][: model.learning_rows(batch)]
        return int((labels[:, 1:] != IGNORED).sum())

    def losses(self, model: GoTModel, batch: Batch, rng: Generators) -> dict[str, Tensor]:
        """Scalars ``loss``, ``text`` and ``diffusion``."""
        text, guidance = model.read(batch)
        diffusion = model.diffusion_loss(guidance, batch, rng)
        loss = model.loss.text_weight * batch["text_share"] * text + model.loss.diffusion_weight * diffusion
        return {"loss": loss, "text": text.detach(), "diffusion": diffusion.detach()}


def text_shares(tokens: Sequence[int], everyone: float, ranks: int) -> list[float]:
    """Weights of the text losses of a rank's passes in a step in which all ranks together have ``everyone``
    tokens: their mean over passes and ranks is then the mean over tokens."""
    if not everyone:
        return [1.0] * len(tokens)
    return [count * ranks * len(tokens) / everyone for count in tokens]
