"""Rows of one benchmark side by side: drawn from plans, without plans, by a base model.

    found = compare([Row(name=PLAN_ON, scores=a, outcomes=x), Row(name=PLAN_OFF, scores=b, outcomes=y)])
    found.differences[PLAN_OFF]["overall"]  # plan on minus plan off: mean, low, high, n, of

Belongs here: whether rows may stand side by side, their table, and differences paired by sample. Not here:
scores (each benchmark has its own), or whether a model is promoted (`registry`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from got_core.evaluate.apart.figures import resampled_sums
from got_core.evaluate.protocol import UnlikeProtocolsError, why_unlike
from got_core.evaluate.scores import IncompleteRunError

PLAN_ON, PLAN_OFF, BASE = "plan on", "plan off", "base"

TASKS, SAMPLES = "mean of tasks", "mean of samples"
"""How a benchmark's overall score is made; else it is the figure of the task that is named."""

HEADER = ("row", "protocol", "plan", "score", "95 % interval", "n / N")
"""Column heads of `spelled`, before those of the tasks."""

_ALLOWED = ("plan", "digest")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model, or one way of drawing with it, on a benchmark."""

    name: str
    scores: Mapping[str, Any]
    """As the benchmark gives them."""

    outcomes: pl.DataFrame
    """What became of each sample: sample_id, task, cluster, and `correct` or `value`, null without one."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Rows of alike protocols, and by how much the first one is better than each other one."""

    rows: tuple[Row, ...]
    differences: Mapping[str, Mapping[str, Any]]
    """By the other row's name: `overall` and `tasks`, each the first row minus that one over the samples that
    both have: `mean`, 95 % interval `low` to `high` over resampled clusters, `n` pairs `of` samples."""


def compare(rows: Sequence[Row], *, overall: str = TASKS, partial: bool = False, seed: int = 0) -> Comparison:
    """Set rows side by side; the first one is compared with each other one, sample by sample.

    `overall`: TASKS, SAMPLES, or the name of the task that stands for the whole. Raises UnlikeProtocolsError,
    which names the fields, where protocols differ in more than whether a plan was drawn from; and
    IncompleteRunError where a sample has no outcome in one of the rows, unless `partial`. ValueError without
    rows, and for two of one name.
    """
    _check_names(rows)
    first, *others = rows
    for other in others:
        _check_alike(first, other)
    return Comparison(
        rows=tuple(rows),
        differences={one.name: _difference(first, one, overall, partial, seed) for one in others},
    )


def _check_names(rows: Sequence[Row]) -> None:
    names = [one.name for one in rows]
    if not rows or len(set(names)) < len(names):
        raise ValueError(f"a comparison needs one or more rows of unlike names, got {names}")


def _check_alike(left: Row, right: Row) -> None:
    records = [_without_plan(one.scores) for one in (left, right)]
    if why := why_unlike(*records):
        more = f"; and {len(why) - 5} more" if len(why) > 5 else ""
        raise UnlikeProtocolsError(
            f"{left.name} and {right.name} were scored under unlike protocols ({'; '.join(why[:5])}{more}): "
            "they cannot stand side by side; score both under one protocol"
        )


def _without_plan(scores: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in scores["protocol_record"].items() if name not in _ALLOWED}


# -- paired differences ------------------------------------------------------------------------------


def _difference(left: Row, right: Row, overall: str, partial: bool, seed: int) -> dict[str, Any]:
    pairs = _pairs(left, right)
    lacking = pairs.filter(pl.col("gain").is_null())
    if lacking.height and not partial:
        some = ", ".join(lacking["sample_id"].head(5))
        raise IncompleteRunError(
            f"{lacking.height} of {pairs.height} samples have no outcome in both {left.name} and "
            f"{right.name} ({some}): judge the rest, or ask for a partial comparison"
        )
    names = pairs["task"].unique(maintain_order=True).to_list()
    parts = {name: pairs.filter(pl.col("task") == name) for name in names}
    draws = {name: _resampled(part, seed + k) for k, (name, part) in enumerate(parts.items())}
    tasks = {name: _figure(part, draws[name]) for name, part in parts.items()}
    return {"overall": _overall(overall, pairs, tasks, draws, seed), "tasks": tasks}


def _pairs(left: Row, right: Row) -> pl.DataFrame:
    """sample_id, task, cluster, gain: of all samples of either, null where one has no outcome."""
    one, other = (_measured(row) for row in (left, right))
    joined = one.join(other, on=["sample_id", "task"], how="full", coalesce=True, maintain_order="left")
    return joined.select(
        "sample_id",
        "task",
        pl.coalesce("cluster", "cluster_right").alias("cluster"),
        (pl.col("measure") - pl.col("measure_right")).alias("gain"),
    )


def _measured(row: Row) -> pl.DataFrame:
    columns = row.outcomes.columns
    there = [pl.col(name).cast(pl.Float64) for name in ("value", "correct") if name in columns]
    frame = row.outcomes.select("sample_id", "task", "cluster", pl.coalesce(there).alias("measure"))
    repeated = frame.select("sample_id", "task").is_duplicated().sum()
    if repeated:
        raise ValueError(f"{row.name}: {repeated} outcomes are of a sample and task that stand there twice")
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
    overall: str,
    pairs: pl.DataFrame,
    tasks: Mapping[str, Mapping[str, Any]],
    draws: Mapping[str, np.ndarray],
    seed: int,
) -> dict[str, Any]:
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


# -- the table ---------------------------------------------------------------------------------------


def spelled(comparison: Comparison) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Column heads and lines as text: each row with its protocol's digest, then the paired differences."""
    tasks = list(dict.fromkeys(task for row in comparison.rows for task in row.scores["tasks"]))
    lines = [_line(row, tasks) for row in comparison.rows]
    first = comparison.rows[0].name
    for name, one in comparison.differences.items():
        overall, parts = one["overall"], one["tasks"]
        cells = (f"{first} - {name}", "paired by sample", "", *_spelled(overall, signed=True))
        lines.append((*cells, *(_number(parts.get(task, {}).get("mean"), signed=True) for task in tasks)))
    return (*HEADER, *tasks), lines


def _line(row: Row, tasks: Iterable[str]) -> tuple[str, ...]:
    scores = row.scores
    plan = {True: "on", False: "off"}.get(scores["protocol_record"].get("plan"), "not stated")
    score = {"mean": scores.get("overall"), **{name: scores.get(name) for name in ("low", "high", "of")}}
    means = (_number(scores["tasks"].get(task, {}).get("mean")) for task in tasks)
    return (row.name, scores["protocol_digest"], plan, *_spelled(score), *means)


def _spelled(figure: Mapping[str, Any], *, signed: bool = False) -> tuple[str, str, str]:
    low, high = (_number(figure.get(name), signed=signed) for name in ("low", "high"))
    counted = figure.get("of")
    of = counted if isinstance(counted, str) else f"{figure.get('n')} / {counted}"
    return _number(figure.get("mean"), signed=signed), f"{low} to {high}" if low != "-" else "-", of


def _number(value: float | None, *, signed: bool = False) -> str:
    return "-" if value is None else f"{value:{'+' if signed else ''}.3f}"
