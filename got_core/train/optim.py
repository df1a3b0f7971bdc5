"""What all training loops share: attention kernels, learning-rate schedule, parameter groups, averages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from transformers import PreTrainedModel

from got_core.train.parallel import local


def plain_attention(*models: PreTrainedModel | UNet2DConditionModel) -> None:
    """Train without fused attention: on CPUs the backward pass of its bf16 kernels is very slow."""
    for model in models:
        if isinstance(model, UNet2DConditionModel):
            model.set_attn_processor(AttnProcessor())
        else:
            model.set_attn_implementation("eager")


def fused_attention(*models: PreTrainedModel | UNet2DConditionModel) -> None:
    """Back to the kernels that a freshly loaded model uses."""
    for model in models:
        if isinstance(model, UNet2DConditionModel):
            model.set_default_attn_processor()
        else:
            model.set_attn_implementation("sdpa")


@cache
def computes_in_bf16(device_type: str) -> bool:
    """Whether a kind of device has bfloat16 arithmetic; a processor without it would emulate it, some sixty
    times slower than float32."""
    if device_type != "cpu":
        return True
    return any(here for name, here in torch.cpu.get_capabilities().items() if name.endswith("bf16"))


def mixed_precision(device_type: str, wanted: bool) -> torch.autocast:
    """Autocast to bfloat16 where it is wanted and the device computes in it; else float32 stays."""
    return torch.autocast(device_type, torch.bfloat16, enabled=wanted and computes_in_bf16(device_type))


def cosine_share(step: int, steps: int, warmup: int, final: float) -> float:
    """Share of the peak rate at a step: linear warm-up from 0, then cosine decay to ``final``."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def decayed_groups(parameters: Iterable[Tensor], rate: float, weight_decay: float) -> list[dict[str, object]]:
    """Two optimizer groups: matrices with weight decay, vectors (norms, biases) without."""
    trained = [p for p in parameters if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "lr": rate, "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "lr": rate, "weight_decay": 0.0},
    ]


def set_rates(optimizer: torch.optim.Optimizer, peaks: list[float], share: float) -> None:
    """Set every group's rate to its peak times the schedule's share."""
    for group, peak in zip(optimizer.param_groups, peaks, strict=True):
        group["lr"] = peak * share


class MovingAverage:
    """Exponential moving average of parameters, with the usual warm-up of the decay for early steps."""

    def __init__(self, parameters: Iterable[Tensor], decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.sources = [p for p in parameters if p.requires_grad]
        self.values = [p.detach().clone() for p in self.sources]

    @torch.no_grad()
    def update(self) -> None:
        """Move every average towards its parameter."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_([local(v) for v in self.values], [local(p) for p in self.sources], 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange averages and parameters; calling it twice restores both."""
        for value, source in zip(self.values, self.sources, strict=True):
            kept = source.detach().clone()
            source.copy_(value)
            value.copy_(kept)


Log = Callable[[str, int, dict[str, float]], None]
"""Called with the part's name, the step and its losses."""


@dataclass(frozen=True)
class Loop:
    """Optimizer, schedule and average of one part's training."""

    optimizer: torch.optim.Optimizer
    peaks: list[float]
    average: MovingAverage
    steps: int

    @classmethod
    def over(cls, parts: Iterable[tuple[list[Tensor], float]], steps: int, decay: float) -> Loop:
        """A loop over parts, each with its peak rate."""
        parts = list(parts)
        groups = [group for part, rate in parts for group in decayed_groups(part, rate, 0.01)]
        optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6, fused=True)
        peaks = [float(group["lr"]) for group in optimizer.param_groups]
        return cls(optimizer, peaks, MovingAverage([p for part, _ in parts for p in part], decay), steps)

    def step(self, step: int, loss: Tensor) -> None:
        """One optimizer step on a loss."""
        set_rates(self.optimizer, self.peaks, cosine_share(step, self.steps, 50, 0.05))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.average.sources, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update()
