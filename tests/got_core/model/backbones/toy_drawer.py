"""A drawer of another family than the U-Net: a small transformer over latent cells, trained by flow matching.

Everything about it differs from the U-Net that can: names of settings and layers, how it is called and what
it returns, the range of its times, the widths of its conditions, the scale of its latents.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from got_core.model.backbones.protocols import Drawer, DrawerConditions
from got_core.model.backbones.registry import DRAWERS


class ToyBlock(nn.Module):
    """Attention over cells and text together, then a small network; both turned by a vector."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.turn = nn.Linear(width, 2 * width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, cells: Tensor, words: Tensor, vector: Tensor) -> Tensor:
        """Cells (B, h * w, width) that have seen words (B, T, width)."""
        gain, shift = self.turn(vector)[:, None].chunk(2, dim=-1)
        turned = nn.functional.layer_norm(cells, cells.shape[-1:]) * (1 + gain) + shift
        keys = torch.cat([turned, words], dim=1)
        cells = cells + self.attention(turned, keys, keys, need_weights=False)[0]
        return cells + self.mlp(nn.functional.layer_norm(cells, cells.shape[-1:]))


class ToyTransformer(ModelMixin, ConfigMixin):
    """Velocity of latent cells. ``conditions``: how many times C channels stand beside the noisy ones."""

    _supports_gradient_checkpointing = True
    _no_split_modules = ["ToyBlock"]  # noqa: RUF012

    @register_to_config
    def __init__(
        self,
        cell_channels: int = 8,
        width: int = 48,
        depth: int = 2,
        heads: int = 2,
        text_width: int = 40,
        vector_width: int = 24,
        conditions: int = 0,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.read = nn.Linear(cell_channels * (1 + conditions), width)
        self.text = nn.Linear(text_width, width)
        self.vector = nn.Linear(vector_width + 1, width)
        self.blocks = nn.ModuleList(ToyBlock(width, heads) for _ in range(depth))
        self.write = nn.Linear(width, cell_channels)

    def forward(self, cells: Tensor, time: Tensor, *, text: Tensor, vector: Tensor) -> Tensor:
        """Velocity (B, C, h, w) of cells (B, C, h, w) at times (B,) from 0 to 1."""
        rows, columns = cells.shape[-2:]
        hidden = self.read(cells.flatten(2).mT) + _places(rows, columns, self.config.width).to(cells)
        turned = self.vector(torch.cat([vector, time[:, None]], dim=1))
        for block in self.blocks:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                hidden = self._gradient_checkpointing_func(block, hidden, self.text(text), turned)
            else:
                hidden = block(hidden, self.text(text), turned)
        return self.write(hidden).mT.unflatten(2, (rows, columns))


def _places(rows: int, columns: int, width: int) -> Tensor:
    """Sines of the places of all cells (1, rows * columns, width)."""
    waves = torch.arange(1, width // 4 + 1)
    down = torch.arange(rows)[:, None] / rows * waves * math.pi
    across = torch.arange(columns)[:, None] / columns * waves * math.pi
    parts = [down.sin()[:, None], down.cos()[:, None], across.sin()[None], across.cos()[None]]
    whole = [part.expand(rows, columns, -1) for part in parts]
    return torch.cat(whole, dim=-1).flatten(0, 1)[None]


class ToyDrawer(Drawer):
    """The adapter of a ``ToyTransformer``."""

    outer_layers = ("read", "text", "vector", "write")
    shift, factor = 0.25, 0.5

    def __init__(self, network: ToyTransformer) -> None:
        self.network = network

    @property
    def latent_channels(self) -> int:
        """Channels of a cell."""
        return self.network.config.cell_channels

    @property
    def context_dim(self) -> int:
        """Width of the text."""
        return self.network.config.text_width

    @property
    def pooled_dim(self) -> int:
        """Width of the vector."""
        return self.network.config.vector_width

    def widen_input(self) -> None:
        """Two further groups of channels, without weight."""
        old = self.network.read
        if self.network.config.conditions:
            return
        self.network.read = nn.Linear(3 * old.in_features, old.out_features)
        with torch.no_grad():
            self.network.read.weight.zero_()
            self.network.read.weight[:, : old.in_features] = old.weight
            self.network.read.bias.copy_(old.bias)
        self.network.register_to_config(conditions=2)

    def predict(self, latents: Tensor, timesteps: Tensor, conditions: DrawerConditions) -> Tensor:
        """Times run from 0 to 1, one a picture; the size numbers are not looked at."""
        if conditions.reference is not None and conditions.spatial is not None:
            latents = torch.cat([latents, conditions.reference, conditions.spatial], dim=1)
        times = (timesteps.to(latents) / 1000.0).expand(len(latents))
        return self.network(latents, times, text=conditions.context, vector=conditions.pooled)

    def scale(self, latents: Tensor, autoencoder: Any) -> Tensor:
        """With a shift."""
        return (latents - self.shift) * self.factor

    def unscale(self, latents: Tensor, autoencoder: Any) -> Tensor:
        """The inverse."""
        return latents / self.factor + self.shift


DRAWERS[ToyTransformer] = ToyDrawer
