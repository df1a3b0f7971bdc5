"""What a guidance grid may choose.

Belongs here: its numbers, as plain data. Not here: drawing it (`grid`).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

TEXT_SCALES = (1.0, 4.0, 7.5)
"""The paper's values of alpha_t."""

SPATIAL_SCALES = (1.0, 2.0, 3.0, 4.0)
"""The paper's values of alpha_s."""


@dataclass(frozen=True, kw_only=True)
class GuidanceGridConfig:
    """Scales, prompts and noise of a grid. Raises ValueError for values that cannot be used, naming the
    field."""

    benchmark: str = "geneval/scenes"
    """Whose prompts are drawn, and by whose rules pictures are judged."""

    text_scales: tuple[float, ...] = TEXT_SCALES
    """Values of alpha_t, left to right."""

    spatial_scales: tuple[float, ...] = SPATIAL_SCALES
    """Values of alpha_s, top to bottom."""

    reference_scale: float | None = None
    """alpha_r, the same everywhere: by what is kept of the picture to edit. None: the model's own."""

    prompts: int = 6
    """How many, taken in turn from the benchmark's tasks, the first ones of each."""

    seed: int = 20_250
    """Of the noise; each prompt has its own, which is the same at all scales."""

    num_inference_steps: int | None = None
    """Sampler steps; None: the recipe's, else the model's own."""

    batch_size: int = 50
    """Prompts planned or drawn in one call; changes no picture beyond rounding."""

    def __post_init__(self) -> None:
        for name in ("text_scales", "spatial_scales"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values) or not all(map(math.isfinite, values)):
                raise ValueError(
                    f"GuidanceGridConfig.{name} must be one or more unlike finite numbers, got {values}"
                )
        if self.reference_scale is not None and not math.isfinite(self.reference_scale):
            raise ValueError(f"GuidanceGridConfig.reference_scale must be finite, got {self.reference_scale}")
        for name in ("prompts", "batch_size", "num_inference_steps"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"GuidanceGridConfig.{name} must be at least 1, got {value}")
        if self.seed < 0:
            raise ValueError(f"GuidanceGridConfig.seed must be at least 0, got {self.seed}")

    @property
    def pairs(self) -> tuple[tuple[float, float], ...]:
        """All pairs of a text and a spatial scale, row after row."""
        return tuple((text, spatial) for spatial in self.spatial_scales for text in self.text_scales)

    def about(self) -> dict[str, Any]:
        """What the pictures of a pair depend on besides it: more scales are added to a grid that is there."""
        free = ("text_scales", "spatial_scales", "batch_size")
        return {name: value for name, value in asdict(self).items() if name not in free}
