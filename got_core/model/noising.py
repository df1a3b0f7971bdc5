"""Noise for training: latents made noisy at random times, and what a drawing network should answer to them.

Belongs here: the three kinds of answer (noise, velocity, clean latents). Not here: the loss around them
(`got`), and the noise levels of drawing (`schedule`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from got_core.model.config import LossConfig

SMALLEST_SIGMA = 0.05
"""Noise level below which the velocity is not divided by it: the quotient would be noise."""


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
    clean: Tensor, config: LossConfig, generator: torch.Generator, ddpm: DDPMScheduler | None = None
) -> Noised:
    """Noise scaled latents (B, C, h, w) at random times.

    ``flow``: logit-normal times, straight path, target noise minus data. ``sample``: the same path and loss,
    but the answer is the clean latent, from which the velocity follows. ``epsilon``: uniform DDPM steps.
    """
    noise = torch.randn(clean.shape, generator=generator)
    if config.noise_offset:
        noise = noise + config.noise_offset * torch.randn(*clean.shape[:2], 1, 1, generator=generator)
    noise = noise.to(clean)
    equal = torch.ones(len(clean), device=clean.device)
    if config.prediction in ("flow", "sample"):
        logits = config.noise_mean + torch.randn(len(clean), generator=generator)
        sigma = torch.sigmoid(logits).to(clean)
        mix = sigma[:, None, None, None]
        noisy = (1 - mix) * clean + mix * noise
        if config.prediction == "flow":
            return Noised(noisy, sigma * 1000.0, noise - clean, equal)
        return Noised(noisy, sigma * 1000.0, clean, sigma.clamp(min=config.smallest_weighted_sigma) ** -2)
    assert ddpm is not None
    steps = torch.randint(0, ddpm.config.num_train_timesteps, (len(clean),), generator=generator)
    steps = steps.to(clean.device)
    return Noised(ddpm.add_noise(clean, noise, steps), steps, noise, equal)
