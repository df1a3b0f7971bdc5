"""What people look at of a guidance grid: a sheet for each prompt, and a heat map of the scores.

Belongs here: pictures of it, as PNG. Not here: drawing and judging (`grid`).
"""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from got_core.evaluate.guidance_grid.config import GuidanceGridConfig
from got_core.evaluate.samples import Drawn
from got_core.figures.grids import GridItem, png_bytes
from got_core.figures.labelled import labelled_grid

Pair = tuple[float, float]
"""Text scale and spatial scale."""


def sheet(
    drawn: Mapping[Pair, Drawn],
    correct: Mapping[Pair, bool | None],
    config: GuidanceGridConfig,
    prompt: str,
) -> bytes:
    """One prompt at all pairs, as PNG: text scales from left to right, spatial scales from top to bottom,
    with the boxes of the plan; frames are green and red where pictures are judged right and wrong."""
    rows = [
        [_item(drawn[text, spatial], correct.get((text, spatial))) for text in config.text_scales]
        for spatial in config.spatial_scales
    ]
    return png_bytes(
        labelled_grid(
            rows,
            title=prompt,
            columns=[f"text {text:g}" for text in config.text_scales],
            lines=[f"spatial {spatial:g}" for spatial in config.spatial_scales],
        )
    )


def _item(drawn: Drawn, correct: bool | None) -> GridItem:
    return GridItem(drawn.image, boxes=drawn.outlines, correct=correct)


def heat_map(
    cells: pl.DataFrame, config: GuidanceGridConfig, figure: str, limits: tuple[float, float] | None
) -> bytes:
    """The scores of all pairs as PNG, in the places that they have on the sheets. `limits`: of the colours;
    None: the lowest and the highest score."""
    scores = dict(zip(cells.select("text_scale", "spatial_scale").iter_rows(), cells["score"], strict=True))
    table = np.array(
        [[scores[text, spatial] for text in config.text_scales] for spatial in config.spatial_scales], float
    )
    width, height = 1.6 + 1.1 * len(config.text_scales), 1.4 + 0.8 * len(config.spatial_scales)
    plot = Figure(figsize=(width + 1, height), layout="constrained")
    axes = plot.subplots()
    if limits is None:
        limits = _range(table)
    image = axes.imshow(table, cmap="cividis", aspect="auto", vmin=limits[0], vmax=limits[1])
    plot.colorbar(image, ax=axes)
    axes.set_xticks(range(len(config.text_scales)), [f"{one:g}" for one in config.text_scales])
    axes.set_yticks(range(len(config.spatial_scales)), [f"{one:g}" for one in config.spatial_scales])
    axes.set(
        xlabel="text scale (alpha_t)", ylabel="spatial scale (alpha_s)", title=f"{config.benchmark}: {figure}"
    )
    for row, column in np.ndindex(table.shape):
        value = float(table[row, column])
        text = "-" if np.isnan(value) else f"{value:.2f}"
        color = "black" if value > sum(limits) / 2 else "white"
        axes.text(column, row, text, ha="center", va="center", color=color)
    buffer = io.BytesIO()
    plot.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _range(table: np.ndarray) -> tuple[float, float]:
    there = table[~np.isnan(table)]
    return (float(there.min()), float(there.max())) if there.size else (0.0, 1.0)
