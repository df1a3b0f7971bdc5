"""What the drawing network learns from of samples: latents of their pictures and canvases.

Belongs here: which pictures are encoded for a batch, and in which format. Not here: which samples these are
(``batches``), how pictures are decoded (``pictures``), and how the autoencoder is called
(``model.picture_encoder``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from got_core.model.canvases import to_tensor
from got_core.model.inpaint_mask import free_cells
from got_core.model.picture_encoder import PIXELS_AT_ONCE, PictureEncoder
from got_core.train.config import StageConfig
from got_core.train.data.samples import TrainingSample
from got_core.train.optim import computes_in_bf16

TEST_SIDE = 64
"""Pixels of a side of the picture that shows whether an autoencoder bears 16 bits."""


def stage_encoder(autoencoder: nn.Module, config: StageConfig) -> PictureEncoder:
    """The encoder of a stage, for an autoencoder that is on its device.

    It computes in bfloat16 where the stage does, but not where the autoencoder's configuration says that it
    overflows in 16 bits (``force_upcast``), or a test picture's latents are not finite. Where the stage saves
    memory, a call takes a quarter of the pixels.
    """
    pixels = PIXELS_AT_ONCE // 4 if config.gradient_checkpointing else PIXELS_AT_ONCE
    wide = PictureEncoder(autoencoder, dtype=torch.float32, pixels_at_once=pixels)
    if not (config.bf16 and computes_in_bf16(wide.device.type)) or _overflows(autoencoder):
        return wide
    half = PictureEncoder(autoencoder, dtype=torch.bfloat16, pixels_at_once=pixels)
    return half if wide.device.type == "meta" or _is_finite(half) else wide


def _overflows(autoencoder: nn.Module) -> bool:
    return bool(getattr(autoencoder, "config", {}).get("force_upcast"))


def _is_finite(encoder: PictureEncoder) -> bool:
    """Whether a picture of every brightness and of noise has finite latents."""
    picture = torch.rand(3, TEST_SIDE, TEST_SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    picture[:, : TEST_SIDE // 2] = torch.linspace(-1, 1, TEST_SIDE)
    return bool(encoder.pictures(picture[None]).isfinite().all())


@torch.no_grad()
def drawing_inputs(
    encoder: PictureEncoder | nn.Module,
    samples: Sequence[TrainingSample],
    device: torch.device | str = "cpu",
    spatial_guidance: bool = True,
) -> dict[str, Tensor]:
    """Latents ``clean``, ``spatial`` (Gs) and ``reference`` (Gr) of samples of one kind and size, each
    (B, C, h, w), unscaled; size numbers ``time_ids`` (B, 6); of edits also ``kept`` (B, 1, h, w), 1 in the
    cells that no box reaches. Gs is zero without ``spatial_guidance``.

    An autoencoder may stand for its encoder, which then keeps nothing for the next call.
    """
    if isinstance(encoder, nn.Module):
        encoder = PictureEncoder(encoder)
    height, width = samples[0].target.shape[:2]
    chains = [sample.chain for sample in samples]
    sources = [sample.source for sample in samples if sample.source is not None]
    pixels = np.stack([*(sample.target for sample in samples), *sources])
    clean, *reference = encoder.pictures(to_tensor(pixels).to(device)).split(len(samples))
    inputs = {"clean": clean}
    if sources:
        (inputs["reference"],) = reference
        cell = height // clean.shape[-2]
        inputs["kept"] = (~free_cells(chains, height, width, cell)).to(clean)
    else:
        inputs["reference"] = encoder.black(height, width).expand(len(samples), -1, -1, -1)
    if spatial_guidance:
        inputs["spatial"] = encoder.spatial(chains, height, width)
    else:
        inputs["spatial"] = torch.zeros_like(clean)
    sizes = [sample.time_ids for sample in samples]
    return inputs | {"time_ids": torch.tensor(sizes, dtype=torch.float32, device=device)}
