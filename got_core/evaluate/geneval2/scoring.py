"""From probabilities of answers to Soft-TIFA: by prompt, by skill, by atomicity, each with its interval.

Belongs here: the formulas. Not here: asking (`server`), or which pictures there are (`layout`). All figures
are times 100, as published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

SCALE = 100.0

Values = Sequence[Sequence[float]]
"""Probabilities of each prompt's answers."""


def arithmetic_mean(values: Sequence[float]) -> float:
    """Soft-TIFA AM of a prompt, in [0, 1] (the published way may pass 1)."""
    return float(np.mean(values))


def geometric_mean(values: Sequence[float]) -> float:
    """Soft-TIFA GM of a prompt, in [0, 1]; 0 where any value is."""
    with np.errstate(divide="ignore"):
        return float(np.exp(np.mean(np.log(values))))


def mean_over_prompts(
    found: Values,
    highest: Values,
    of_prompt: Callable[[Sequence[float]], float],
    rng: np.random.Generator,
    bootstrap: int,
) -> dict[str, Any]:
    """The mean of a prompt figure, with a 95 % bootstrap interval over prompts.

    `cut`: the same from `found` alone, and with all that servers may have cut off.
    """
    figures = np.array([of_prompt(values) for values in found])
    most = np.array([of_prompt(values) for values in highest])
    return _figure(figures, np.ones(len(figures)), most, rng, bootstrap) | {"n": len(figures)}


def mean_over_questions(
    found: Values, highest: Values, rng: np.random.Generator, bootstrap: int
) -> dict[str, Any]:
    """The mean over all questions of some prompts, with a bootstrap over prompts, each with its questions."""
    sums = np.array([float(np.sum(values)) for values in found])
    counts = np.array([float(len(values)) for values in found])
    most = np.array([float(np.sum(values)) for values in highest])
    return _figure(sums, counts, most, rng, bootstrap) | {"n": int(counts.sum()), "prompts": len(found)}


def _figure(
    sums: np.ndarray, counts: np.ndarray, most: np.ndarray, rng: np.random.Generator, bootstrap: int
) -> dict[str, Any]:
    drawn = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=bootstrap)
    low, high = np.percentile((drawn @ sums) / (drawn @ counts), [2.5, 97.5])
    mean = SCALE * float(sums.sum() / counts.sum())
    return {
        "mean": mean,
        "low": SCALE * float(low),
        "high": SCALE * float(high),
        "cut": [mean, SCALE * float(most.sum() / counts.sum())],
    }


def empty_figure() -> Mapping[str, Any]:
    """A figure over nothing."""
    return {"mean": None, "low": None, "high": None, "cut": [None, None], "n": 0}
