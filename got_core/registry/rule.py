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
from got_core.registry.results import BenchmarkResult, with_values

OVERALL = "overall"
_ROUNDING = 1e-9
"""Differences below it are none: sums of equal numbers may differ in their last digits."""
VALUE_ROUNDING = 1e-6
"""The same of a sample's `value`: networks compute in float32, and batches differ in the last digits."""


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
    result: BenchmarkResult | None,
    protocol_digest: str | None = None,
    *,
    by_sample: bool = True,
    needs_overall: bool = True,
) -> str | None:
    """Why a result cannot be compared, as the rest of a sentence about it; None if it can.

    `protocol_digest`: the protocol that it has to be of, if any; `by_sample`: whether its tasks are to be;
    `needs_overall`: whether its overall score is (a benchmark of several figures may have none).
    """
    if result is None:
        return "is missing"
    scores, outcomes = result.scores, result.outcomes
    if protocol_digest not in (None, scores["protocol_digest"]):
        return f"was made under protocol {scores['protocol_digest']}, not {protocol_digest}"
    if not scores["complete"]:
        return "is partial"
    figures = {task: one["mean"] for task, one in scores["tasks"].items()}
    if needs_overall or scores[OVERALL] is not None:
        figures = {OVERALL: scores[OVERALL], **figures}
    bad = [name for name, value in figures.items() if value is None or not math.isfinite(value)]
    if bad or not scores["tasks"]:
        return f"has no number for {', '.join(bad) or 'any task'}"
    if not by_sample:
        return None
    if outcomes is None:
        return "has no results by sample (it was registered without them, or by an older version)"
    return _unscored(with_values(outcomes))


def _unscored(outcomes: pl.DataFrame) -> str | None:
    """Values may be null: a figure is not defined for every sample. Verdicts may not."""
    infinite = outcomes.filter(~pl.col("value").is_finite()).height
    if infinite:
        return f"has {infinite} samples whose value is no number"
    measured = outcomes["value"].is_not_null().any()
    unscored = 0 if measured else outcomes["correct"].null_count()
    return f"has {unscored} samples that are not scored" if unscored else None


def needs_overall(benchmark: str, config: PromotionConfig) -> bool:
    """Whether promotion compares the overall score of this benchmark, of whose figures it may be none."""
    return config.primary == f"{benchmark}/{OVERALL}" or benchmark in config.margins


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
    names = [
        f"{name}/{one}"
        for name, r in results.items()
        for one in ([] if r.scores[OVERALL] is None else [OVERALL]) + [*r.scores["tasks"]]
    ]
    return f"the recipe's primary score {primary!r} is none of {', '.join(names) or 'nothing'}"


def compare(
    champion: Mapping[str, BenchmarkResult],
    challenger: Mapping[str, BenchmarkResult],
    config: PromotionConfig | None = None,
) -> Comparison:
    """Whether the challenger replaces the champion.

    Its primary score must be higher, no benchmark's overall may be lower by more than its margin, and no task
    may be worse: by one-sided exact tests paired by sample, with Holm's correction over all tasks of all
    benchmarks; one of figures by more than `least_margin` of its score, too. Results that cannot be compared
    (see `fault_of`) are not: then it does not, with the reason.
    """
    config = config or PromotionConfig()
    if fault := _incomparable(champion, challenger, config):
        return Comparison(False, fault)
    before, after = (primary_score(one, config.primary) for one in (champion, challenger))
    if before is None or after is None:
        return Comparison(False, no_primary(challenger, config.primary))
    benchmarks = [
        _benchmark_row(name, champion[name].scores, challenger[name].scores, config)
        for name in challenger
        if challenger[name].scores[OVERALL] is not None
    ]
    tasks = _task_rows(champion, challenger, config)
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
    champion: Mapping[str, BenchmarkResult],
    challenger: Mapping[str, BenchmarkResult],
    config: PromotionConfig,
) -> str | None:
    for name in dict.fromkeys((*challenger, *champion)):
        overall = needs_overall(name, config)
        if fault := fault_of(challenger.get(name), needs_overall=overall):
            return f"the challenger's result of {name} {fault}"
        ours = challenger[name]
        digest = ours.scores["protocol_digest"]
        if fault := fault_of(champion.get(name), digest, needs_overall=overall):
            return f"the champion's result of {name} {fault}"
        if fault := _unlike_samples(champion[name], ours):
            return f"the results of {name} {fault}"
    return None if challenger else "the challenger has no benchmark result"


