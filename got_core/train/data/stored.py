"""What the drawing network is given of samples whose latents are stored: the same as of pictures.

Belongs here: stored latents as tensors. Not here: reading them (``sources.latents``), encoding pictures
(``latents``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from got_core.model.inpaint_mask import free_cells
from got_core.train.data.samples import TrainingSample

_NAMES = ("clean", "reference", "spatial")


def stacked(samples: Sequence[TrainingSample]) -> dict[str, Tensor]:
    """Latents of samples of one kind and size in the numbers that they are stored in, (B, C, h, w) each.

    They are ``clean``, of edits ``reference``, and with spatial guidance ``spatial``; of edits there is also
    ``kept``, bool (B, 1, h, w), the cells that no box reaches. Empty where samples hold pictures.
    """
    stored = [sample.latents for sample in samples if sample.latents is not None]
    if not stored:
        return {}
    found = {}
    for name in _NAMES:
        arrays = [array for one in stored if (array := getattr(one, name)) is not None]
        if arrays:
            found[name] = torch.from_numpy(np.stack(arrays))
    if "reference" in found:
        height, width = stored[0].size
        cell = height // found["clean"].shape[-2]
        found["kept"] = ~free_cells([sample.chain for sample in samples], height, width, cell)
    return found


@torch.no_grad()
def stored_inputs(
    black: Callable[[int, int], Tensor],
    stored: dict[str, Tensor],
    time_ids: Sequence[Sequence[int]],
    device: torch.device | str = "cpu",
    spatial_guidance: bool = True,
) -> dict[str, Tensor]:
    """What ``latents.drawing_inputs`` gives of pictures, of what :func:`stacked` gave, in float32.

    ``black`` gives the latent (1, C, h, w) of a black picture of some height and width, which text to image
    has in place of a source.
    """
    inputs = {name: value.to(device, non_blocking=True).float() for name, value in stored.items()}
    if "reference" not in inputs:
        height, width = time_ids[0][4:]
        inputs["reference"] = black(height, width).float().expand(len(time_ids), -1, -1, -1)
    if "spatial" not in inputs or not spatial_guidance:
        inputs["spatial"] = torch.zeros_like(inputs["clean"])
    return inputs | {"time_ids": torch.tensor(time_ids, dtype=torch.float32, device=device)}
