"""What ``AutoencoderKL`` makes of canvases, without computing the same rows and columns again and again.

A canvas is a rectangle on black: far from its edges, and from those of the picture, all rows are alike and so
are all columns, behind every layer. Of a run of them the middle is left out; means over places (group norm,
attention) count what is kept as often as it stands for. In exact arithmetic the latents are those of the
whole canvas; in floating point they differ in the last digits. At 1024 pixels that is a tenth of the
operations.

Belongs here: which rows and columns stay, and the encoder's layers over them. Not here: other autoencoders
(``picture_encoder`` gives them whole canvases).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import DownEncoderBlock2D
from torch import Tensor, nn
from torch.nn import functional as F

from got_core.model.canvases import Canvas, colors_of

RUNS = 3
"""Of rows that are alike in a canvas: before the rectangle, in it, behind it."""
MULTIPLE = 8
"""Kept rows and columns are a multiple of this, as matrix units like it, where there are as many."""


class Axis:
    """The rows, or the columns, of N canvases: how many are kept is the same for all.

    A run's clean part are the rows that no edge has reached yet through convolutions of 3 x 3.
    """

    def __init__(self, starts: Sequence[int], stops: Sequence[int], size: int, halvings: int) -> None:
        edges = np.array([[0, start, stop, size] for start, stop in zip(starts, stops, strict=True)])
        self.size, self._halvings = size, halvings
        self.kept = np.tile(np.arange(size), (len(edges), 1))
        """Places that are kept, (N, m), rising; each stands for those up to the next."""
        self._first, self._end = edges[:, :-1].copy(), edges[:, 1:].copy()
        self._unclean = 0.0
        """Upper bound of a canvas' rows that are not clean."""

    def shorten(self, convolutions: int) -> np.ndarray:
        """Keep what so many convolutions need. Returns the new places' numbers among the old, (N, m)."""
        self._first += convolutions
        self._end -= convolutions
        self._unclean += 2 * RUNS * convolutions
        before, self.kept = self.kept, self._needed()
        return places_in(before, self.kept)

    def halve(self) -> None:
        """Behind a convolution of 3 x 3 with stride 2 over each pair and what follows it."""
        self.size, self._halvings = self.size // 2, self._halvings - 1
        self.kept = self.kept[:, ::2] // 2
        self._first, self._end = -(-self._first // 2), (self._end - 1) // 2
        self._unclean = (self._unclean + 3 * RUNS) / 2

    def counts(self) -> np.ndarray:
        """How many rows each kept one stands for, (N, m)."""
        return np.diff(self.kept, append=self.size)

    def _needed(self) -> np.ndarray:
        # A clean row before a gap stands for it, and one behind it is its neighbour. Where pairs become one,
        # they stay pairs, and a whole clean pair is before the gap.
        pairs = self._halvings > 0
        least = math.ceil((self._unclean + (5 if pairs else 2) * RUNS) / MULTIPLE) * MULTIPLE
        spare = max(0, self.size - least)
        first, end = self._first + 1, self._end - 1
        if pairs:
            spare, first, end = spare // 2 * 2, (first + 2) // 2 * 2, end // 2 * 2
        stays = np.ones((len(self.kept), self.size), dtype=bool)
        left = np.full(len(stays), spare)
        for run in range(RUNS):
            gone = np.clip(end[:, run] - first[:, run], 0, left)
            left -= gone
            for row, start, count in zip(stays, first[:, run], gone, strict=True):
                row[start : start + count] = False
        return np.nonzero(stays)[1].reshape(len(stays), -1)


def places_in(kept: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """For each wanted place the number of the kept one that it is or that stands for it: (N, m) each."""
    return (kept[:, None, :] <= wanted[:, :, None]).sum(-1) - 1


def _is_all(index: np.ndarray, size: int) -> bool:
    return index.shape[1] == size and bool((index == np.arange(size)).all())


def encodes_canvases(autoencoder: nn.Module, height: int, width: int) -> bool:
    """Whether :func:`encode_canvases` knows an autoencoder's layers, for pictures of a size."""
    if not isinstance(autoencoder, AutoencoderKL) or autoencoder.use_tiling:
        return False
    encoder = autoencoder.encoder
    stride = 2 ** _halvings(encoder)
    parts = [*encoder.mid_block.resnets, *(r for block in encoder.down_blocks for r in block.resnets)]
    return (
        height % stride == width % stride == 0
        and all(type(block) is DownEncoderBlock2D for block in encoder.down_blocks)
        and all(type(part) is ResnetBlock2D and part.time_embedding_norm == "default" for part in parts)
        and all(one is None or _is_plain(one) for one in encoder.mid_block.attentions)
    )


def _halvings(encoder: Any) -> int:
    return sum(len(block.downsamplers or ()) for block in encoder.down_blocks)


def _is_plain(attention: Attention) -> bool:
    return attention.spatial_norm is None and attention.norm_q is None and attention.norm_k is None


def encode_canvases(
    autoencoder: AutoencoderKL, canvases: Sequence[Canvas], height: int, width: int
) -> Tensor:
    """Posterior modes of canvases (N, C, h, w), not scaled, in the format of the autoencoder's weights."""
    encoder, parameter = autoencoder.encoder, next(autoencoder.encoder.parameters())
    rows, columns = (
        Axis([c.top for c in canvases], [c.bottom for c in canvases], height, _halvings(encoder)),
        Axis([c.left for c in canvases], [c.right for c in canvases], width, _halvings(encoder)),
    )
    layers = _Shortened(canvases, rows, columns, parameter.device, parameter.dtype)
    layers.shorten(1)
    layers.x = encoder.conv_in(layers.x)
    for block in encoder.down_blocks:
        for resnet in block.resnets:
            layers.resnet(resnet)
        for downsampler in block.downsamplers or ():
            layers.downsample(downsampler)
    layers.middle(encoder.mid_block)
    layers.shorten(1)
    layers.x = encoder.conv_out(encoder.conv_act(layers.normalised(encoder.conv_norm_out)))
    latents = layers.x if autoencoder.quant_conv is None else autoencoder.quant_conv(layers.x)
    return layers.whole(latents.chunk(2, dim=1)[0])


class _Shortened:
    """Activations ``x`` (N, C, m, m') of kept rows and columns."""

    def __init__(
        self, canvases: Sequence[Canvas], rows: Axis, columns: Axis, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.rows, self.columns = rows, columns
        self._device = device
        self._canvases: Sequence[Canvas] | None = canvases
        self.x = torch.empty(0, device=device, dtype=dtype)
        self._share = self.x
        """Share of the canvas that each place stands for, (N, 1, m, m'), in 32 bits at least."""

    def shorten(self, convolutions: int) -> None:
        """Keep what so many convolutions of 3 x 3 need."""
        index = self.rows.shorten(convolutions), self.columns.shorten(convolutions)
        if self._canvases is not None:
            self.x, self._canvases = self._painted(self._canvases), None
        else:
            self.x = self._picked(self.x, *index)
        self._weigh()

    def resnet(self, block: ResnetBlock2D) -> None:
        """One residual block."""
        self.shorten(2)
        before = self.x
        self.x = block.conv1(block.nonlinearity(self.normalised(block.norm1)))
        self.x = block.conv2(block.dropout(block.nonlinearity(self.normalised(block.norm2))))
        if block.conv_shortcut is not None:
            before = block.conv_shortcut(before)
        self.x = (before + self.x) / block.output_scale_factor

    def downsample(self, block: nn.Module) -> None:
        """Half of the rows and columns."""
        self.x = block(self.x)
        self.rows.halve()
        self.columns.halve()
        self._weigh()

    def middle(self, block: Any) -> None:
        """The block of the smallest size, with attention between its residual blocks."""
        self.resnet(block.resnets[0])
        for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
            if attention is not None:
                self.x = self._attended(attention)
            self.resnet(resnet)

    def normalised(self, norm: nn.GroupNorm) -> Tensor:
        """Group norm with the means of whole canvases."""
        x = self.x.to(self._share.dtype)
        centred = x - self._means(x, norm.num_groups)
        variance = self._means(centred.square(), norm.num_groups)
        assert norm.weight is not None and norm.bias is not None
        gain = norm.weight[:, None, None] * torch.rsqrt(variance + norm.eps)
        return torch.addcmul(norm.bias[:, None, None].to(gain), centred, gain).to(self.x.dtype)

    def _means(self, x: Tensor, groups: int) -> Tensor:
        """Of each group of channels over whole canvases, as (N, C, 1, 1)."""
        # As a matrix product: a sum of products would be written out first.
        channels = torch.einsum("nchw,nhw->nc", x, self._share[:, 0])
        means = channels.unflatten(1, (groups, -1)).mean(dim=2, keepdim=True)
        return means.expand(-1, -1, x.shape[1] // groups).flatten(1)[:, :, None, None]

    def whole(self, latents: Tensor) -> Tensor:
        """Latents of kept places as those of whole canvases."""
        index = [
            places_in(axis.kept, np.tile(np.arange(axis.size), (len(axis.kept), 1)))
            for axis in (self.rows, self.columns)
        ]
        return self._picked(latents, *index)

    def _attended(self, attention: Any) -> Tensor:
        inner = attention.group_norm is not None
        hidden = (self.normalised(attention.group_norm) if inner else self.x).flatten(2).transpose(1, 2)
        projections = (attention.to_q, attention.to_k, attention.to_v)
        # In 32 bits: 16 hold no logarithm of a count.
        query, key, value = (
            layer(hidden).to(self._share.dtype).unflatten(2, (attention.heads, -1)).transpose(1, 2)
            for layer in projections
        )
        bias = self._share.log().flatten(1)[:, None, None]
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        found = found.transpose(1, 2).flatten(2)
        found = attention.to_out[1](attention.to_out[0](found.to(hidden.dtype)))
        found = found.transpose(1, 2).unflatten(2, self.x.shape[2:])
        if attention.residual_connection:
            found = found + self.x
        return found / attention.rescale_output_factor

    def _painted(self, canvases: Sequence[Canvas]) -> Tensor:
        sides = [
            (self.rows, [c.top for c in canvases], [c.bottom for c in canvases]),
            (self.columns, [c.left for c in canvases], [c.right for c in canvases]),
        ]
        rows, columns = (
            self._moved((axis.kept >= np.array(a)[:, None]) & (axis.kept < np.array(b)[:, None]))
            for axis, a, b in sides
        )
        inside = (rows[:, None, :, None] & columns[:, None, None, :]).to(self.x.device)
        colors = colors_of(canvases, self._device)[:, :, None, None]
        return torch.where(inside, colors, -1.0).to(self.x.dtype)

    def _picked(self, x: Tensor, rows: np.ndarray, columns: np.ndarray) -> Tensor:
        if _is_all(rows, x.shape[2]) and _is_all(columns, x.shape[3]):
            return x
        numbers = torch.arange(len(x), device=self._device)[:, None, None]
        index = self._moved(rows)[:, :, None], self._moved(columns)[:, None, :]
        return x.permute(0, 2, 3, 1)[numbers, index[0], index[1]].permute(0, 3, 1, 2)

    def _weigh(self) -> None:
        wide = torch.promote_types(self.x.dtype, torch.float32)
        shares = [self._moved(axis.counts() / axis.size).to(wide) for axis in (self.rows, self.columns)]
        self._share = shares[0][:, None, :, None] * shares[1][:, None, None, :]

    def _moved(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self._device, non_blocking=True)
