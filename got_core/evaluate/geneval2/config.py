"""What a GenEval 2 run may choose, as plain data. Its judge is configured as all judges are."""

from __future__ import annotations

from dataclasses import dataclass

from got_core.digests import execution
from got_core.evaluate.judges.config import MOST_LOGPROBS, JudgeConfig

__all__ = ["MOST_LOGPROBS", "GenEval2Config", "JudgeConfig"]


@dataclass(frozen=True, kw_only=True)
class GenEval2Config:
    """Sizes and seeds of a run."""

    seed: int = 42
    """Of all pictures that the pipeline draws; each has a generator of its own."""

    bootstrap: int = 1000
    """Resamples behind each interval."""

    batch_size: int = execution(8)
    """Pictures that are drawn in one call."""

    def __post_init__(self) -> None:
        for name in ("bootstrap", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"GenEval2Config.{name} must be at least 1, got {getattr(self, name)}")
