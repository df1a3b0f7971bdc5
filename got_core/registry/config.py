"""What a recipe may choose about promotion.

Belongs here: the numbers of the rule. Not here: the rule (`rule`), and how scores are made
(`got_core.evaluate`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class PromotionConfig:
    """When a challenger replaces the champion.

    Raises:
        ValueError: a value outside its range, naming the field.
    """

    primary: str = "geneval/scenes/overall"
    """The score that has to be better: `<benchmark>/overall` or `<benchmark>/<task>`, as MLflow's metrics are
    named. Better means higher; whether it is more than chance is not tested."""

    margins: Mapping[str, float] = field(default_factory=dict)
    """By how much a benchmark's overall score may be lower, by benchmark. Where none is given: from the
    champion's score to the lower end of its own 95 % interval, at least `least_margin`. What no benchmark of
    that size can tell apart blocks nobody then, and a larger benchmark is stricter by itself."""

    least_margin: float = 0.01
    """Smallest margin that is taken from an interval, which has no width where all samples agree; a share of
    the scale, which ends at 1, for GenEval 2 at 100. A task of figures may be lower by that share of itself,
    whatever the test says: where nearly all lose a thousandth they block nobody. Verdicts (0 or 1) have no
    such margin."""

    alpha: float = 0.05
    """Chance that any task of a model equal to the champion counts as worse, over all tasks together (Holm).
    """

    def __post_init__(self) -> None:
        if not self.primary.rpartition("/")[0]:
            raise ValueError(
                f"PromotionConfig.primary is <benchmark>/overall or <benchmark>/<task>, got {self.primary!r}"
            )
        limits = {f"margins[{name!r}]": (value, _range(name)) for name, value in self.margins.items()}
        for name, (value, most) in {**limits, "least_margin": (self.least_margin, 1)}.items():
            if not (math.isfinite(value) and 0 <= value <= most):
                raise ValueError(f"PromotionConfig.{name} must lie in 0..{most}, got {value}")
        if not 0 < self.alpha < 1:
            raise ValueError(f"PromotionConfig.alpha must lie between 0 and 1, got {self.alpha}")


def _range(benchmark: str) -> int:
    """The highest score of a benchmark; those of GenEval 2 are times 100."""
    return 100 if benchmark.partition("/")[0] == "geneval2" else 1
