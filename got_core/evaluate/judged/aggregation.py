"""From the judge's scores to a sample's value, and from values to figures with intervals.

Belongs here: the formulas, by the names that a definition uses. Not here: getting scores (`judging`).

| name | a sample's value, before the factor |
|---|---|
| `min` | the lowest of its scores |
| `mean` | their mean |
| `root_of_product` | the square root of the product of the lowest of each of two parts |
| `accuracy` | 1 where every score is the highest that there is, else 0 |
| `weighted` | the weighted mean of those that there are |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl

from got_core.evaluate.apart.figures import BOOTSTRAP, mean_of, resampled_sums
from got_core.evaluate.judged.shape import Definition, Scoring

Values = Mapping[str, float]


def _min(scores: Values, highest: Values, scoring: Scoring) -> float:
    return min(scores.values())


def _mean(scores: Values, highest: Values, scoring: Scoring) -> float:
    return math.fsum(scores.values()) / len(scores)


def _root_of_product(scores: Values, highest: Values, scoring: Scoring) -> float:
    one, other = (min(scores[name] for name in part) for part in scoring.parts)
    return math.sqrt(one * other)


def _accuracy(scores: Values, highest: Values, scoring: Scoring) -> float:
    return float(all(value == highest[name] for name, value in scores.items()))


def _weighted(scores: Values, highest: Values, scoring: Scoring) -> float:
    weights = {name: weight for name, weight in scoring.weights.items() if name in scores}
    return math.fsum(weights[name] * scores[name] for name in weights) / math.fsum(weights.values())


SAMPLE: dict[str, Callable[[Values, Values, Scoring], float]] = {
    "min": _min,
    "mean": _mean,
    "root_of_product": _root_of_product,
    "accuracy": _accuracy,
    "weighted": _weighted,
}
"""By the name that a definition uses."""


def sample_value(scoring: Scoring, scores: Values, highest: Values) -> float:
    """A sample's value. `scores`: those that it was given, by name; `highest`: what each could be at most.

    Raises KeyError for a score that the formula needs and that was not asked for, ZeroDivisionError for none.
    """
    return scoring.factor * SAMPLE[scoring.sample](scores, highest, scoring)


def figures(frame: pl.DataFrame, definition: Definition, seed: int) -> dict[str, Any]:
    """`overall` with `low` and `high`, and `tasks`, of the rows that have a value.

    `frame`: columns `task`, `cluster`, `value`. An overall score over tasks is None while one has no value.
    """
    there = frame.filter(pl.col("value").is_not_null())
    names = frame["task"].unique(maintain_order=True).to_list()
    tasks = {name: _task(frame.filter(pl.col("task") == name), seed) for name in names}
    if definition.scoring.overall == "tasks":
        return {**_mean_of_tasks(there, tasks, seed), "tasks": tasks}
    whole = mean_of(there, "value", cluster="cluster", seed=seed)
    return {"overall": whole["mean"], "low": whole["low"], "high": whole["high"], "tasks": tasks}


def _task(rows: pl.DataFrame, seed: int) -> dict[str, Any]:
    figure = mean_of(rows, "value", cluster="cluster", seed=seed)
    return {**figure, "of": f"{figure['n']} / {rows.height}", "partial": figure["n"] < rows.height}


def _mean_of_tasks(rows: pl.DataFrame, tasks: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The plain mean of the tasks' means; the interval over resampled sources, each with all its samples."""
    if not tasks or any(one["mean"] is None for one in tasks.values()):
        return {"overall": None, "low": None, "high": None}
    sums = rows.group_by("cluster", maintain_order=True).agg(
        *(pl.col("value").filter(pl.col("task") == name).sum().alias(f"sum {name}") for name in tasks),
        *((pl.col("task") == name).sum().alias(f"n {name}") for name in tasks),
    )
    drawn = resampled_sums(sums.drop("cluster").to_numpy().astype(np.float64), seed)
    totals, counts = drawn[:, : len(tasks)], drawn[:, len(tasks) :]
    whole = (counts > 0).all(axis=1)  # a draw that lacks a task has no mean of tasks
    means = (totals[whole] / counts[whole]).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5]) if len(means) else (None, None)
    return {
        "overall": float(np.mean([one["mean"] for one in tasks.values()])),
        "low": None if low is None else float(low),
        "high": None if high is None else float(high),
    }


def mean_scores(frame: pl.DataFrame, names: tuple[str, ...]) -> dict[str, Any]:
    """The mean of each score by itself, over the samples that were given it, with `n`."""
    pairs = frame.select("score_names", "scores").explode("score_names", "scores")
    means = pairs.drop_nulls().group_by("score_names").agg(pl.col("scores").mean(), pl.len().alias("n"))
    found = {name: {"mean": mean, "n": n} for name, mean, n in means.iter_rows()}
    return {name: found[name] for name in names if name in found}


def record(scoring: Scoring, seed: int) -> dict[str, Any]:
    """How scores are made, as a protocol has it."""
    return {
        "sample": scoring.sample,
        **({"parts": [list(one) for one in scoring.parts]} if scoring.parts else {}),
        **({"weights": dict(scoring.weights)} if scoring.weights else {}),
        "factor": scoring.factor,
        "overall": "plain mean of the tasks' means" if scoring.overall == "tasks" else "mean over samples",
        "interval": f"95 % percentile bootstrap over source pictures, {BOOTSTRAP} resamples",
        "seed": seed,
    }
