"""Keeping what a plan does not touch: after every step a picture is put back outside of some boxes.

Of an edit it is the source, outside the plan's boxes; of a picture that is drawn again the one before,
outside the boxes in which the plans differ. A choice beside the paper, which draws everything anew: blended
latent diffusion (Avrahami et al., 2023) with boxes for a mask. Not here: the loop of steps (`denoising`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from got_core.chain.boxes import Box
from got_core.chain.grammar import Chain
from got_core.chain.layout import fill_region


@dataclass(frozen=True)
class KeptSource:
    """The pictures that stay in B drawings, and where."""

    latents: Tensor
    """Clean latents (B, C, h, w) as the U-Net knows them, that is with the scaling factor."""

    noise: Tensor
    """The noise that drawing begins with (B, C, h, w), of unit variance."""

    free: Tensor
    """Where pictures are drawn: bool (B, 1, h, w)."""

    @classmethod
    def of(cls, sources: Tensor, noise: Tensor, free: Tensor) -> KeptSource:
        """Of sources and masks, one a chain, where ``noise`` holds one or several pictures of each chain."""
        copies = len(noise) // len(sources)
        sources, free = (part.repeat_interleave(copies, dim=0) for part in (sources, free))
        return cls(sources.to(noise), noise, free.to(noise.device))

    def put_back(self, drawn: Tensor, scheduler: Any, step: int) -> Tensor:
        """The latents after step number ``step`` with the source, as noisy as they are, in its places."""
        source, later = self.latents, scheduler.timesteps[step + 1 : step + 2]
        if len(later):
            at = later.expand(len(source))
            if hasattr(scheduler, "scale_noise"):
                source = scheduler.scale_noise(source, at, self.noise)
            else:
                source = scheduler.add_noise(source, self.noise, at)
        return torch.where(self.free, drawn, source.to(drawn.dtype))


def free_cells(chains: Sequence[Chain], height: int, width: int, stride: int) -> Tensor:
    """The latent cells that a box of the chain reaches: bool (B, 1, height / stride, width / stride).

    All cells of a chain without a box are free: it does not say where the change is.
    """
    return cells_of([[placed.box for placed in chain.boxes] for chain in chains], height, width, stride)


def cells_of(boxes: Sequence[Sequence[Box]], height: int, width: int, stride: int) -> Tensor:
    """The latent cells that the boxes of each picture reach, as ``free_cells``; all where there are none.

    Boxes are taken a quarter of a cell larger all around, since few are exact to the pixel.
    """
    painted = torch.zeros(len(boxes), 1, height, width)
    for picture, own in zip(painted, boxes, strict=True):
        for box in own:
            rows, columns = (_grown(side, stride // 4) for side in fill_region(box, height, width))
            picture[:, rows, columns] = 1.0
        if not own:
            picture.fill_(1.0)
    return F.max_pool2d(painted, stride) > 0


def _grown(side: slice, by: int) -> slice:
    return slice(max(side.start - by, 0), side.stop + by)
