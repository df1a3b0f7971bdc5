"""By how much one set of outcomes is better than another, sample by sample: with plans and without them, a
model and its base.

    gain = paired_difference(with_plans, without_plans)
    gain["overall"]  # mean, low, high, n, of

Belongs here: differences over the samples that both have, with intervals. Not here: which scores may stand
side by side (`comparison`), or outcomes (each benchmark makes its own).

Both models draw for the same prompts, easy and hard ones, so the difference has a smaller interval than
either score.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from got_core.evaluate.apart.figures import resampled_sums
from got_core.evaluate.scores import IncompleteRunError

TASKS, SAMPLES = "mean of tasks", "mean of samples"
"""How a benchmark's overall score is made; else it is the figure of the task that is named."""


def paired_difference(
    left: pl.DataFrame,
    right: pl.DataFrame,
    *,
    overall: str | None = TASKS,
    partial: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """The left outcomes minus the right ones, over the samples that both have.

    Outcomes have the columns `sample_id`, `task`, `cluster`, and `value` or `correct`, null without one.
    `overall`: TASKS, SAMPLES, the name of the task that stands for the whole, or None where none does.
    Returns `overall` (None where none was asked for) and `tasks` by name, each with `mean`, 95 % interval
    `low` to `high` over resampled clusters, `n` pairs `of` samples. Raises IncompleteRunError, which names
    samples, where one has no outcome on one side, unless `partial`; ValueError for samples that stand there
    twice and for an unknown task.
    """
    pairs = _pairs(left, right)
    lacking = pairs.filter(pl.col("gain").is_null())
    if lacking.height and not partial:
        some = ", ".join(lacking["sample_id"].head(5))
        raise IncompleteRunError(
            f"{lacking.height} of {pairs.height} samples have no outcome on both sides ({some}): judge the "
            "rest, or ask for a partial comparison"
        )
    names = pairs["task"].unique(maintain_order=True).to_list()
    parts = {name: pairs.filter(pl.col("task") == name) for name in names}
    draws = {name: _resampled(part, seed + k) for k, (name, part) in enumerate(parts.items())}
    tasks = {name: _figure(part, draws[name]) for name, part in parts.items()}
    return {"overall": _overall(overall, pairs, tasks, draws, seed), "tasks": tasks}


def _pairs(left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
    """sample_id, task, cluster, gain: of all samples of either side, null where one has no outcome."""
    one, other = _measured(left), _measured(right)
    joined = one.join(other, on=["sample_id", "task"], how="full", coalesce=True, maintain_order="left")
    return joined.select(
        "sample_id",
        "task",
        pl.coalesce("cluster", "cluster_right").alias("cluster"),
        (pl.col("measure") - pl.col("measure_right")).alias("gain"),
    )


def _measured(outcomes: pl.DataFrame) -> pl.DataFrame:
    there = [pl.col(name).cast(pl.Float64) for name in ("value", "correct") if name in outcomes.columns]
    frame = outcomes.select("sample_id", "task", "cluster", pl.coalesce(there).alias("measure"))
    if repeated := frame.select("sample_id", "task").is_duplicated().sum():
        raise ValueError(f"{repeated} outcomes are of a sample and task that stand there twice")
    return frame


def _resampled(pairs: pl.DataFrame, seed: int) -> np.ndarray:
    """Means of the gain over resampled clusters; empty where there is none."""
    there = pairs.filter(pl.col("gain").is_not_null())
    if there.is_empty():
        return np.empty(0)
    sums = there.group_by("cluster", maintain_order=True).agg(pl.col("gain").sum(), pl.len().alias("n"))
    drawn = resampled_sums(sums.select("gain", "n").to_numpy().astype(np.float64), seed)
    return drawn[:, 0] / drawn[:, 1]


def _figure(pairs: pl.DataFrame, draws: np.ndarray) -> dict[str, Any]:
    return {
        "mean": pairs["gain"].mean(),
        **_interval(draws),
        "n": pairs.height - pairs["gain"].null_count(),
        "of": pairs.height,
    }


def _interval(draws: np.ndarray) -> dict[str, float | None]:
    low, high = np.percentile(draws, [2.5, 97.5]) if draws.size else (None, None)
    return {"low": None if low is None else float(low), "high": None if high is None else float(high)}


def _overall(
    overall: str | None,
    pairs: pl.DataFrame,
    tasks: Mapping[str, Mapping[str, Any]],
    draws: Mapping[str, np.ndarray],
    seed: int,
) -> dict[str, Any] | None:
    if overall is None:
        return None
    if overall == SAMPLES:
        return _figure(pairs, _resampled(pairs, seed))
    if overall != TASKS:
        if overall not in tasks:
            raise ValueError(f"there is no task {overall!r} among {', '.join(tasks)}")
        return dict(tasks[overall])
    whole = all(one["n"] for one in tasks.values()) and tasks
    return {
        "mean": float(np.mean([one["mean"] for one in tasks.values()])) if whole else None,
        **_interval(np.mean(list(draws.values()), axis=0) if whole else np.empty(0)),
        "n": sum(one["n"] for one in tasks.values()),
        "of": pairs.height,
    }


def overall_of(scores: Mapping[str, Any], outcomes: pl.DataFrame) -> str | None:
    """How an overall score is made of these outcomes, by trying: TASKS, SAMPLES, the name of a task; None
    where it is none of these, or there is no overall score."""
    total, frame = scores.get("overall"), _measured(outcomes)
    if total is None:
        return None
    means = dict(frame.group_by("task", maintain_order=True).agg(pl.col("measure").mean()).iter_rows())
    whole = [one for one in means.values() if one is not None]
    tries = {TASKS: float(np.mean(whole)) if whole else None, SAMPLES: frame["measure"].mean(), **means}
    return next((name for name, one in tries.items() if one is not None and abs(one - total) < 1e-9), None)
