"""What the pages of the annotation steps show beside their counts: pictures, shares, examples.

Belongs here: metadata made from one step's table. Not here: the steps (`assets`), requests and cost
(`annotator`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster as dg
import polars as pl

from got_assets.project import Project
from got_assets.reporting import CELL, Metadata, grid, spread
from got_assets.shown import Picture
from got_core.figures.markdown import markdown_text


def rounded(value: Any) -> float:
    """A mean with four digits; 0 where there is none."""
    return round(float(value), 4) if value is not None else 0.0


def grounded_share(frame: pl.DataFrame) -> float:
    """Share of the entities of BOXES that have a box, 0..1."""
    entities = frame["boxes"].explode().drop_nulls()
    return rounded(entities.struct.field("x1").is_not_null().mean() if len(entities) else None)


def chain_figures(frame: pl.DataFrame) -> Metadata:
    """Mean number of boxes and characters of the good chains, and the first few of them."""
    good = frame.filter(pl.col("error").is_null())
    examples = "\n".join(f"- {markdown_text(text, CELL)}" for text in good["chain"].head(5))
    return {
        "boxes_per_chain": rounded(good["boxes"].mean() if good.height else None),
        "characters_per_chain": rounded(good["chain"].str.len_chars().mean() if good.height else None),
        "examples": dg.MetadataValue.md(examples or "none"),
    }


def caption_grid(project: Project, raw: pl.DataFrame, frame: pl.DataFrame) -> Picture | str:
    """Pictures with their prompts."""
    from got_core.figures.grids import GridItem

    reader, rows = project.reader(), spread(frame).join(raw.select("image_id", "path"), on="image_id")
    return grid([GridItem(reader.open(row["path"]), row["prompt"]) for row in rows.iter_rows(named=True)])


def box_grid(project: Project, raw: pl.DataFrame, frame: pl.DataFrame) -> Picture | str:
    """Pictures with their boxes."""
    from got_core.figures.grids import GridItem

    reader, rows = project.reader(), spread(frame).join(raw.select("image_id", "path"), on="image_id")
    return grid(
        [
            GridItem(reader.open(row["path"]), boxes=_outlines(row["boxes"]))
            for row in rows.iter_rows(named=True)
        ]
    )


def edit_grid(project: Project, pairs: pl.DataFrame, frame: pl.DataFrame) -> Picture | str:
    """Source and target of edits with the instruction and the boxes."""
    from got_core.figures.grids import GridItem

    columns = pairs.select("pair_id", "source_path", "target_path", "instruction")
    reader, items = project.edit_reader(), []
    for row in spread(frame, 8).join(columns, on="pair_id").iter_rows(named=True):
        outlines = _outlines(row["boxes"])
        items.append(GridItem(reader.open(row["source_path"]), row["instruction"], outlines))
        items.append(GridItem(reader.open(row["target_path"]), "", outlines, note="target"))
    return grid(items)


def _outlines(
    boxes: Sequence[dict[str, Any]],
) -> tuple[tuple[tuple[float, float, float, float], str], ...]:
    from got_core.chain.palette import palette_color

    found = [box for box in boxes if box["x1"] is not None]
    return tuple(
        ((box["x1"] / 1000, box["y1"] / 1000, box["x2"] / 1000, box["y2"] / 1000), palette_color(index))
        for index, box in enumerate(found)
    )
