"""The joint model of training: planner, projector, drawer and autoencoder behind one forward pass.

Loss (paper section 4.4): token cross-entropy plus diffusion mean squared error, end to end; the diffusion
gradient reaches the language model through Gt.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import torch
from diffusers import AutoencoderKL, DDPMScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from got_core.model.autoencoder import PatchAutoencoder
from got_core.model.backbones.protocols import Drawer, DrawerConditions
from got_core.model.backbones.registry import drawer_of, planner_of
from got_core.model.config import LossConfig
from got_core.model.guidance import GuidanceProjector, time_ids
from got_core.model.noising import Generators, draw_samples
from got_core.model.sequence import IGNORED

if TYPE_CHECKING:
    from got_core.model.pipeline import GoTPipeline


def text_loss(model: nn.Module, hidden: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the labelled positions; logits are computed for those alone."""
    targets = labels[:, 1:]
    chosen = targets != IGNORED
    logits = planner_of(model).logits(hidden[:, :-1][chosen])
    return F.cross_entropy(logits.float(), targets[chosen])


REFERENCE_DROPPED = 3
"""Number of dropped conditions of a sample that has lost Gr too (see `drop_conditions`)."""


def count_dropped(samples: int, share: float, generator: Generators) -> Tensor:
    """How many conditions a sample goes without, int (B,): 1, 2 or 3, each for ``share`` of them, else 0."""
    draw = draw_samples(samples, generator, lambda n, rng: torch.rand(n, 1, generator=rng))
    return (draw < share * torch.tensor([1, 2, 3])).sum(dim=1)


