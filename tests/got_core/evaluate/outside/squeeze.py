"""Random weights under the names of LPIPS's published ones."""

from __future__ import annotations

import math

import torch

from got_core.evaluate.outside.lpips import shapes


def random_squeeze(seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights that keep the scale of features from layer to layer; those of distances are not negative."""
    made = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in shapes().items():
        values = torch.randn(shape, generator=made)
        fan = math.prod(shape[1:]) or 1
        found[name] = (
            values.abs()
            if name.startswith("lin")
            else values * math.sqrt(2 / fan) / (1 + 9 * (len(shape) == 1))
        )
    return found
