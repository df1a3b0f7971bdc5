"""Steps that taught nothing because a loss or the gradient held NaN or infinity.

Belongs here: which steps were skipped, on which worker it began, and when a training gives up. Not here: the
step itself (``trainer``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

SHOWN_STEPS = 3
"""Skipped steps that an error speaks of, the last ones."""


class NotFiniteStepsError(ArithmeticError):
    """So many steps in a row were skipped that going on would only cost time: the data or the weights are to
    blame. Training again from the same checkpoint comes to the same step."""


def not_finite(losses: Mapping[str, float]) -> list[str]:
    """Names of the losses that are NaN or infinite."""
    return sorted(name for name, value in losses.items() if not math.isfinite(value))


@dataclass
class SkippedSteps:
    """Steps that all workers have skipped together: equal on all of them but for ``notes``."""

    limit: int
    """That many in a row end the training."""
    steps: list[int] = field(default_factory=list)
    """Their numbers, from 1, in order."""
    notes: list[str] = field(default_factory=list)
    """What was wrong on this worker, of the last ones; not kept in checkpoints."""

    def add(self, step: int, note: str | None) -> None:
        """Count a skipped step. ``note``: what was not finite on this worker; None: nothing."""
        self.steps.append(step)
        if note is not None:
            self.notes = [*self.notes, note][-SHOWN_STEPS:]

    @property
    def in_a_row(self) -> int:
        """Length of the unbroken row that ends with the last skipped step."""
        last = len(self.steps) - 1
        return sum(1 for k, step in enumerate(self.steps) if self.steps[last] - step == last - k)

    def skipped(self, step: int) -> bool:
        """Whether a step is the last one that was skipped."""
        return bool(self.steps) and self.steps[-1] == step

    def error(self, notes: str) -> NotFiniteStepsError:
        """The error that ends a training; ``notes`` of all workers."""
        return NotFiniteStepsError(
            f"step {self.steps[-1]}: {self.in_a_row} steps in a row were skipped, because a loss or the "
            f"gradient was NaN or infinite ({notes or 'no loss, but the gradient of all workers together'}). "
            "Look at these samples' pictures and chains first. If they are fine, the weights are not: lower "
            "peak_rate or language_rate, raise warmup_steps, or set bf16 to False in the stage's recipe, "
            "which begins another training"
        )

    def text(self) -> str:
        """What a checkpoint keeps; :meth:`restore` reads it."""
        return json.dumps(self.steps)

    def restore(self, text: str | None) -> None:
        """Take over what :meth:`text` gave; None, of an older checkpoint: no step was skipped."""
        self.steps = [int(step) for step in json.loads(text or "[]")]
