"""The promotion rule: the same benchmarks of two models, compared sample by sample.

Belongs here: what makes results comparable, the paired test, Holm's correction, the verdicts. Not here: where
results are kept (`results`), and what follows from a verdict (`promote`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from got_core.registry.config import PromotionConfig
from got_core.registry.results import BenchmarkResult

OVERALL = "overall"
_ROUNDING = 1e-9
"""Differences below it are none: sums of equal numbers may differ in their last digits."""


@dataclass(frozen=True)
class Comparison:
    """Whether the challenger replaces the champion, why, and the figures behind it."""

    promoted: bool
    reason: str
    benchmarks: list[dict[str, Any]] = field(default_factory=list)
    """A row each: benchmark, champion, challenger, difference, margin, verdict (worse or no worse)."""

    tasks: list[dict[str, Any]] = field(default_factory=list)
    """A row each: benchmark, task, champion, challenger, difference, gained and lost samples, p, threshold
    (Holm's), verdict."""


def fault_of(
    result: BenchmarkResult | None, protocol_digest: str | None = None, *, by_sample: bool = True
) -> str | None:
    """Why a result cannot be compared, as the rest of a sentence about it; None if it can.

    `protocol_digest`: the protocol that it has to be of, if any; `by_sample`: whether its tasks are to be.
    """
    if result is None:
        return "is missing"
    scores, outcomes = result.scores, result.outcomes
    if protocol_digest not in (None, scores["protocol_digest"]):
        return f"was made under protocol {scores['protocol_digest']}, not {protocol_digest}"
    if not scores["complete"]:
        return "is partial"
    figures = {OVERALL: scores[OVERALL]} | {task: one["mean"] for task, one in scores["tasks"].items()}
    bad = [name for name, value in figures.items() if value is None or not math.isfinite(value)]
    if bad or not scores["tasks"]:
        return f"has no number for {', '.join(bad) or 'any task'}"
    if not by_sample:
        return None
    if outcomes is None:
        return "has no results by sample (it was registered without them, or by an older version)"
    unscored = outcomes["correct"].null_count()
    return f"has {unscored} samples that are not scored" if unscored else None


def primary_score(results: Mapping[str, BenchmarkResult], primary: str) -> float | None:
    """The score that PromotionConfig.primary names; None if these results hold none of that name."""
    benchmark, _, figure = primary.rpartition("/")
    if benchmark not in results:
        return None
    scores = results[benchmark].scores
    value = scores[OVERALL] if figure == OVERALL else scores["tasks"].get(figure, {}).get("mean")
    return None if value is None else float(value)


def no_primary(results: Mapping[str, BenchmarkResult], primary: str) -> str:
    """The reason where `primary_score` is None."""
    names = [f"{name}/{one}" for name, r in results.items() for one in (OVERALL, *r.scores["tasks"])]
    return f"the recipe's primary score {primary!r} is none of {', '.join(names) or 'nothing'}"


def compare(
    champion: Mapping[str, BenchmarkResult],
    challenger: Mapping[str, BenchmarkResult],
    config: PromotionConfig | None = None,
) -> Comparison:
    """Whether the challenger replaces the champion.

    Its primary score must be higher, no benchmark's overall may be lower by more than its margin, and no task
    may be worse: one-sided exact tests paired by sample, with Holm's correction over all tasks of all
    benchmarks. Results that cannot be compared (see `fault_of`) are not: then it does not, with the reason.
    """
    config = config or PromotionConfig()
    if fault := _incomparable(champion, challenger):
        return Comparison(False, fault)
    before, after = (primary_score(one, config.primary) for one in (champion, challenger))
    if before is None or after is None:
        return Comparison(False, no_primary(challenger, config.primary))
    benchmarks = [
        _benchmark_row(name, champion[name].scores, challenger[name].scores, config) for name in challenger
    ]
    tasks = _task_rows(champion, challenger, config.alpha)
    faults = [_wrong(row) for row in (*benchmarks, *tasks) if row["verdict"] == "worse"]
    if after - before <= _ROUNDING:
        faults.insert(0, f"{config.primary} is not better ({after:.3f} against {before:.3f})")
    better = (
        f"{config.primary} is better ({after:.3f} against {before:.3f}), no benchmark is worse by more than "
        "its margin, and no task is worse"
    )
    return Comparison(not faults, "; ".join(faults) or better, benchmarks, tasks)


def _wrong(row: Mapping[str, Any]) -> str:
    values = f"({row['challenger']:.3f} against {row['champion']:.3f})"
    if "task" in row:
        return f"{row['benchmark']}/{row['task']} is worse {values}"
    return f"{row['benchmark']}/{OVERALL} is worse by more than its margin of {row['margin']:.3f} {values}"


def _incomparable(
    champion: Mapping[str, BenchmarkResult], challenger: Mapping[str, BenchmarkResult]
) -> str | None:
    for name in dict.fromkeys((*challenger, *champion)):
        if fault := fault_of(challenger.get(name)):
            return f"the challenger's result of {name} {fault}"
        ours = challenger[name]
        if fault := fault_of(champion.get(name), ours.scores["protocol_digest"]):
            return f"the champion's result of {name} {fault}"
        ids = [_samples(one)["sample_id"].to_list() for one in (champion[name], ours)]
        if sorted(ids[0]) != sorted(ids[1]) or len(set(ids[0])) < len(ids[0]):
            return f"the results of {name} are about different samples"
    return None if challenger else "the challenger has no benchmark result"


def _benchmark_row(
    name: str, champion: Mapping[str, Any], challenger: Mapping[str, Any], config: PromotionConfig
) -> dict[str, Any]:
    difference, margin = challenger[OVERALL] - champion[OVERALL], _margin(name, champion, config)
    return {
        "benchmark": name,
        "champion": champion[OVERALL],
        "challenger": challenger[OVERALL],
        "difference": difference,
        "margin": margin,
        "verdict": "worse" if difference < -margin - _ROUNDING else "no worse",
    }


def _margin(name: str, champion: Mapping[str, Any], config: PromotionConfig) -> float:
    if name in config.margins:
        return config.margins[name]
    low = champion["low"]
    reach = 0.0 if low is None or not math.isfinite(low) else champion[OVERALL] - low
    return max(reach, config.least_margin)


def _task_rows(
    champion: Mapping[str, BenchmarkResult], challenger: Mapping[str, BenchmarkResult], alpha: float
) -> list[dict[str, Any]]:
    rows = []
    for name, ours in challenger.items():
        paired = _paired(_samples(champion[name]), _samples(ours))
        for (task,), pairs in paired.group_by("task", maintain_order=True):
            before, after = (float(pairs[side].mean()) for side in ("before", "after"))  # type: ignore[arg-type]
            change = pairs["after"] - pairs["before"]
            by_cluster = pairs.group_by("cluster").agg((pl.col("after") - pl.col("before")).sum())
            rows.append(
                {
                    "benchmark": name,
                    "task": task,
                    "champion": before,
                    "challenger": after,
                    "difference": after - before,
                    "gained": int((change > 0).sum()),
                    "lost": int((change < 0).sum()),
                    "p": chance_of_loss(by_cluster["after"].to_numpy()),
                }
            )
    for row, (threshold, worse) in zip(rows, holm([row["p"] for row in rows], alpha), strict=True):
        better = "better" if row["difference"] > _ROUNDING else "no worse"
        row |= {"threshold": threshold, "verdict": "worse" if worse else better}
    return rows


def _samples(result: BenchmarkResult) -> pl.DataFrame:
    assert result.outcomes is not None, "`fault_of` has refused the others"
    return result.outcomes.with_columns(pl.col("correct").cast(pl.Int64))


def _paired(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """Each sample's task, cluster, and whether it was right before and after (0 or 1)."""
    return after.select("sample_id", "task", "cluster", after="correct").join(
        before.select("sample_id", before="correct"),
        on="sample_id",
        how="inner",
        maintain_order="left",
        validate="1:1",
    )


def chance_of_loss(differences: np.ndarray) -> float:
    """One-sided p of a paired sign-flip test, exact: how likely is a sum of differences this low or lower if
    each could as well have had the other sign?

    `differences`: whole numbers, of each prompt (or scene) the samples gained less those lost; what shares a
    prompt shares its plan, so it flips together. With one sample a prompt it is McNemar's exact test.
    """
    from scipy.stats import binom

    sizes, counts = np.unique(np.abs(differences[differences != 0]).astype(np.int64), return_counts=True)
    chances: np.ndarray = np.ones(1)  # of the sums -reach to reach
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        flips = np.zeros(2 * size * count + 1)
        flips[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.convolve(chances, flips)
    reach = len(chances) // 2
    return float(min(chances[: reach + int(differences.sum()) + 1].sum(), 1.0))


def holm(ps: Sequence[float], alpha: float) -> list[tuple[float, bool]]:
    """Holm's step-down correction: each p's threshold, and whether it and all smaller ones lie within theirs.

    The chance that any true hypothesis is rejected is at most `alpha`, however the tests depend on each other
    (Holm 1979).
    """
    answers: dict[int, tuple[float, bool]] = {}
    rejecting = True
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda one: ps[one])):
        threshold = alpha / (len(ps) - rank)
        rejecting = rejecting and ps[index] <= threshold
        answers[index] = (threshold, rejecting)
    return [answers[index] for index in range(len(ps))]
