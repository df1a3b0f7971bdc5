"""What the traces of many edits come to: means and medians by kind, and the worst ones as pictures.

    scores["traces"] = trace_figures(samples)
    png = worst_traces(suite, samples, drawn)

Belongs here: figures and pictures of a run. Not here: the traces of one picture (`traces`), or what counts as
right (`edits`).
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl
from PIL import Image

from got_core.evaluate.samples import Drawn
from got_core.evaluate.traces import FIGURES, Traces
from got_core.figures.grids import GridItem, picture_grid, png_bytes

COLUMNS: dict[str, pl.DataType] = {name: pl.Float64() for name in FIGURES}
"""Of samples: see `traces.Traces`; null where nothing could be drawn or there is nothing to measure."""

WORST = 8
"""Pictures of the largest traces that are shown."""

FILE = "traces.png"
"""Of those pictures, beside the grid of a run."""


class TracedSuite(typing.Protocol):
    """A suite of edits that knows the true picture of each."""

    def traces(self, row: Mapping[str, Any], drawn: Drawn) -> tuple[Image.Image, Traces]:
        """Of a row of its samples and its picture: the source, and how far the picture is from the true
        one."""
        ...


def trace_figures(samples: pl.DataFrame) -> dict[str, Any]:
    """Of each of FIGURES `mean`, `median` and `n`, over all samples and, under `kinds`, by task.

    `samples` has the columns `task` and COLUMNS. Those of which there is nothing to measure are None.
    """
    kinds = samples["task"].unique(maintain_order=True)
    return {
        **_figures(samples),
        "kinds": {kind: _figures(samples.filter(pl.col("task") == kind)) for kind in kinds},
    }


def _figures(samples: pl.DataFrame) -> dict[str, Any]:
    return {name: _figure(samples[name].drop_nulls()) for name in FIGURES}


def _figure(values: pl.Series) -> dict[str, Any] | None:
    if values.is_empty():
        return None
    return {"mean": float(values.mean()), "median": float(values.median()), "n": len(values)}  # type: ignore[arg-type]


def worst_traces(suite: Any, samples: pl.DataFrame, drawn: Mapping[int, Drawn]) -> bytes:
    """The edits with the largest traces as PNG, one row each: source, edited and true picture, and their
    difference as colours. Empty for a suite that measures none, and where there is none.

    Of edits that are wrong otherwise, a trace is hardly news: right ones, but for their traces, come first.
    """
    if not hasattr(suite, "traces"):  # a suite may be one behind another's interface
        return b""
    shown = samples.filter(pl.col("trace").is_not_null()).with_columns(
        wrong=pl.col("failure").is_in(["planned_wrong", "drawn_wrong"]).fill_null(False)
    )
    items: list[GridItem] = []
    for row in shown.sort("wrong", "trace", descending=[False, True]).head(WORST).iter_rows(named=True):
        items += _row(suite, row, drawn[row["index"]])
    return png_bytes(picture_grid(items, columns=4)) if items else b""


def _row(suite: TracedSuite, row: Mapping[str, Any], one: Drawn) -> Iterator[GridItem]:
    source, traces = suite.traces(row, one)
    figures = ", ".join(f"{name} {row[name]:.1f}" for name in FIGURES if row[name] is not None)
    yield GridItem(source, row["prompt"], one.outlines)
    yield GridItem(one.image, "edited", (), row["correct"], (row["failure"] or "right").replace("_", " "))
    yield GridItem(traces.truth, "true picture")
    yield GridItem(traces.picture(), figures)
