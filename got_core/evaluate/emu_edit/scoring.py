"""From rows to scores: means with intervals and counts, raw and filtered, for every kind and setting.

Belongs here: aggregation. Not here: judging (`judging`), or comparing models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from got_core.evaluate.emu_edit.judging import EDITED, JUDGED
from got_core.evaluate.emu_edit.samples import BenchmarkDataError

_AT_ONCE = 100  # resamples in memory


def score_rows(
    frame: pl.DataFrame, *, partial: bool = False, bootstrap: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Scores from one row a picture (columns `judging.ROWS`, or with other figures).

    `settings` holds, for each setting and each kind of row, `raw` over all samples and `filtered` without
    those that are `bad`. Of each figure: `mean`, the 95 % percentile interval `low` to `high` over clusters,
    `n` of how many pictures it is (`of`: how many there should be), `undefined`: judged pictures that have no
    such figure. Raises BenchmarkDataError if pictures are not judged, unless `partial`.
    """
    absent = frame.filter(pl.col("state") != JUDGED)
    if absent.height and not partial:
        names = ", ".join(absent["sample"].head(5))
        raise BenchmarkDataError(
            f"{absent.height} of {frame.height} pictures are not judged ({names}): judge the rest, or ask "
            "for a partial score"
        )
    settings = frame["settings"].explode().unique(maintain_order=True).drop_nulls().to_list()
    edited = frame.filter(pl.col("kind") == EDITED)
    return {
        "complete": not absent.height,
        "expected": edited.height,
        "found": edited.filter(pl.col("state") == JUDGED).height,
        "settings": {
            name: _kinds(frame.filter(pl.col("settings").list.contains(name)), bootstrap, seed)
            for name in settings
        },
    }


def _kinds(rows: pl.DataFrame, bootstrap: int, seed: int) -> dict[str, Any]:
    kinds = rows["kind"].unique(maintain_order=True).to_list()
    return {
        kind: _kind(rows.filter(pl.col("kind") == kind), bootstrap, seed)
        for kind in sorted(kinds, key=lambda kind: kind != EDITED)
    }


def _kind(rows: pl.DataFrame, bootstrap: int, seed: int) -> dict[str, Any]:
    bad = rows.filter(pl.col("bad").is_not_null())
    judged = rows.filter(pl.col("state") == JUDGED)
    tasks = rows.partition_by("task", as_dict=True, maintain_order=True)
    return {
        "raw": _figures(rows, bootstrap, seed),
        "filtered": {
            **_figures(rows.filter(pl.col("bad").is_null()), bootstrap, seed),
            "left_out": dict(bad.group_by("bad", maintain_order=True).len().iter_rows()),
        },
        "tasks": {str(task): _means(some) for (task,), some in tasks.items()},
        "resized": int(judged["resized"].sum() or 0),
        "unchanged": int(judged["unchanged"].sum() or 0),
        "captions_cut": int(judged["caption_cut"].sum() or 0),
    }


def _measured(rows: pl.DataFrame) -> list[str]:
    """The figures that there are, in the order of their columns."""
    return [
        name for name, kind in rows.schema.items() if kind == pl.Float64 and rows[name].is_not_null().any()
    ]


def _means(rows: pl.DataFrame) -> dict[str, Any]:
    judged = rows.filter(pl.col("state") == JUDGED)
    return {
        name: {
            "mean": judged[name].mean(),
            "n": judged.height - judged[name].null_count(),
            "of": rows.height,
            "undefined": judged[name].null_count(),
        }
        for name in _measured(judged)
    }


def _figures(rows: pl.DataFrame, bootstrap: int, seed: int) -> dict[str, Any]:
    means = _means(rows)
    intervals = _intervals(rows.filter(pl.col("state") == JUDGED), list(means), bootstrap, seed)
    return {"n": rows.filter(pl.col("state") == JUDGED).height, "of": rows.height} | {
        name: {**means[name], **intervals[name]} for name in means
    }


def _intervals(
    rows: pl.DataFrame, names: list[str], bootstrap: int, seed: int
) -> Mapping[str, dict[str, float | None]]:
    """Of the mean of each figure, over resampled clusters with all their pictures."""
    if not names:
        return {}
    clusters = rows.group_by("cluster", maintain_order=True).agg(
        *(pl.col(name).sum().alias(f"{name}_sum") for name in names),
        *(pl.col(name).count().alias(f"{name}_count") for name in names),
    )
    table = clusters.drop("cluster").to_numpy().astype(np.float64)
    totals = _resampled(table, bootstrap, np.random.default_rng(seed))
    sums, counts = totals[:, : len(names)], totals[:, len(names) :]
    return {
        name: _interval(sums[:, i][counts[:, i] > 0] / counts[:, i][counts[:, i] > 0])
        for i, name in enumerate(names)
    }


def _resampled(table: np.ndarray, times: int, rng: np.random.Generator) -> np.ndarray:
    """(times, columns): totals of as many rows as there are, drawn with replacement."""
    share = np.full(len(table), 1 / len(table))
    parts = [
        rng.multinomial(len(table), share, size=min(_AT_ONCE, times - start)) @ table
        for start in range(0, times, _AT_ONCE)
    ]
    return np.concatenate(parts)


def _interval(values: np.ndarray) -> dict[str, float | None]:
    if not len(values):
        return {"low": None, "high": None}
    low, high = np.percentile(values, [2.5, 97.5])
    return {"low": float(low), "high": float(high)}
