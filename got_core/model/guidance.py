"""The semantic-spatial guidance module: its conditions and its three-scale formula.

Conditions (paper section 4.2): Gt, hidden states of the image tokens; Gs, the mean of the latents of one
canvas a box; Gr, the latent of the source image. Formula (paper section 4.3):

    e = e(0,0,0) + at [e(Gt,0,Gr) - e(0,0,Gr)] + as [e(Gt,Gs,Gr) - e(Gt,0,Gr)] + ar [e(0,0,Gr) - e(0,0,0)]

which is a weighted sum of four branches; a branch whose weight is zero is never computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from got_core.chain.grammar import Chain
from got_core.model.backbones.protocols import Drawer, Planner
from got_core.model.canvases import BLACK, canvases_of, different, painted
from got_core.model.config import GuidanceScales


@dataclass(frozen=True)
class Branch:
    """One evaluation of the drawing network: which conditions it sees, and its weight in the sum."""

    text: bool
    spatial: bool
    reference: bool
    weight: float


def branches(scales: GuidanceScales) -> list[Branch]:
    """The branches that the formula needs at these scales, without those that cancel.

    One branch where all scales are 1, three for text to image at the paper's scales, four for its edits.
    """
    text, spatial, reference = scales.text, scales.spatial, scales.reference
    candidates = (
        Branch(True, True, True, spatial),
        Branch(True, False, True, text - spatial),
        Branch(False, False, True, reference - text),
        Branch(False, False, False, 1.0 - reference),
    )
    return [branch for branch in candidates if branch.weight != 0.0]


def combine(outputs: Sequence[Tensor], used: Sequence[Branch]) -> Tensor:
    """Weighted sum of the branches' outputs, each (B, C, h, w)."""
    total = outputs[0] * used[0].weight
    for output, branch in zip(outputs[1:], used[1:], strict=True):
        total = total + output * branch.weight
    return total


class GuidanceProjector(ModelMixin, ConfigMixin):
    """Two linear maps from the planner's width: to the drawer's context and to its pooled vector.

    The layers' names follow the released state dict (``output_projector``, ``output_projector_add``).
    """

    @classmethod
    def between(cls, planner: Planner, drawer: Drawer) -> GuidanceProjector:
        """Fresh maps from a planner's width to those of a drawer's conditions."""
        return cls(planner.hidden_size, drawer.context_dim, drawer.pooled_dim)

    @register_to_config
    def __init__(self, hidden_size: int, cross_attention_dim: int, pooled_dim: int) -> None:
        super().__init__()
        self.output_projector = nn.Linear(hidden_size, cross_attention_dim)
        self.output_projector_add = nn.Linear(hidden_size, pooled_dim)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states (B, T, hidden) to context (B, T, cross) and pooled vector (B, pooled).

        The language model may compute in another precision: its states are cast to the projector's own.
        """
        hidden = hidden.to(self.output_projector.weight.dtype)
        return self.output_projector(hidden), self.output_projector_add(hidden).mean(dim=1)

    def null_context(self, batch: int, tokens: int) -> Tensor:
        """Null Gt: the first map applied to zeros, which is its bias. The pooled vector is never nulled."""
        return self.output_projector.bias.expand(batch, tokens, -1)


def encode(autoencoder: nn.Module, images: Tensor) -> Tensor:
    """Posterior mode of images (N, 3, H, W), not multiplied by the scaling factor (as conditions are)."""
    dtype = next(autoencoder.parameters()).dtype
    return autoencoder.encode(images.to(dtype)).latent_dist.mode()


def spatial_latents(autoencoder: nn.Module, chains: Sequence[Chain], height: int, width: int) -> Tensor:
    """Gs of each chain (B, C, h, w): the mean latent of its boxes' canvases, all encoded in one call,
    equal ones once.

    A chain without a box has one black canvas. A box's share shrinks as 1/N, as in the paper.
    """
    layers = [canvases_of(chain, height, width) or [BLACK] for chain in chains]
    canvases, numbers = different(layers)
    device = next(autoencoder.parameters()).device
    latents = encode(autoencoder, painted(canvases, height, width, device))
    return torch.stack([latents[own].mean(dim=0) for own in numbers])


def black_latents(autoencoder: nn.Module, batch: int, height: int, width: int) -> Tensor:
    """Gr of text to image (B, C, h, w): the latent of a black picture (null Gr is a zero latent)."""
    device = next(autoencoder.parameters()).device
    black = torch.full((1, 3, height, width), -1.0, device=device)
    return encode(autoencoder, black).expand(batch, -1, -1, -1)


def time_ids(batch: int, height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """SDXL's size numbers (B, 6): original height and width, crop corner (0, 0), target height and width."""
    row = torch.tensor([height, width, 0, 0, height, width], dtype=torch.float32, device=device)
    return row.expand(batch, -1)
