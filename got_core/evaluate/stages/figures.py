"""What each stage added, in figures: shares by stage, and differences between a stage and the one before.

    document = stage_figures(rows)
    document["benchmarks"]["edits/scenes"]["steps"][0]["picture"]["mean"]

Belongs here: arithmetic over the table of `scoring`, and its text. Not here: the plot (`plot`).

Pictures of one prompt or scene share its difficulty, so intervals resample those as wholes. McNemar's exact
test takes every pair for itself; beside it stands the same test over prompts or scenes, each of which counts
once, for the side on which more of its pictures are right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import polars as pl
from scipy import stats

from got_core.evaluate.apart.figures import mean_of
from got_core.evaluate.paired import paired_difference

MEASURES = {
    "picture": "right pictures",
    "plan": "right plans",
    "drawing": "right pictures from the last model's right plans",
}
"""Columns of the table that are shares, with what they are."""

HEADER = ("stage", *MEASURES.values(), "trace", "pictures")
STEP_HEADER = ("from", "to", "of", "difference", "95 % interval", "fixed", "broken", "p", "p over scenes")


def stage_figures(rows: pl.DataFrame) -> dict[str, Any]:
    """Plain JSON: `stages` in order, and by benchmark `stages` (a list: `stage`, each MEASURE with `mean`,
    `low`, `high`, `n`; `tasks`, the share of right pictures of each; `trace`, the median) and `steps`
    (`from`, `to`, and for each MEASURE what `difference` gives).

    Raises ValueError for an empty table.
    """
    if rows.is_empty():
        raise ValueError("the table of stages is empty: there is nothing to compare")
    stages = rows["stage"].unique(maintain_order=True).to_list()
    names = rows["benchmark"].unique(maintain_order=True).to_list()
    return {
        "stages": stages,
        "benchmarks": {name: _benchmark(rows.filter(pl.col("benchmark") == name), stages) for name in names},
    }


def _benchmark(rows: pl.DataFrame, stages: Sequence[str]) -> dict[str, Any]:
    parts = {stage: rows.filter(pl.col("stage") == stage) for stage in stages}
    steps = [
        {"from": one, "to": other, **{name: difference(parts[one], parts[other], name) for name in MEASURES}}
        for one, other in pairwise(stages)
    ]
    return {"stages": [{"stage": stage, **_stage(part)} for stage, part in parts.items()], "steps": steps}


def _stage(rows: pl.DataFrame) -> dict[str, Any]:
    means = rows.group_by("task", maintain_order=True).agg(pl.col("picture").cast(pl.Float64).mean())
    return {
        **{name: mean_of(rows, name, cluster="cluster") for name in MEASURES},
        "tasks": dict(means.iter_rows()),
        "trace": rows["trace"].median(),
    }


def difference(before: pl.DataFrame, after: pl.DataFrame, measure: str) -> dict[str, Any]:
    """By how much a measure has grown between two stages, over the requests that have one on both sides.

    `mean` with its 95 % interval `low` to `high` (mean of tasks), `n` pairs; `fixed` and `broken` pairs with
    the `p` of McNemar's exact test, and `better` and `worse` prompts or scenes with `p_clusters` of the same
    test over these. Figures are None, and p is 1, where there is no pair.
    """
    one, other = (_outcomes(rows, measure) for rows in (before, after))
    both = one.join(other, on=["sample_id", "task", "cluster"], suffix="_after", maintain_order="left")
    gains = both.with_columns(gain=pl.col("correct_after").cast(pl.Int32) - pl.col("correct").cast(pl.Int32))
    sums = gains.group_by("cluster").agg(pl.col("gain").sum())["gain"]
    overall = paired_difference(other, one, partial=True)["overall"] if both.height else None
    fixed, broken = (int((gains["gain"] == value).sum()) for value in (1, -1))
    better, worse = int((sums > 0).sum()), int((sums < 0).sum())
    return {
        **{name: overall[name] if overall else None for name in ("mean", "low", "high")},
        "n": both.height,
        "fixed": fixed,
        "broken": broken,
        "p": mcnemar(fixed, broken),
        "better": better,
        "worse": worse,
        "p_clusters": mcnemar(better, worse),
    }


def _outcomes(rows: pl.DataFrame, measure: str) -> pl.DataFrame:
    """As pairs are compared by; without those that are null."""
    return rows.filter(pl.col(measure).is_not_null()).select(
        pl.col("index").cast(pl.String).alias("sample_id"),
        "task",
        "cluster",
        pl.col(measure).alias("correct"),
    )


def mcnemar(fixed: int, broken: int) -> float:
    """Two-sided p of McNemar's exact test: that pairs which differ fall on either side alike."""
    if fixed + broken == 0:
        return 1.0
    return float(stats.binomtest(min(fixed, broken), fixed + broken).pvalue)


# ---------------------------------------------------------------- text


def spelled(benchmark: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """A line for each stage, under HEADER."""
    for one in benchmark["stages"]:
        trace = "" if one["trace"] is None else f"{one['trace']:.1f}"
        yield one["stage"], *(_share(one[name]) for name in MEASURES), trace, str(one["picture"]["n"])


def _share(figure: Mapping[str, Any]) -> str:
    if figure["mean"] is None:
        return ""
    return f"{figure['mean']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


def spelled_steps(benchmark: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """A line for each measure of each step, under STEP_HEADER; of measures without pairs none."""
    for step in benchmark["steps"]:
        for name, what in MEASURES.items():
            one = step[name]
            if one["mean"] is None:
                continue
            yield (
                step["from"],
                step["to"],
                what,
                f"{one['mean']:+.3f}",
                f"{one['low']:+.3f} to {one['high']:+.3f}",
                str(one["fixed"]),
                str(one["broken"]),
                p_text(one["p"]),
                p_text(one["p_clusters"]),
            )


def p_text(p: float) -> str:
    """A p with two digits, or that it is smaller than any that matters."""
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"
