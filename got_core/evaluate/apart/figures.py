"""Shares and means with intervals and counts, from rows that are not independent within a cluster.

Belongs here: arithmetic over rows. Not here: making rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

BOOTSTRAP = 1000
"""Resamples behind each interval."""

_AT_ONCE = 100


def mean_of(rows: pl.DataFrame, column: str, *, cluster: str, seed: int = 0) -> dict[str, Any]:
    """`ratio_of` a column's sum and its count; rows where it is null are left out of both."""
    there = rows.filter(pl.col(column).is_not_null())
    counted = there.select(cluster, pl.col(column).cast(pl.Float64).alias("_top"), pl.lit(1.0).alias("_n"))
    return {**ratio_of(counted, "_top", "_n", cluster=cluster, seed=seed), "of": rows.height}


def ratio_of(rows: pl.DataFrame, top: str, bottom: str, *, cluster: str, seed: int = 0) -> dict[str, Any]:
    """Sum of `top` over sum of `bottom`: `mean`, 95 % percentile interval `low` to `high` over resampled
    clusters with all their rows, and `n`, the sum of `bottom`. All but `n` are None where that is 0.
    """
    sums = rows.group_by(cluster, maintain_order=True).agg(
        pl.col(top).cast(pl.Float64).sum(), pl.col(bottom).cast(pl.Float64).sum()
    )
    table = sums.select(top, bottom).to_numpy()
    total = table.sum(axis=0)
    n = int(total[1]) if float(total[1]).is_integer() else float(total[1])
    if not total[1]:
        return {"mean": None, "low": None, "high": None, "n": n}
    drawn = resampled_sums(table, seed)
    drawn = drawn[drawn[:, 1] > 0]
    low, high = np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
    return {"mean": float(total[0] / total[1]), "low": float(low), "high": float(high), "n": n}


def resampled_sums(table: np.ndarray, seed: int) -> np.ndarray:
    """(BOOTSTRAP, columns): sums of as many rows as there are, drawn with replacement."""
    rng, share = np.random.default_rng(seed), np.full(len(table), 1 / len(table))
    sizes = [min(_AT_ONCE, BOOTSTRAP - start) for start in range(0, BOOTSTRAP, _AT_ONCE)]
    return np.concatenate([rng.multinomial(len(table), share, size=size) @ table for size in sizes])
