"""What a GenEval run may choose.

Belongs here: numbers of a run. Not here: the numbers in the rules (`planning.geneval.GenEvalRules`).
"""

from __future__ import annotations

from dataclasses import dataclass

from got_core.digests import execution


@dataclass(frozen=True, kw_only=True)
class GenEvalConfig:
    """Sizes and seeds of a run."""

    images_per_prompt: int = 4
    """Pictures drawn and judged for each prompt; the published benchmark takes 4."""

    seed: int = 42
    """Of all pictures that the pipeline draws; each has a generator of its own."""

    bootstrap: int = 1000
    """Resamples behind each interval."""

    batch_size: int = execution(8)
    """Pictures that are drawn in one call; a detector has its own."""

    def __post_init__(self) -> None:
        for name in ("images_per_prompt", "bootstrap", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"GenEvalConfig.{name} must be at least 1, got {getattr(self, name)}")
