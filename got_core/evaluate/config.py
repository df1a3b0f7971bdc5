"""What a recipe may choose about a benchmark run.

Belongs here: the numbers of a run. Not here: the rules of a benchmark, which are fixed by its protocol.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Sizes, seeds and sampler of a `geneval/scenes` run; a sampler field left at None is the pipeline's
    own."""

    images_per_task: int = 100
    """Pictures drawn and judged for each of the six tasks."""

    batch_size: int = 50
    """Prompts planned and drawn in one call. Not part of the protocol."""

    seed: int = 20_250
    """Seed of the prompt list, and through it of every picture; also of the bootstrap."""

    bootstrap: int = 1000
    """Resamples behind each interval."""

    num_inference_steps: int | None = None
    """Sampler steps a picture."""

    text_scale: float | None = None
    """Guidance scale of the text branch (alpha_t)."""

    spatial_scale: float | None = None
    """Guidance scale of the layout branch (alpha_s)."""

    max_new_tokens: int | None = None
    """Longest chain the model may write, in tokens."""

    self_test: int = 60
    """Known scenes on which the detector is tried before a run; a run with a broken detector is refused."""

    grid_per_task: int = 6
    """Pictures of each task shown in the grid: the first ones, never chosen ones."""

    def __post_init__(self) -> None:
        for field in ("images_per_task", "batch_size", "bootstrap", "self_test", "grid_per_task"):
            if getattr(self, field) < 1:
                raise ValueError(f"EvaluateConfig.{field} must be at least 1, got {getattr(self, field)}")
