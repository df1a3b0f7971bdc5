"""From latents to pictures in the form that the caller wants.

Belongs here: decoding, output types, sizes of edited pictures, and finding pictures that failed. Not here:
the autoencoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor

from got_core.chain.grammar import Chain, Dropped
from got_core.model.finite import NotFiniteError, check_finite

if TYPE_CHECKING:
    from got_core.model.pipeline import GoTPipeline

Pictures: TypeAlias = list[Image.Image] | np.ndarray | Tensor
"""``pil``; ``np`` (B, H, W, 3) in [0, 1]; ``pt`` (B, 3, H, W) in [0, 1]; ``latent`` (B, C, h, w)."""


@dataclass
class GoTOutput(BaseOutput):
    """Pictures and the chains they were drawn from, one a picture."""

    images: Pictures
    chains: list[Chain]
    dropped: list[list[Dropped]]
    """What the language model wrote but no chain can hold, for each picture; nothing where all is well."""


def decode_latents(
    pipe: GoTPipeline, latents: Tensor, output_type: str, sizes: Sequence[tuple[int, int]] | None = None
) -> Pictures:
    """See ``GoTPipeline.decode``."""
    faults, images = check_finite(latents, "its latents hold"), latents
    if output_type != "latent":
        pixels = pipe.vae.decode(pipe.drawer.unscale(latents.to(pipe.vae.dtype), pipe.vae)).sample
        faults = check_finite(pixels, "its latents are decoded to") | faults
        for number in faults:
            pixels[number] = 0.0
        images = pipe.picture_processor.postprocess(pixels, output_type=output_type)
    if sizes is not None and output_type == "pil":
        images = [_resized(image, size) for image, size in zip(images, sizes, strict=True)]
    if faults:
        raise NotFiniteError(faults, [None if k in faults else one for k, one in enumerate(images)])
    return images


PREVIEW_CELLS = 32
"""Latent cells a side that a preview decodes at most: far less work than the step before it."""


def can_preview(pipe: GoTPipeline) -> bool:
    """Whether its autoencoder is where it is needed: one that is moved in for each call would move the
    network out."""
    return not hasattr(pipe.vae, "_hf_hook")


@torch.no_grad()
def preview(pipe: GoTPipeline, latents: Tensor) -> Image.Image:
    """What latents (C, h, w) between two steps look like, in small: noise first, the picture last. Of large
    ones the mean of neighbouring cells is decoded."""
    cells = latents[None].float()
    by = -(-max(cells.shape[-2:]) // PREVIEW_CELLS)
    if by > 1:
        cells = torch.nn.functional.avg_pool2d(cells, by, ceil_mode=True)
    pixels = pipe.vae.decode(pipe.drawer.unscale(cells.to(pipe.vae.dtype), pipe.vae)).sample
    (image,) = pipe.picture_processor.postprocess(torch.nan_to_num(pixels), output_type="pil")
    return image


def sizes_in_aspect(sources: Sequence[Image.Image], short: int) -> list[tuple[int, int]]:
    """Sizes in the sources' aspect, the short side as given (released inference code)."""
    scales = [short / min(source.size) for source in sources]
    return [(round(one.width * k), round(one.height * k)) for one, k in zip(sources, scales, strict=True)]


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)
