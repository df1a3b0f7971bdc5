"""What the drawing network learns from of samples: latents of their pictures and canvases.

Belongs here: which pictures the autoencoder is given, and in what calls. Not here: which samples these are
(``batches``), and how pictures are decoded (``pictures``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from got_core.model.guidance import black_latents, encode, spatial_latents, to_tensor
from got_core.model.inpaint_mask import free_cells
from got_core.train.data.samples import TrainingSample


def pictures_encoded(samples: int, boxes: int, *, edit: bool, spatial_guidance: bool = True) -> list[int]:
    """How many pictures each call of the autoencoder takes in :func:`drawing_inputs`, for samples of so many
    boxes each."""
    calls = [samples, samples if edit else 1]
    return [*calls, samples * max(1, boxes)] if spatial_guidance else calls


@torch.no_grad()
def drawing_inputs(
    autoencoder: nn.Module,
    samples: Sequence[TrainingSample],
    device: torch.device | str = "cpu",
    spatial_guidance: bool = True,
) -> dict[str, Tensor]:
    """Latents ``clean``, ``spatial`` (Gs) and ``reference`` (Gr) of samples of one kind and size, each
    (B, C, h, w), unscaled; size numbers ``time_ids`` (B, 6); of edits also ``kept`` (B, 1, h, w), 1 in the
    cells that no box reaches. Gs is zero without ``spatial_guidance``."""
    height, width = samples[0].target.shape[:2]
    chains = [sample.chain for sample in samples]

    def encoded(pictures: Sequence[np.ndarray]) -> Tensor:
        return encode(autoencoder, to_tensor(np.stack(pictures)).to(device))

    inputs = {"clean": encoded([sample.target for sample in samples])}
    sources = [sample.source for sample in samples if sample.source is not None]
    if sources:
        inputs["reference"] = encoded(sources)
        cell = height // inputs["clean"].shape[-2]
        inputs["kept"] = (~free_cells(chains, height, width, cell)).to(inputs["clean"])
    else:
        inputs["reference"] = black_latents(autoencoder, len(samples), height, width)
    if spatial_guidance:
        inputs["spatial"] = spatial_latents(autoencoder, chains, height, width)
    else:
        inputs["spatial"] = torch.zeros_like(inputs["clean"])
    sizes = [sample.time_ids for sample in samples]
    return inputs | {"time_ids": torch.tensor(sizes, dtype=torch.float32, device=device)}
