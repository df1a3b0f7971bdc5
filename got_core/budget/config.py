"""Assumptions of a training plan, as plain data (no torch here). What is trained is said by the recipe."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """One GPU, and what an hour of it costs."""

    name: str = "A100 80GB"
    memory_gb: float = 80.0
    """In units of 10^9 bytes."""
    peak_tflops: float = 312.0
    """Dense bfloat16 operations a second, 10^12; a multiplication and an addition are two."""
    utilisation: float = 0.35
    """Share of the peak that training reaches. Recomputed operations count as work done."""
    price_per_hour: float = 2.0
    """In any currency."""
    overhead_gb: float = 4.0
    """Memory for the driver, communication buffers and what fragmentation loses."""

    def __post_init__(self) -> None:
        if not 0 < self.utilisation <= 1:
            raise ValueError(f"Accelerator.utilisation is a share in (0, 1], got {self.utilisation}")
        if min(self.memory_gb, self.peak_tflops) <= 0:
            raise ValueError("Accelerator.memory_gb and peak_tflops must be positive")


@dataclass(frozen=True, kw_only=True)
class BudgetConfig:
    """The GPU, and how long an average sample is (the paper's averages: 130 and 860 characters, 4 boxes)."""

    gpu: Accelerator = Accelerator()
    prompt_tokens: int = 30
    """Tokens of a prompt, without the template around it."""
    chain_tokens: int = 300
    """Tokens of a chain; no more than the recipe's ``max_new_tokens`` are taken."""
    boxes: int = 4
    """Boxes of a chain, each a canvas to encode."""
