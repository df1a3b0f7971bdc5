"""What is known of a plan's data where a manifest or annotated chains are at hand, in place of assumptions.

Belongs here: measuring tables. Not here: where tables lie (the graph), and what follows (``hours``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from got_core.budget.config import BoxCounts
from got_core.chain.faults import TIGHT_POINTS
from got_core.train.config import KINDS

BOXES = {"t2i": "t2i_boxes", "edit": "edit_boxes"}
"""Fields of ``Assumptions`` by kind of sample."""


def boxes_by_kind(manifest: pl.LazyFrame) -> dict[str, pl.DataFrame]:
    """Of each kind that a training manifest has rows of, a table ``boxes`` and ``rows``: boxes of a chain."""
    boxes = pl.col("chain").str.count_matches(TIGHT_POINTS).cast(pl.Int64).alias("boxes")
    table = manifest.group_by("kind", boxes).agg(rows=pl.len().cast(pl.Int64)).collect()
    found = {kind: table.filter(pl.col("kind") == kind).select("boxes", "rows") for kind in KINDS}
    return {kind: rows for kind, rows in found.items() if not rows.is_empty()}


def boxes_of_chains(chains: pl.LazyFrame) -> pl.DataFrame:
    """The same table of annotated chains of one kind; without those that failed."""
    good = chains.filter(pl.col("error").is_null() & pl.col("boxes").is_not_null())
    return good.group_by(pl.col("boxes").cast(pl.Int64)).agg(rows=pl.len().cast(pl.Int64)).collect()


def counts_of(boxes: pl.DataFrame) -> BoxCounts:
    """Shares of a table ``boxes`` and ``rows`` that has a row at least."""
    rows = dict(boxes.group_by("boxes").agg(pl.col("rows").sum()).iter_rows())
    total = sum(rows.values())
    return BoxCounts(tuple(rows.get(number, 0) / total for number in range(max(rows) + 1)))


def pictures_of(images: pl.LazyFrame) -> dict[str, float]:
    """Sums over the good rows of ingested pictures: ``pictures``, their ``pixels`` and ``bytes``."""
    good = images.filter(pl.col("error").is_null())
    pixels = pl.col("width").cast(pl.Float64) * pl.col("height")
    sums = good.select(pictures=pl.len(), pixels=pixels.sum(), bytes=pl.col("bytes").sum()).collect()
    return {name: float(value or 0) for name, value in sums.row(0, named=True).items()}


def known_of(
    boxes: Mapping[str, pl.DataFrame], pictures: Mapping[str, float], resolution: int
) -> dict[str, Any]:
    """Fields of ``Assumptions`` that tables of boxes by kind and sums of :func:`pictures_of` say."""
    known: dict[str, Any] = {BOXES[kind]: counts_of(table) for kind, table in boxes.items()}
    if pictures.get("pixels") and pictures.get("bytes"):
        known["stored_pixels"] = pictures["pixels"] / pictures["pictures"] / resolution**2
        known["bytes_per_pixel"] = pictures["bytes"] / pictures["pixels"]
    return known