def _unlike_samples(champion: BenchmarkResult, challenger: BenchmarkResult) -> str | None:
    """Why two results cannot be paired, as the rest of a sentence."""
    if (champion.scores[OVERALL] is None) != (challenger.scores[OVERALL] is None):
        return f"have {OVERALL} on one side only"
    both = [_samples(one).sort(_KEY) for one in (champion, challenger)]
    keys = [one.select(_KEY) for one in both]
    if not keys[0].equals(keys[1]) or keys[0].is_duplicated().any():
        return "are about different samples"
    left_out = [one["value"].is_null() for one in both]
    if unlike := int((left_out[0] != left_out[1]).sum()):
        return f"leave out different samples: {unlike} have a figure on one side only"
    return None


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
    return max(reach, config.least_margin * champion.get("scale", 1))


def _task_rows(
    champion: Mapping[str, BenchmarkResult],
    challenger: Mapping[str, BenchmarkResult],
    config: PromotionConfig,
) -> list[dict[str, Any]]:
    rows, margins = [], []
    for name, ours in challenger.items():
        paired = _paired(_samples(champion[name]), _samples(ours))
        for (task,), pairs in paired.group_by("task", maintain_order=True):
            row = {"benchmark": name, "task": task, **_task_row(pairs)}
            rows.append(row)
            # Most figures may be lower by next to nothing, and their mean higher. A verdict is lost whole.
            margins.append(0.0 if _are_verdicts(pairs) else config.least_margin * abs(row["champion"]))
    tests = holm([row["p"] for row in rows], config.alpha)
    for row, margin, (threshold, lost) in zip(rows, margins, tests, strict=True):
        worse = lost and row["difference"] < -margin - _ROUNDING
        better = "better" if row["difference"] > _ROUNDING else "no worse"
        row |= {"threshold": threshold, "verdict": "worse" if worse else better}
    return rows


def _are_verdicts(pairs: pl.DataFrame) -> bool:
    return all(bool(pairs[side].is_in([0.0, 1.0]).all()) for side in ("before", "after"))


def _task_row(pairs: pl.DataFrame) -> dict[str, Any]:
    """Means over samples; the test is of signs, which verdicts and figures of any scale have."""
    before, after = (float(pairs[side].mean()) for side in ("before", "after"))  # type: ignore[arg-type]
    change = pairs["after"] - pairs["before"]
    signs = (change > VALUE_ROUNDING).cast(pl.Int64) - (change < -VALUE_ROUNDING).cast(pl.Int64)
    by_cluster = pairs.with_columns(signs.alias("sign")).group_by("cluster").agg(pl.col("sign").sum())
    return {
        "champion": before,
        "challenger": after,
        "difference": after - before,
        "gained": int((signs > 0).sum()),
        "lost": int((signs < 0).sum()),
        "p": chance_of_loss(by_cluster["sign"].to_numpy()),
    }


_KEY = ["sample_id", "task"]


def _samples(result: BenchmarkResult) -> pl.DataFrame:
    """With `value` everywhere: a verdict is 0 or 1."""
    assert result.outcomes is not None, "`fault_of` has refused the others"
    verdict = pl.col("correct").cast(pl.Float64)
    return with_values(result.outcomes).with_columns(pl.coalesce("value", verdict).alias("value"))


def _paired(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """Each sample's task, cluster, and value before and after; samples that have none are left out."""
    return (
        after.select(*_KEY, "cluster", after="value")
        .join(
            before.select(*_KEY, before="value"),
            on=_KEY,
            how="inner",
            maintain_order="left",
            validate="1:1",
        )
        .drop_nulls(["before", "after"])
    )


def chance_of_loss(differences: np.ndarray) -> float:
    """One-sided p of a paired sign-flip test, exact: how likely is a sum of differences this low or lower if
    each could as well have had the other sign?

    `differences`: whole numbers, of each prompt (or scene) the samples gained less those lost; what shares a
    prompt shares its plan, so it flips together. With one sample a prompt it is McNemar's exact test, and the
    sign test for figures.
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
