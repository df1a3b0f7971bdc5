"""Muon: momentum whose matrices are made orthogonal before they are applied (Jordan et al. 2024).

A small network learns from half as many samples with it as with Adam, at the price of some matrix products a
step. torch's own Muon takes two-dimensional weights alone; most of a U-Net's are convolutions.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration, which drives all singular values to between about 0.7 and 1.2."""

RMS = 0.2
"""Root mean square of an update before the rate: about that of Adam's, so both can have one rate (Liu et
al. 2025)."""


def hidden_matrices(module: nn.Module, outer_layers: Sequence[str]) -> list[Tensor]:
    """Weights that map hidden states to hidden states, convolutions included.

    ``outer_layers`` are parts of the names of all others: they read or write tokens, latents or a low rank.
    """
    return [
        p
        for name, p in module.named_parameters()
        if p.ndim > 1 and p.requires_grad and not any(part in name for part in outer_layers)
    ]


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices (B, m, n) of the same row and column spaces with singular values near 1.

    The iteration takes X to P(G) X, where G = X X^T and P(G) = a + b G + c G^2. All these P commute, so they
    are gathered at the size of G: of the products with X only the first and the last are left.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / x.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]
    a, b, c = COEFFICIENTS
    gram = x @ x.mT
    turn = a * torch.eye(gram.shape[-1]).to(gram).expand_as(gram)
    for k in range(ITERATIONS):
        rest = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        turn = torch.baddbmm(turn, rest, turn, beta=a) if k else turn + rest
        if k < ITERATIONS - 1:
            half = torch.baddbmm(gram, rest, gram, beta=a)
            gram = torch.baddbmm(half, half, rest, beta=a)
    x = turn @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay.

    Args:
        groups: dicts with ``params`` (each of two dimensions or more; those behind the first are one), ``lr``
            and ``weight_decay``.
        momentum: share of the old momentum that stays.
    """

    def __init__(self, groups: Iterable[dict[str, object]], momentum: float = 0.95) -> None:
        super().__init__(list(groups), {"lr": 1e-3, "weight_decay": 0.0, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient; weights of one shape go together."""
        for group in self.param_groups:
            shapes: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes[len(parameter), parameter[0].numel()].append(parameter)
            for shape, parameters in shapes.items():
                self._update(group, shape, parameters)

    def _update(self, group: dict, shape: tuple[int, int], parameters: list[Tensor]) -> None:
        gradients = [p.grad for p in parameters]
        moments = [self._momentum(p) for p in parameters]
        torch._foreach_lerp_(moments, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, moments, group["momentum"])
        updates = orthogonal(torch.stack([value.reshape(shape) for value in ahead]))
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        scale = group["lr"] * RMS * math.sqrt(max(shape))
        for parameter, update in zip(parameters, updates, strict=True):
            parameter.sub_(update.view_as(parameter), alpha=scale)

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        return state["momentum"]
