"""For how long is kept what nothing names any more.

Belongs here: ages. Not here: what names things (`roots`).
"""

from __future__ import annotations

from dataclasses import dataclass

DAY = 86_400.0
UNFINISHED_DAYS = 1.0
"""Of temporary files, probes, and tars or latents that no index names. Not a setting: shorter, and a writer
under way would lose its file."""


@dataclass(frozen=True, kw_only=True)
class KeepConfig:
    """Days since the last change of a thing, at least 0; infinity keeps it for good."""

    models: float = 30.0
    """Models, manifests and stored latents that nothing names."""

    benchmarks: float = 30.0
    """Pictures of benchmarks and of ablation runs that nothing names."""

    checkpoints: float = 7.0
    """Checkpoints of finished trainings but the last, and Ray's notes of trainings that have ended."""

    failures: float = 90.0
    """Records of failed runs."""

    def __post_init__(self) -> None:
        for name, days in vars(self).items():
            if not days >= 0:
                raise ValueError(f"KeepConfig.{name} = {days} must be a number of days, 0 or more")
