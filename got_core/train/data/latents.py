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

from got_core.chain.grammar import Chain
from got_core.model.canvases import scaled
from got_core.model.got import REFERENCE_DROPPED
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


def drawing_inputs(
    encoder: PictureEncoder | nn.Module,
    samples: Sequence[TrainingSample],
    device: torch.device | str = "cpu",
    spatial_guidance: bool = True,
) -> dict[str, Tensor]:
    """See :func:`picture_inputs`, of samples of one kind and size with all their conditions."""
    sources = [sample.source for sample in samples if sample.source is not None]
    return picture_inputs(
        encoder,
        torch.from_numpy(np.stack([sample.target for sample in samples])),
        torch.from_numpy(np.stack(sources)) if sources else None,
        chains=[sample.chain for sample in samples],
        time_ids=[sample.time_ids for sample in samples],
        device=device,
        spatial_guidance=spatial_guidance,
    )


@torch.no_grad()
def picture_inputs(
    encoder: PictureEncoder | nn.Module,
    targets: Tensor,
    sources: Tensor | None,
    *,
    chains: Sequence[Chain],
    time_ids: Sequence[Sequence[int]],
    device: torch.device | str = "cpu",
    spatial_guidance: bool = True,
    dropped: Sequence[int] | None = None,
) -> dict[str, Tensor]:
    """Latents ``clean``, ``spatial`` (Gs) and ``reference`` (Gr) of samples of one kind and size, each
    (B, C, h, w), unscaled; size numbers ``time_ids`` (B, 6); of edits also ``kept`` (B, 1, h, w), 1 in the
    cells that no box reaches. Gs is zero without ``spatial_guidance``.

    An autoencoder may stand for its encoder, which then keeps nothing for the next call.

    Args:
        encoder: of pictures and canvases.
        targets: uint8 (B, H, W, 3); pinned ones are copied to the device without waiting.
        sources: of edits, alike.
        chains: one a sample.
        time_ids: one a sample.
        device: of the encoder.
        spatial_guidance: whether the model has Gs.
        dropped: how many conditions each sample goes without (see ``got.count_dropped``); those are not
            encoded: Gs, and Gr of an edit, are zero, which is what ``got.drop_conditions`` makes of them.
            Text to image has the latent of black for Gr all the same, which costs nothing. What is encoded
            may differ in the last digits, as in any call with another number of pictures.
    """
    if isinstance(encoder, nn.Module):
        encoder = PictureEncoder(encoder)
    height, width = targets.shape[1:3]
    numbers = [*enumerate(dropped or [0] * len(targets))]
    shown = [k for k, count in numbers if count < REFERENCE_DROPPED] if sources is not None else []
    guided = [k for k, count in numbers if not count] if spatial_guidance else []
    pixels = targets.to(device, non_blocking=True)
    if sources is not None:
        moved = sources.to(device, non_blocking=True)
        pixels = torch.cat([pixels, *(moved[k : k + 1] for k in shown)])
    clean, reference = encoder.pictures(scaled(pixels)).split([len(targets), len(shown)])
    inputs = {"clean": clean}
    if sources is not None:
        inputs["reference"] = _placed(reference, shown, clean)
        inputs["kept"] = (~free_cells(chains, height, width, height // clean.shape[-2])).to(clean)
    else:
        inputs["reference"] = encoder.black(height, width).expand(len(targets), -1, -1, -1)
    spatial = encoder.spatial([chains[k] for k in guided], height, width) if guided else clean[:0]
    inputs["spatial"] = _placed(spatial, guided, clean)
    return inputs | {"time_ids": torch.tensor(time_ids, dtype=torch.float32, device=device)}


def _placed(latents: Tensor, numbers: Sequence[int], like: Tensor) -> Tensor:
    """Latents as those of samples with these numbers; zeros for the others."""
    if len(numbers) == len(like):
        return latents
    found = torch.zeros_like(like)
    for number, latent in zip(numbers, latents, strict=True):
        found[number] = latent
    return found
