"""The three conditions of a drawing, from chains, prompts and source images.

Belongs here: Gt, Gs and Gr of a batch at inference (specification, section 3). Not here: how each is made
(`guidance`), and what training does with them (`got`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from got_core.chain.grammar import Chain
from got_core.model.canvases import to_tensor
from got_core.model.frames import fitted, shown_to_planner
from got_core.model.guidance import black_latents, encode, spatial_latents
from got_core.model.memory import onload

if TYPE_CHECKING:
    from got_core.model.pipeline import GoTPipeline


@dataclass(frozen=True)
class Conditions:
    """What the drawing network reads besides the noisy latents, for B pictures."""

    context: Tensor
    null: Tensor
    """Gt of the branches without text, as large as ``context``."""
    pooled: Tensor
    spatial: Tensor
    reference: Tensor

    def repeated(self, times: int) -> Conditions:
        """Each picture's conditions several times in a row."""
        return Conditions(*(part.repeat_interleave(times, dim=0) for part in vars(self).values()))

    @classmethod
    def joined(cls, several: Sequence[Conditions]) -> Conditions:
        """Those of several batches as one."""
        return cls(
            *(torch.cat(parts) for parts in zip(*(vars(one).values() for one in several), strict=True))
        )


def semantic_conditions(
    pipe: GoTPipeline,
    chains: Sequence[Chain],
    prompts: Sequence[str],
    sources: Sequence[Image.Image] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gt of prompts and their chains: context (B, T, width), its null, and the pooled vector (B, pooled)."""
    sequences = pipe.sequences
    heads = [sequences.prompt(text, has_image=sources is not None) for text in prompts]
    samples = [sequences.drawing(head, chain.to_model()) for head, chain in zip(heads, chains, strict=True)]
    pictures = shown_to_planner(pipe.config, sources)
    batch = {k: v.to(pipe._execution_device) for k, v in sequences.collate(samples, pictures).items()}
    onload(pipe.mllm)
    hidden = pipe.planner.hidden_states(batch)[:, sequences.image_span(training=False)]
    hidden = hidden.to(pipe.projector.dtype)
    context, pooled = pipe.projector(hidden)
    # Null Gt, once for all steps: where models are offloaded the projector is gone while pictures are drawn.
    null, _ = pipe.projector(torch.zeros_like(hidden))
    return context, null, pooled


def reference_condition(
    pipe: GoTPipeline, sources: Sequence[Image.Image] | None, batch: int, height: int, width: int
) -> Tensor:
    """Gr (B, C, h, w): the sources stretched to the output size, as in training, or black."""
    if sources is None:
        return black_latents(pipe.vae, batch, height, width)
    return picture_latents(pipe, sources, (height, width))


def picture_latents(pipe: GoTPipeline, pictures: Sequence[Image.Image], size: tuple[int, int]) -> Tensor:
    """Pictures stretched to a height and width, (B, C, h, w), without the scaling factor."""
    onload(pipe.vae)
    pixels = to_tensor(np.stack([np.asarray(fitted(picture, size)) for picture in pictures]))
    return encode(pipe.vae, pixels.to(pipe._execution_device))


def encode_conditions(
    pipe: GoTPipeline,
    chains: Sequence[Chain],
    prompts: Sequence[str],
    sources: Sequence[Image.Image] | None,
    size: tuple[int, int],
) -> Conditions:
    """All conditions of a batch of chains, for pictures of a height and width."""
    context, null, pooled = semantic_conditions(pipe, chains, prompts, sources)
    onload(pipe.vae)
    reference = reference_condition(pipe, sources, len(chains), *size)
    if pipe.config.spatial_guidance:
        spatial = spatial_latents(pipe.vae, chains, *size)
    else:
        spatial = torch.zeros_like(reference)
    return Conditions(context, null, pooled, spatial, reference)
