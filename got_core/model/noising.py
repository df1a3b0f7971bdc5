"""Noise for training: latents made noisy at random times, and what a drawing network should answer to them.

Belongs here: the three kinds of answer (noise, velocity, clean latents). Not here: the loss around them
(`got`), and the noise levels of drawing (`schedule`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from got_core.model.config import LossConfig

SMALLEST_SIGMA = 0.05
"""Noise level below which the velocity is not divided by it: the quotient would be noise."""


Generators: TypeAlias = torch.Generator | Sequence[torch.Generator]
"""One random source for all samples of a batch, or one for each, as diffusers takes them."""


def draw_samples(
    count: int, generators: Generators, draw: Callable[[int, torch.Generator], Tensor]
) -> Tensor:
    """What ``draw`` gives for ``count`` samples, (count, ...): at once, or each from a source of its own.

    Raises ValueError where there are other than ``count`` sources.
    """
    if isinstance(generators, torch.Generator):
        return draw(count, generators)
    if len(generators) != count:
        raise ValueError(f"{len(generators)} generators for {count} samples; give one, or one for each")
    return torch.cat([draw(1, one) for one in generators])


@dataclass(frozen=True)
class Noised:
    """A noisy latent, the timestep it belongs to (0 to 1000) and what the drawing network should answer."""

    latents: Tensor
    timesteps: Tensor
    target: Tensor
    weight: Tensor
    """Weight of each sample's squared error, (B,)."""

    def loss(self, prediction: Tensor, share: Tensor | float = 1.0, places: Tensor | float = 1.0) -> Tensor:
        """Weighted mean squared error of what the network answered.

        ``share`` (B,) weights samples further, ``places`` (B, 1, h, w) what is where in them.
        """
        error = (prediction.float() - self.target.float()).pow(2) * places
        return (error.mean(dim=(1, 2, 3)) * self.weight * share).mean()


def add_noise(
    clean: Tensor, config: LossConfig, generator: Generators, ddpm: DDPMScheduler | None = None
) -> Noised:
    """Noise scaled latents (B, C, h, w) at random times.

    ``flow``: logit-normal times, straight path, target noise minus data. ``sample``: the same path and loss,
    but the answer is the clean latent, from which the velocity follows. ``epsilon``: uniform DDPM steps.
    """
    count, *shape = clean.shape

    def normal(*size: int) -> Tensor:
        return draw_samples(count, generator, lambda n, rng: torch.randn(n, *size, generator=rng))

    noise = normal(*shape)
    if config.noise_offset:
        noise = noise + config.noise_offset * normal(shape[0], 1, 1)
    noise = noise.to(clean)
    equal = torch.ones(count, device=clean.device)
    if config.prediction in ("flow", "sample"):
        sigma = torch.sigmoid(config.noise_mean + normal()).to(clean)
        mix = sigma[:, None, None, None]
        noisy = (1 - mix) * clean + mix * noise
        if config.prediction == "flow":
            return Noised(noisy, sigma * 1000.0, noise - clean, equal)
        return Noised(noisy, sigma * 1000.0, clean, sigma.clamp(min=config.smallest_weighted_sigma) ** -2)
    assert ddpm is not None
    last = ddpm.config.num_train_timesteps
    steps = draw_samples(count, generator, lambda n, rng: torch.randint(0, last, (n,), generator=rng))
    steps = steps.to(clean.device)
    return Noised(ddpm.add_noise(clean, noise, steps), steps, noise, equal)
