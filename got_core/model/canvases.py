"""Canvases as tensors: rectangles that are filled on the device where they are encoded.

Belongs here: which different canvases some chains have, and their pixels. Not here: which pixels a box paints
(``chain.layout``), and what the autoencoder makes of them (``picture_encoder``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from got_core.chain.grammar import Chain
from got_core.chain.layout import fill_region
from got_core.chain.palette import rgb


def to_tensor(pixels: np.ndarray) -> Tensor:
    """(N, H, W, 3) bytes to (N, 3, H, W) in [-1, 1]."""
    return scaled(torch.from_numpy(np.ascontiguousarray(pixels)))


def scaled(pixels: Tensor) -> Tensor:
    """Bytes (N, H, W, 3) as (N, 3, H, W) in [-1, 1], on their device."""
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


@dataclass(frozen=True)
class Canvas:
    """One filled rectangle on black: the pixels from ``top`` and ``left`` to ``bottom`` and ``right``, both
    exclusive, in a colour of bytes."""

    top: int
    bottom: int
    left: int
    right: int
    color: tuple[int, int, int]


BLACK = Canvas(0, 0, 0, 0, (0, 0, 0))
"""The canvas of a chain without a box."""


def canvases_of(chain: Chain, height: int, width: int) -> list[Canvas]:
    """A canvas for each box of a chain, none for a chain without. Raises ValueError for a size below 1."""
    found = []
    for placed in chain.boxes:
        rows, columns = fill_region(placed.box, height, width)
        found.append(Canvas(rows.start, rows.stop, columns.start, columns.stop, rgb(placed.color)))
    return found


def different(layers: Sequence[Sequence[Canvas]]) -> tuple[list[Canvas], list[list[int]]]:
    """The canvases that occur, each once, and for each of several lists the numbers of its own."""
    numbers: dict[Canvas, int] = {}
    return [*dict.fromkeys(canvas for layer in layers for canvas in layer)], [
        [numbers.setdefault(canvas, len(numbers)) for canvas in layer] for layer in layers
    ]


def colors_of(canvases: Sequence[Canvas], device: torch.device | str) -> Tensor:
    """Their colours (N, 3) in [-1, 1]."""
    pixels = np.array([canvas.color for canvas in canvases], dtype=np.uint8).reshape(1, 1, -1, 3)
    return to_tensor(pixels)[0, :, 0].T.contiguous().to(device, non_blocking=True)


def painted(canvases: Sequence[Canvas], height: int, width: int, device: torch.device | str) -> Tensor:
    """Their pixels (N, 3, H, W) in [-1, 1]: those of ``chain.layout.canvases``."""
    pixels = torch.full((len(canvases), 3, height, width), -1.0, device=device)
    colors = colors_of(canvases, device)
    for picture, color, canvas in zip(pixels, colors, canvases, strict=True):
        region = picture[:, canvas.top : canvas.bottom, canvas.left : canvas.right]
        region.copy_(color[:, None, None].expand_as(region))
    return pixels
