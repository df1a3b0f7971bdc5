"""What all training loops share: precision, learning-rate schedule, parameter groups, averages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from got_core.train.config import StageConfig
from got_core.train.muon import Muon
from got_core.train.parallel import local


@cache
def computes_in_bf16(device_type: str) -> bool:
    """Whether bfloat16 is faster than float32 on a kind of device: of processors, on those with matrix tiles.

    Those that only have its vector instructions were a third slower than with float32, and those without any
    emulate it, some sixty times slower.
    """
    if device_type != "cpu":
        return True
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def mixed_precision(device_type: str, wanted: bool) -> torch.autocast:
    """Autocast to bfloat16 where it is wanted and the device computes in it; else float32 stays."""
    return torch.autocast(device_type, torch.bfloat16, enabled=wanted and computes_in_bf16(device_type))


def frozen_format(config: StageConfig, device_type: str) -> torch.dtype:
    """In which format a device keeps weights that a stage does not train."""
    rounded = config.frozen_bf16 and config.bf16 and computes_in_bf16(device_type)
    return torch.bfloat16 if rounded else torch.float32


def allow_fast_matmul(device_type: str) -> None:
    """Let GPUs multiply float32 matrices in TensorFloat-32, for the whole process."""
    if device_type == "cuda":
        torch.set_float32_matmul_precision("high")


def fused_backward_is_slow(device_type: str, bf16: bool) -> bool:
    """Whether a training should do without fused attention: its bf16 backward pass is very slow on CPUs."""
    return device_type == "cpu" and bf16 and computes_in_bf16(device_type)


def cosine_share(step: int, steps: int, warmup: int, final: float) -> float:
    """Share of the peak rate at a step: linear warm-up from 0, then cosine decay to ``final``."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def decayed_groups(
    parameters: Iterable[Tensor], rate: float, weight_decay: float, undecayed: Iterable[Tensor] = ()
) -> list[dict[str, object]]:
    """Two optimizer groups: matrices with weight decay; vectors (norms, biases) and ``undecayed`` without.

    The paper gives one weight decay and does not say for which parameters: the split is a choice of ours.
    """
    spared = {id(p) for p in undecayed}
    trained = [p for p in parameters if p.requires_grad]
    decays = [p.ndim > 1 and id(p) not in spared for p in trained]
    return [
        {
            "params": [p for p, chosen in zip(trained, decays, strict=True) if chosen == wanted],
            "lr": rate,
            "weight_decay": weight_decay if wanted else 0.0,
        }
        for wanted in (True, False)
    ]


def count_moments(parameters: Iterable[Tensor], orthogonal: Iterable[Tensor] = ()) -> int:
    """Numbers that :class:`Optimizers` keeps of trained parameters between steps.

    AdamW keeps two of each weight; Muon, which takes those of ``orthogonal``, one.
    """
    return 2 * sum(p.numel() for p in parameters if p.requires_grad) - sum(p.numel() for p in orthogonal)


class Optimizers:
    """AdamW, and Muon for the parameters that are given to it, as one optimizer.

    Args:
        parts: parameters and their peak rate.
        weight_decay: of matrices; vectors have none.
        betas, epsilon: of AdamW.
        orthogonal: parameters of the parts that Muon takes.
        undecayed: matrices without weight decay; Muon takes none of them.
    """

    def __init__(
        self,
        parts: Iterable[tuple[Iterable[Tensor], float]],
        *,
        weight_decay: float,
        betas: tuple[float, float] = (0.9, 0.98),
        epsilon: float = 1e-6,
        orthogonal: Iterable[Tensor] = (),
        undecayed: Iterable[Tensor] = (),
    ) -> None:
        spared = list(undecayed)
        chosen = {id(p) for p in orthogonal}
        turned: list[dict[str, object]] = []
        plain: list[dict[str, object]] = []
        for part, rate in parts:
            parameters = [p for p in part if p.requires_grad]
            matrices = [p for p in parameters if id(p) in chosen]
            turned += [{"params": matrices, "lr": rate, "weight_decay": weight_decay}] if matrices else []
            others = [p for p in parameters if id(p) not in chosen]
            plain += decayed_groups(others, rate, weight_decay, spared)
        self._each: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(plain, betas=betas, eps=epsilon, fused=True),
            *([Muon(turned)] if turned else []),
        ]
        self._groups = [group for one in self._each for group in one.param_groups]
        self._peaks = [float(group["lr"]) for group in self._groups]
        self._owner = {p: one for one in self._each for group in one.param_groups for p in group["params"]}

    def step(self, share: float) -> None:
        """One step at a share of the peak rates."""
        for group, peak in zip(self._groups, self._peaks, strict=True):
            group["lr"] = peak * share
        for one in self._each:
            one.step()

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for one in self._each:
            one.zero_grad(set_to_none=True)

    def state(self, parameter: Tensor) -> dict[str, Tensor]:
        """What is kept of a parameter between steps, by name; nothing before its first step."""
        return self._owner[parameter].state.get(parameter, {})

    def restore(self, parameter: Tensor, state: dict[str, Tensor]) -> None:
        """Put back what :meth:`state` gave."""
        self._owner[parameter].state[parameter] = state


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

    optimizer: Optimizers
    average: MovingAverage
    steps: int

    @classmethod
    def over(
        cls,
        parts: Iterable[tuple[list[Tensor], float]],
        steps: int,
        decay: float,
        orthogonal: Iterable[Tensor] = (),
    ) -> Loop:
        """A loop over parts, each with its peak rate; Muon takes ``orthogonal``, AdamW the rest."""
        parts = list(parts)
        optimizer = Optimizers(parts, weight_decay=0.01, orthogonal=orthogonal)
        return cls(optimizer, MovingAverage([p for part, _ in parts for p in part], decay), steps)

    def step(self, step: int, loss: Tensor) -> None:
        """One optimizer step on a loss."""
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.average.sources, 1.0)
        self.optimizer.step(cosine_share(step, self.steps, 50, 0.05))
        self.optimizer.zero_grad()
        self.average.update()
