"""Latents of pictures, of black and of canvases by a frozen autoencoder, with as little work as possible.

Belongs here: formats, calls and what is kept between them. Not here: in which format a stage encodes
(``train.data.latents``), and the conditions of one drawing (``conditioning``).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from got_core.chain.grammar import Chain
from got_core.model.canvas_encoder import encode_canvases, encodes_canvases
from got_core.model.canvases import canvases_of, different, painted
from got_core.model.guidance import encode

PIXELS_AT_ONCE = 4 << 20
"""Pixels of all pictures of one call: four pictures of 1024 x 1024."""
CPU_PIXELS_AT_ONCE = 1 << 16
"""The same on a processor: what its caches hold. A call of four pictures of 256 x 256 took twice as long as
four calls."""
CANVASES_TO_A_PICTURE = 8
"""Shortened canvases that need about as much memory as a picture."""
_DECODERS = ("decoder", "post_quant_conv", "refiner")


class PictureEncoder:
    """The encoding part of an autoencoder, whose weights no longer change.

    Latents are posterior modes, not scaled, in 32 bits. Black is encoded once for each size; of equal
    canvases one. On CUDA devices tensors lie channels last. Each call takes ``pixels_at_once`` pixels at
    most (on processors no more than CPU_PIXELS_AT_ONCE), but one picture at least; whether the autoencoder
    slices plays no part.

    Args:
        autoencoder: of diffusers' interface; it is not changed.
        dtype: what to encode in, from a copy of the weights; None: what they are in.
        pixels_at_once: fewer where memory is short.
    """

    def __init__(
        self,
        autoencoder: nn.Module,
        *,
        dtype: torch.dtype | None = None,
        pixels_at_once: int = PIXELS_AT_ONCE,
    ) -> None:
        parameter = next(autoencoder.parameters())
        self.device, self.dtype = parameter.device, dtype or parameter.dtype
        self._format = torch.channels_last if self.device.type == "cuda" else torch.contiguous_format
        most = CPU_PIXELS_AT_ONCE if self.device.type == "cpu" else pixels_at_once
        self._pixels_at_once = min(pixels_at_once, most)
        self._autoencoder = _encoding_part(autoencoder, self.dtype, self._format)
        self._black: dict[tuple[int, int], Tensor] = {}

    def parameters(self) -> Iterator[Tensor]:
        """The weights that encode."""
        return self._autoencoder.parameters()

    @torch.no_grad()
    def pictures(self, images: Tensor) -> Tensor:
        """Latents (N, C, h, w) of images (N, 3, H, W) in [-1, 1]."""
        images = images.to(self.device, self.dtype, memory_format=self._format)
        at_once = max(1, self._pixels_at_once // (images.shape[-2] * images.shape[-1]))
        return self._joined([encode(self._autoencoder, part) for part in images.split(at_once)])

    @torch.no_grad()
    def black(self, height: int, width: int) -> Tensor:
        """The latent (1, C, h, w) of a black picture."""
        if (height, width) not in self._black:
            black = torch.full((1, 3, height, width), -1.0, device=self.device)
            self._black[height, width] = self.pictures(black)
        return self._black[height, width]

    @torch.no_grad()
    def spatial(self, chains: Sequence[Chain], height: int, width: int) -> Tensor:
        """Gs of each chain (B, C, h, w): the mean latent of its boxes' canvases; black for one without."""
        canvases, numbers = different([canvases_of(chain, height, width) for chain in chains])
        at_once = max(1, CANVASES_TO_A_PICTURE * self._pixels_at_once // (height * width))
        parts = [canvases[start : start + at_once] for start in range(0, len(canvases), at_once)]
        if not encodes_canvases(self._autoencoder, height, width):
            found = [self.pictures(painted(part, height, width, self.device)) for part in parts]
        else:
            found = [encode_canvases(self._autoencoder, part, height, width) for part in parts]  # type: ignore[arg-type]
        black, latents = self.black(height, width), self._joined(found) if found else None
        return torch.stack(
            [black[0] if latents is None or not own else latents[own].mean(dim=0) for own in numbers]
        )

    def _joined(self, latents: Sequence[Tensor]) -> Tensor:
        return torch.cat([part.float() for part in latents]).contiguous()


def _encoding_part(autoencoder: Any, dtype: torch.dtype, memory_format: torch.memory_format) -> Any:
    """The autoencoder without what decodes; its own weights where neither format changes."""
    part = copy.copy(autoencoder)
    part._modules = {name: one for name, one in autoencoder._modules.items() if name not in _DECODERS}
    part.use_slicing = part.use_tiling = False
    if dtype == next(autoencoder.parameters()).dtype and memory_format == torch.contiguous_format:
        return part
    part._modules = copy.deepcopy(part._modules)
    return nn.Module.to(part, dtype=dtype, memory_format=memory_format).eval()
