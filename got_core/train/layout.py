"""How the samples of a step are spread over draws, workers and passes (no torch here, so recipes load fast).

Belongs here: which samples a worker takes in which pass, by number. Not here: which rows of the manifest they
are (``data.batches``), and how many workers there are (``ray.workers``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Pass:
    """One forward and backward pass of one worker."""

    draw: int
    """Number of its draw from the mixture, counted from the first step on."""
    indices: range
    """Numbers of its samples, counted from the first step on."""


@dataclass(frozen=True, kw_only=True)
class StepLayout:
    """A step of ``samples`` samples: ``draws`` draws from the mixture, each shared evenly by all workers.

    A worker takes its share of a draw in as few passes of one size as ``largest_batch`` allows. Raises
    ValueError where something does not divide evenly; the message names what would.
    """

    samples: int
    """The global batch."""
    draws: int = 1
    workers: int = 1
    largest_batch: int = 1
    """Most samples that a worker takes in one pass."""

    def __post_init__(self) -> None:
        if self.samples % self.draws:
            raise ValueError(
                f"global_batch {self.samples} is not a multiple of draws_per_step {self.draws}; change one "
                "of the two"
            )
        if self.workers not in self.possible_workers:
            raise ValueError(
                f"{self.workers} workers cannot share the {self.samples_per_draw} samples of a draw evenly "
                f"(global_batch {self.samples} / draws_per_step {self.draws}); possible are "
                f"{', '.join(map(str, self.possible_workers))} workers"
            )

    @property
    def samples_per_draw(self) -> int:
        """Samples of one draw, over all workers."""
        return self.samples // self.draws

    @property
    def possible_workers(self) -> list[int]:
        """All numbers of workers that share a draw evenly."""
        return [n for n in range(1, self.samples_per_draw + 1) if self.samples_per_draw % n == 0]

    @property
    def batch_size(self) -> int:
        """Samples of a pass."""
        share = self.samples_per_draw // self.workers
        return max(n for n in range(1, min(share, self.largest_batch) + 1) if share % n == 0)

    @property
    def accumulation(self) -> int:
        """Passes of a worker an optimizer step."""
        return self.samples // (self.workers * self.batch_size)

    def passes(self, step: int, rank: int) -> list[Pass]:
        """The passes of a worker in a step: of each draw, a contiguous part of its samples."""
        share, size = self.samples_per_draw // self.workers, self.batch_size
        found = []
        for draw in range(step * self.draws, (step + 1) * self.draws):
            first = draw * self.samples_per_draw + rank * share
            found += [Pass(draw, range(start, start + size)) for start in range(first, first + share, size)]
        return found


def learns(position: int, share: float) -> bool:
    """Whether a sample is among the ``share`` of a draw, evenly spaced from its first one on, by its position
    in the draw."""
    # Rounded, for a third of 3 may come out above 1.
    before, after = (math.ceil(round(k * share, 9)) for k in (position, position + 1))
    return after > before
