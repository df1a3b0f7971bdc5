"""From verdicts to scores: of tasks, of sampling seeds, and of the plans behind the pictures.

Belongs here: what the rows of judged pictures come to; the same for every benchmark. Not here: judging them
(each benchmark's module), or comparing models (`registry.rule`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from got_core.planning.geneval import TASKS

TRACE_LEFT = "trace_left"
FAILURES = ("planned_wrong", "drawn_wrong", TRACE_LEFT, "not_drawn")
"""Causes of wrong pictures: the plan; the drawing of a right one; nothing but a trace of what an edit should
have taken away; NaN or infinity, so there is no picture."""

IOUS = ("plan_iou", "place_iou", "grounding_iou")
"""Columns whose means are reported where they exist."""


class IncompleteRunError(RuntimeError):
    """Fewer judged images than the protocol asks for."""


def score_tasks(
    frame: pl.DataFrame,
    *,
    expected: Mapping[str, int] | None = None,
    partial: bool = False,
    bootstrap: int = 1000,
    seed: int = 0,
    cluster: str = "prompt",
    value: str = "correct",
    mean_of: str = "tasks",
) -> dict[str, Any]:
    """Scores from one row per image (columns `task`, `correct`, `value` and `cluster`).

    A task's score is the mean over its images of the column `value`; the overall score is the plain mean of
    the tasks, or with `mean_of` at `samples` that of all images. Intervals are 95 % percentile bootstraps
    over the prompts of a task (the values of `cluster`), each with all its images: images of one prompt share
    its plan and its difficulty, so they are not independent. `expected` gives the images a task must have (at
    least one each for GenEval's six if not given). Raises IncompleteRunError unless `partial`, which is then
    marked.
    """
    wanted = dict(expected) if expected is not None else dict.fromkeys(TASKS, 1)
    found = dict(frame.group_by("task").len().iter_rows())
    missing = {t: n - found.get(t, 0) for t, n in wanted.items() if found.get(t, 0) < n}
    if missing and not partial:
        short = ", ".join(f"{task} lacks {n}" for task, n in missing.items())
        raise IncompleteRunError(
            f"benchmark run is incomplete ({short}); draw the rest or ask for a partial score"
        )
    rng = np.random.default_rng(seed)
    tasks, draws = {}, []
    for task in [*wanted, *sorted(set(found) - set(wanted))]:
        if found.get(task):
            rows = frame.filter(pl.col("task") == task)
            tasks[task], resampled = _score_task(rows, cluster, bootstrap, rng, value)
            draws.append(resampled)
    sizes = [task["n"] for task in tasks.values()]
    low, high = _interval(_mean_of_tasks(draws, sizes, mean_of)) if draws else (None, None)
    means = [task["mean"] for task in tasks.values()]
    return {
        "overall": float(_mean_of_tasks(means, sizes, mean_of)) if means else None,
        "low": low,
        "high": high,
        "tasks": tasks,
        "prompts_any_correct": _share_any(frame, cluster),
        "expected": sum(wanted.values()) if expected is not None else frame.height,
        "found": frame.height,
        "complete": not missing,
    }


def score_seeds(frame: pl.DataFrame, value: str = "correct", mean_of: str = "tasks") -> dict[str, Any]:
    """Each sampling seed scored by itself (columns `task`, `value`, `sampling_seed`): mean and spread.

    `by_seed`: overall and task means of each; `mean` and `spread` (sample standard deviation; None for one
    seed) of their overall scores, and the same for each task under `tasks`. `value` and `mean_of`: as in
    `score_tasks`.
    """
    by_seed: dict[str, dict[str, Any]] = {}
    for (number,), rows in frame.group_by("sampling_seed", maintain_order=True):
        means = rows.group_by("task", maintain_order=True).agg(pl.col(value).mean(), pl.len().alias("n"))
        tasks = dict(means.select("task", value).iter_rows())
        overall = float(_mean_of_tasks([*tasks.values()], means["n"].to_list(), mean_of))
        by_seed[str(number)] = {"overall": overall, "tasks": tasks}
    names = dict.fromkeys(task for one in by_seed.values() for task in one["tasks"])
    return {
        "by_seed": by_seed,
        **_spread([one["overall"] for one in by_seed.values()]),
        "tasks": {
            name: _spread([one["tasks"][name] for one in by_seed.values() if name in one["tasks"]])
            for name in names
        },
    }


def _mean_of_tasks(tasks: Sequence[Any], sizes: Sequence[int], mean_of: str) -> Any:
    """The plain mean of tasks, or that of all their samples."""
    return np.average(tasks, axis=0, weights=None if mean_of == "tasks" else sizes)


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    return {
        "mean": float(np.mean(values)) if values else None,
        "spread": float(np.std(values, ddof=1)) if len(values) > 1 else None,
    }


def _score_task(
    rows: pl.DataFrame, cluster: str, bootstrap: int, rng: np.random.Generator, value: str
) -> tuple[dict[str, Any], np.ndarray]:
    clusters = rows.group_by(cluster, maintain_order=True).agg(pl.col(value).sum(), n=pl.len())
    right, count = clusters[value].to_numpy().astype(float), clusters["n"].to_numpy().astype(float)
    drawn = rng.multinomial(len(count), np.full(len(count), 1 / len(count)), size=bootstrap)
    resampled = (drawn @ right) / (drawn @ count)
    low, high = _interval(resampled)
    score: dict[str, Any] = {
        "mean": float(right.sum() / count.sum()),
        "low": low,
        "high": high,
        "n": rows.height,
        "correct": int(rows["correct"].sum()),
    }
    if value == "correct":  # of figures there are no shares of prompts
        score |= {"prompts": clusters.height, "prompts_any_correct": _share_any(rows, cluster)}
    return score, resampled


def _interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _share_any(rows: pl.DataFrame, cluster: str) -> float | None:
    share = rows.group_by("task", cluster).agg(pl.col("correct").any())["correct"].mean()
    return None if share is None else float(share)  # type: ignore[arg-type]


# ---------------------------------------------------------------- plans


def failure_of(*, drawn: bool, correct: bool, plan_correct: bool) -> str | None:
    """One of FAILURES, or None for a right picture."""
    if not drawn:
        return "not_drawn"
    return None if correct else "drawn_wrong" if plan_correct else "planned_wrong"


def outcome_of(row: Mapping[str, Any]) -> str:
    """What became of a judged picture, in words."""
    return (row["failure"] or "right").replace("_", " ")


def with_plan_figures(
    samples: pl.DataFrame, scores: Mapping[str, Any], value: str = "correct", mean_of: str = "tasks"
) -> dict[str, Any]:
    """Plan figures of the whole run and of each task, and the scores of each sampling seed (see
    `score_seeds`).

    `samples` has the columns `task`, `correct`, `failure`, `sampling_seed`, `plan_correct`, `plan_faults`,
    and some of IOUS.
    """
    tasks = {
        task: score | plan_figures(samples.filter(pl.col("task") == task))
        for task, score in scores["tasks"].items()
    }
    plan_means = [score["plan_correct"] for score in tasks.values()]
    return {
        "tasks": tasks,
        **plan_figures(samples),
        "plan_overall": float(np.mean(plan_means)) if plan_means else None,
        "seeds": score_seeds(samples, value, mean_of),
    }


def plan_figures(samples: pl.DataFrame) -> dict[str, Any]:
    """Share of right plans, plans with each kind of fault, failures by cause, mean IoU with found boxes."""
    faults = samples["plan_faults"].explode().drop_nulls().value_counts().sort("plan_faults")
    return {
        "plan_correct": _mean(samples, "plan_correct"),
        "plan_faults": dict(faults.iter_rows()),
        **{failure: int((samples["failure"] == failure).sum()) for failure in _failures(samples)},
        **{name: _mean(samples, name) for name in IOUS if name in samples.columns},
    }


def _failures(samples: pl.DataFrame) -> Iterator[str]:
    """Those that these samples can have."""
    yield from (one for one in FAILURES if one != TRACE_LEFT or "trace" in samples.columns)


def _mean(samples: pl.DataFrame, column: str) -> float | None:
    value = samples[column].mean()
    return None if value is None else float(value)  # type: ignore[arg-type]
