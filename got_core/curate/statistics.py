"""Prompt length, chain length and boxes a chain, beside the published numbers where those are known.

Belongs here: counting, the table and its plot. Not here: what is trained on.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import NamedTuple

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from got_core.corpus.schemas import frame_of
from got_core.curate.review_schemas import STATISTICS

BOX = r"\([0-9]+,[0-9]+\),\([0-9]+,[0-9]+\)"


class Published(NamedTuple):
    """Averages that the paper gives: the lowest and the highest over its data sets."""

    low: float
    high: float


QUANTITIES: Mapping[str, str] = {
    "prompt_chars": "characters of the prompt",
    "chain_chars": "characters of the chain",
    "boxes": "boxes in the chain",
}
PUBLISHED: Mapping[tuple[str, str], Published] = {
    ("t2i", "prompt_chars"): Published(110, 150),
    ("t2i", "chain_chars"): Published(810, 910),
    ("t2i", "boxes"): Published(3.8, 4.1),
}
"""Of arXiv 2503.10639, for its text-to-image sets. For edit chains none is known here."""

UNKNOWN = "not known"

MEASURED, BAND, INK = "#3a78b5", "#b9c4ce", "#1b2a38"
ALL = "all"


def statistics(manifest: pl.DataFrame) -> pl.DataFrame:
    """STATISTICS of a MANIFEST (columns kind, source, prompt, chain), by kind, and by source within it."""
    counted = manifest.select("kind", pl.col("source").fill_null("unknown"), *_counts())
    frames = [counted, counted.with_columns(source=pl.lit(ALL))]
    rows = []
    for (kind, source), group in sorted(pl.concat(frames).group_by("kind", "source"), key=_order):
        for quantity in QUANTITIES:
            rows.append({"kind": kind, "source": source, **_described(group[quantity], quantity, str(kind))})
    return frame_of(rows, STATISTICS)


def statistics_plot(manifest: pl.DataFrame) -> bytes:
    """The distributions as PNG: a row a kind, a column a quantity, published averages as a grey band."""
    counted = manifest.select("kind", *_counts())
    kinds = sorted(counted["kind"].unique().to_list(), reverse=True) or ["t2i"]
    figure = Figure(figsize=(11, 2.8 * len(kinds)), layout="constrained")
    panels = figure.subplots(len(kinds), len(QUANTITIES), squeeze=False)
    for row, kind in zip(panels, kinds, strict=True):
        for axes, (quantity, title) in zip(row, QUANTITIES.items(), strict=True):
            _panel(axes, counted.filter(pl.col("kind") == kind)[quantity], kind, quantity, title)
    buffer = io.BytesIO()
    # No date and no version of the library: the same table gives the same bytes.
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def published_text(kind: str, quantity: str) -> str:
    """The published averages in words, or that none is known."""
    known = PUBLISHED.get((kind, quantity))
    return UNKNOWN if known is None else f"{known.low:g} to {known.high:g}"


def _counts() -> list[pl.Expr]:
    return [
        pl.col("prompt").str.len_chars().cast(pl.Int64).alias("prompt_chars"),
        pl.col("chain").str.len_chars().cast(pl.Int64).alias("chain_chars"),
        pl.col("chain").str.count_matches(BOX).cast(pl.Int64).alias("boxes"),
    ]


def _order(one: tuple) -> tuple[str, bool, str]:
    kind, source = one[0]
    return str(kind), source != ALL, str(source)


def _described(values: pl.Series, quantity: str, kind: str) -> dict[str, object]:
    known = PUBLISHED.get((kind, quantity))
    return {
        "quantity": quantity,
        "rows": len(values),
        "mean": values.mean(),
        "low": values.quantile(0.05, "nearest"),
        "median": values.median(),
        "high": values.quantile(0.95, "nearest"),
        "published_low": known.low if known else None,
        "published_high": known.high if known else None,
        "published": published_text(kind, quantity),
    }


def _panel(axes: Axes, values: pl.Series, kind: str, quantity: str, title: str) -> None:
    known = values.drop_nulls()
    if len(known):
        top = int(known.max())  # type: ignore[arg-type]
        bins = range(top + 2) if quantity == "boxes" else 30
        axes.hist(known.to_numpy(), bins=bins, color=MEASURED, align="left" if quantity == "boxes" else "mid")
        axes.axvline(float(known.mean()), color=INK, linewidth=1.5)  # type: ignore[arg-type]
    band = PUBLISHED.get((kind, quantity))
    if band:
        axes.axvspan(band.low, band.high, color=BAND, alpha=0.7, zorder=0)
    axes.set_title(f"{kind}: {title}", fontsize=10)
    axes.set_xlabel(f"published average: {published_text(kind, quantity)}", fontsize=8)
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
