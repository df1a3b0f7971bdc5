"""Muon's orthogonal updates, gathered in Gram matrices, against the iteration as it is published.

Both work on random gradients of the hidden weights of `embedded-long`'s U-Net, on one thread, and take turns;
the median counts.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

from got_core.model.backbones.sdxl_unet import UNetDrawer
from got_core.model.build import build_unet
from got_core.recipes import embedded_long
from got_core.train.muon import COEFFICIENTS, ITERATIONS, hidden_matrices, orthogonal

TURNS = 15


def published(matrices: Tensor) -> Tensor:
    """The quintic iteration, step by step on the matrices themselves."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / x.flatten(1).norm(dim=1)[:, None, None]
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def main() -> dict[str, float | str]:
    """Seconds of each, their ratio, and the largest difference of an entry."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    matrices = hidden_matrices(build_unet(embedded_long().model), UNetDrawer.outer_layers)
    shapes = Counter((len(p), p[0].numel()) for p in matrices)
    gradients = [torch.randn(count, *shape) for shape, count in shapes.items()]
    ways: dict[str, Callable[[Tensor], Tensor]] = {"gathered": orthogonal, "published": published}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    updates: dict[str, list[Tensor]] = {}
    for _ in range(TURNS):
        for name, way in ways.items():
            started = time.perf_counter()
            updates[name] = [way(gradient) for gradient in gradients]
            seconds[name].append(time.perf_counter() - started)
    torch.set_num_threads(threads)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    apart = max(float((a - b).abs().max()) for a, b in zip(*updates.values(), strict=True))
    return {f"{name}_seconds": value for name, value in medians.items()} | {
        "published_to_gathered": medians["published"] / medians["gathered"],
        "largest_difference": apart,
    }