def drop_conditions(
    context: Tensor, spatial: Tensor, reference: Tensor, null: Tensor, dropped: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Conditions with the first ``dropped`` (B,) of Gs, Gt and Gr left out: (Gt, 0, Gr), (0, 0, Gr),
    (0, 0, 0), which are the branches of the guidance formula (specification, section 4)."""
    dropped = dropped.to(context.device)
    context = torch.where((dropped > 1)[:, None, None], null.to(context.dtype), context)
    spatial = torch.where((dropped > 0)[:, None, None, None], torch.zeros_like(spatial), spatial)
    unseen = (dropped >= REFERENCE_DROPPED)[:, None, None, None]
    reference = torch.where(unseen, torch.zeros_like(reference), reference)
    return context, spatial, reference


def weight_of_places(kept: Tensor, dropped: Tensor, config: LossConfig) -> Tensor:
    """Weights (B, 1, h, w) for ``Noised.loss``: ``kept_weight`` where an edit keeps its source, else 1.

    ``kept`` is 1 there and 0 elsewhere; a sample whose Gr is ``dropped`` (B,) cannot know what to keep.
    """
    shown = (dropped < REFERENCE_DROPPED).to(kept)[:, None, None, None]
    return 1.0 + (config.kept_weight - 1.0) * kept * shown


def conditioned_loss(
    drawer: Drawer,
    guidance: tuple[Tensor, Tensor],
    null: Tensor,
    inputs: dict[str, Tensor],
    config: LossConfig,
    generator: Generators,
    ddpm: DDPMScheduler | None = None,
) -> Tensor:
    """Weighted mean squared error of a drawer, some of whose samples go without conditions.

    ``guidance`` is context (B, T, width), ``null`` where it is dropped, and the pooled vector; ``inputs`` as
    ``GoTModel.forward`` takes them, with scaled ``clean``.
    """
    (context, pooled), clean = guidance, inputs["clean"]
    dropped = count_dropped(len(clean), config.drop, generator)
    context, spatial, reference = drop_conditions(
        context, inputs["spatial"], inputs["reference"], null, dropped
    )
    noised = drawer.noised(clean, config, generator, ddpm)
    conditions = DrawerConditions(
        context=context, pooled=pooled, sizes=inputs["time_ids"], reference=reference, spatial=spatial
    )
    prediction = drawer.predict(noised.latents, noised.timesteps, conditions)
    share = torch.where(dropped > 0, config.dropped_weight, 1.0).to(clean)
    places = weight_of_places(inputs["kept"], dropped, config) if "kept" in inputs else 1.0
    return noised.loss(prediction, share, places)


class Losses(Protocol):
    """What a stage minimises (see ``got_core.train.objective``)."""

    def losses(self, model: GoTModel, batch: dict[str, Any], rng: Generators) -> dict[str, Tensor]:
        """Scalars by name; ``loss`` carries the gradient."""
        ...


class GoTModel(nn.Module):
    """All trained parts of GoT. ``forward`` gives the losses of one batch under the stage's objective."""

    def __init__(
        self,
        mllm: nn.Module,
        projector: GuidanceProjector,
        unet: nn.Module,
        vae: PatchAutoencoder | AutoencoderKL,
        loss: LossConfig,
        ddpm: DDPMScheduler | None = None,
        *,
        image_span: slice,
        objective: Losses,
    ) -> None:
        super().__init__()
        if loss.prediction == "epsilon" and getattr(ddpm, "config", {}).get("prediction_type") != "epsilon":
            raise ValueError(
                "the loss predicts epsilon, but the model's scheduler does not: give it a DDPMScheduler with "
                "prediction_type epsilon, or the loss another prediction"
            )
        self.mllm = mllm
        self.projector = projector
        self.unet = unet
        self.vae = vae.requires_grad_(False)
        self.loss = loss
        self.ddpm = ddpm
        self.image_span = image_span
        self.objective = objective

    @classmethod
    def of(cls, pipeline: GoTPipeline, loss: LossConfig, objective: Losses) -> GoTModel:
        """The model of a pipeline's parts, sharing their memory."""
        parts = (pipeline.mllm, pipeline.projector, pipeline.unet, pipeline.vae)
        span = pipeline.sequences.image_span(training=True)
        return cls(*parts, loss, pipeline.scheduler, image_span=span, objective=objective)

    def forward(self, batch: dict[str, Any], rng: Generators) -> dict[str, Tensor]:
        """Losses of a batch by name (see ``got_core.train.objective``)."""
        return self.objective.losses(self, {"text_share": 1.0, **batch}, rng)

    def read(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """What the language model makes of a batch: its text loss, a scalar, and Gt (B, T, hidden).

        ``batch`` holds the language model's inputs and labels. Rows beyond :meth:`learning_rows` carry no
        gradient and no text loss, which is 0 where there are none.
        """
        learning = self.learning_rows(batch)
        # One row is run with its gradient at least, for workers wait for each other's.
        first = max(1, learning)
        planner = planner_of(self.mllm)
        hidden = planner.hidden_states(planner.rows(batch, slice(first)))
        text = text_loss(self.mllm, hidden, batch["labels"][:first])
        guidance = hidden[:, self.image_span]
        if not learning:
            text, guidance = 0.0 * text, guidance.detach()
        if first < len(batch["labels"]):
            with torch.no_grad():
                others = planner.hidden_states(planner.rows(batch, slice(first, None)))
            guidance = torch.cat([guidance, others[:, self.image_span]])
        return text, guidance

    def learning_rows(self, batch: dict[str, Any]) -> int:
        """How many of a batch's rows the language model learns from: the first ``learning`` ones, or the
        loss's share of them where the batch does not say."""
        if "learning" in batch:
            return int(batch["learning"])
        return max(1, round(len(batch["labels"]) * self.loss.language_share))

    def diffusion_loss(self, guidance: Tensor, batch: dict[str, Tensor], generator: Generators) -> Tensor:
        """Mean squared error of the drawing network's prediction, given Gt (B, T, hidden).

        ``batch`` holds the latents ``clean`` (unscaled), ``spatial`` and ``reference``, each (B, C, h, w);
        ``kept`` (B, 1, h, w), 1 where an edit leaves its source as it is, needed for a ``kept_weight``;
        ``time_ids`` (B, 6) unless all are whole pictures. ``generator`` is one for all samples or one for
        each, whose noise then does not depend on the batch that it is in.
        """
        context, pooled = self.projector(guidance)
        clean = batch["clean"]
        height, width = (side * latent_stride(self.vae) for side in clean.shape[-2:])
        sizes = batch.get("time_ids", time_ids(len(clean), height, width, clean.device))
        null = self.projector.null_context(len(context), context.shape[1])
        drawer = drawer_of(self.unet)
        inputs = {**batch, "clean": drawer.scale(clean, self.vae), "time_ids": sizes}
        return conditioned_loss(drawer, (context, pooled), null, inputs, self.loss, generator, self.ddpm)


def latent_stride(vae: PatchAutoencoder | AutoencoderKL) -> int:
    """Pixels that a latent cell covers, per axis."""
    if "patch_size" in vae.config:
        return int(vae.config["patch_size"])
    return int(math.pow(2, len(vae.config["block_out_channels"]) - 1))
