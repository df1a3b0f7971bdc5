"""How far the parts of a foundation are, with the time that each has left.

Belongs here: words for the terminal. Not here: what is logged (``got_core.train.tracking``).
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from got_core.foundation.config import FoundationConfig
from got_core.train.tracking import Tracker


def steps_of(config: FoundationConfig) -> dict[str, int]:
    """Steps of each part of a foundation, by the name that it is logged under."""
    return {
        "vision tower": config.tower_steps,
        "vision": config.vision_steps,
        "objects": config.locate_steps,
        "reading": config.reading_steps,
        "captions" if not config.chains else "language model": config.language_steps,
        "autoencoder": config.refiner_steps,
        "U-Net": config.unet_steps,
    }


class PartProgress:
    """Logs losses of parts; says of each how many steps and, from the steps of this process, minutes are
    left."""

    def __init__(self, tracker: Tracker, steps: Mapping[str, int]) -> None:
        self._tracker, self._steps = tracker, steps
        self._begun: dict[str, tuple[int, float]] = {}

    def __call__(self, part: str, step: int, losses: dict[str, float]) -> None:
        """As ``Log``."""
        now, steps = time.monotonic(), self._steps.get(part)
        first, started = self._begun.setdefault(part, (step, now))
        note = ""
        if steps is not None and step > first:
            left = (now - started) / (step - first) * (steps - step)
            note = f"of {steps} steps, about {left / 60:.0f} min left"
        self._tracker.log(part, step, losses, note)
