"""Whether an edit changes the picture where its plan says.

Belongs here: the share of a picture's change that lies inside the planned boxes, and what rows come to. Not
here: whether the change is the right one (`emu_edit.metrics`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from got_core.chain.grammar import Chain
from got_core.evaluate.apart.drawn import drawn_plan
from got_core.evaluate.apart.edit_plans import planned_area
from got_core.evaluate.apart.figures import mean_of
from got_core.evaluate.emu_edit.measuring import decode
from got_core.evaluate.emu_edit.metrics import same_size
from got_core.evaluate.emu_edit.samples import EditRequest, EditSample, Pictures

ROWS: dict[str, pl.DataType] = {
    "sample": pl.String(),
    "task": pl.String(),
    "cluster": pl.String(),
    "left_out": pl.String(),
    "chain": pl.String(),
    "boxes": pl.Int32(),
    "change": pl.Float64(),
    "inside": pl.Float64(),
    "area": pl.Float64(),
    "density": pl.Float64(),
}
"""`change`: mean absolute difference of levels in [0, 1] between source and edited picture; `inside`: the
share of it that lies inside the planned boxes, and `area`: the share of the picture that these cover, which
`inside` would be if the change were everywhere the same; `density`: mean change inside the boxes over mean
change outside, null where they leave nothing out. `left_out`: why a picture has none of these."""

FIGURES = ("inside", "area", "change", "density")
UNCHANGED = "the picture is its source, nothing has changed"
NO_BOXES = "its plan has no boxes"
MISSING = "the picture is missing"
OTHERS = "its file says of no plan: another program drew it"

_AT_ONCE = 16


def change_facts(source: Image.Image, edited: Image.Image, chain: Chain) -> dict[str, Any]:
    """The columns of an edited picture. A picture of another size is brought to the source's (bicubic)."""
    old = np.asarray(source, np.int16)
    new = np.asarray(same_size(edited, source), np.int16)
    change = np.abs(new - old).mean(axis=2) / 255
    mask = planned_area(chain, *change.shape)
    total, said = float(change.sum()), {"chain": chain.to_data(), "boxes": len(chain.boxes)}
    said |= {"change": float(change.mean()), "area": float(mask.mean())}
    if not chain.boxes or not total:
        return {**said, "left_out": UNCHANGED if chain.boxes else NO_BOXES}
    outside = float(change[~mask].mean()) if not mask.all() else 0.0
    density = float(change[mask].mean()) / outside if outside else None
    return {**said, "inside": float(change[mask].sum()) / total, "density": density}


def change_rows(
    samples: Sequence[EditSample], requests: Sequence[EditRequest], data: Pictures, edited: Pictures
) -> pl.DataFrame:
    """One row (ROWS) for each sample, from sources, edited pictures and the plans in their files.

    `requests`: what was edited for each sample, a picture of the `data` or an earlier edit. Pictures that are
    missing or cannot be read are left out, with the reason.
    """
    asked = {one.key: one for one in requests}
    rows = []
    for start in range(0, len(samples), _AT_ONCE):
        rows += list(_rows(samples[start : start + _AT_ONCE], asked, data, edited))
    return pl.DataFrame(rows, schema=ROWS)


def _rows(
    batch: Sequence[EditSample], asked: Mapping[str, EditRequest], data: Pictures, edited: Pictures
) -> Iterator[dict[str, Any]]:
    there = set(edited.names())
    made = edited.read([one.key for one in batch if one.key in there])
    earlier = [asked[one.key].source for one in batch if asked[one.key].of_edited]
    sources = data.read([asked[one.key].source for one in batch if not asked[one.key].of_edited])
    sources |= edited.read([name for name in earlier if name in there])
    for one in batch:
        row = {"sample": one.key, "task": one.task, "cluster": one.cluster or one.source}
        yield {**row, **_facts(made.get(one.key), sources.get(asked[one.key].source))}


def _facts(edited: bytes | None, source: bytes | None) -> dict[str, Any]:
    if edited is None:
        return {"left_out": MISSING}
    plan = drawn_plan(edited)
    if plan is None:
        return {"left_out": OTHERS}
    if source is None:
        return {"left_out": "the earlier edit that it continues is missing"}
    try:
        return change_facts(decode(source), decode(edited), plan.chain)
    except ValueError as error:
        return {"left_out": str(error)}


def change_figures(frame: pl.DataFrame, *, seed: int = 0) -> dict[str, Any]:
    """Mean of each of FIGURES with its interval over source pictures and `n` of `of`, overall and by task.

    Read `inside` beside `area`: a box around the whole picture holds all change. `left_out`: by reason.
    """
    there = frame.filter(pl.col("left_out").is_null())
    tasks = frame["task"].unique(maintain_order=True).to_list()
    return {
        "pictures": f"{there.height} / {frame.height}",
        "partial": there.height < frame.height,
        "left_out": dict(frame["left_out"].drop_nulls().value_counts(sort=True).iter_rows()),
        **_figures(there, frame.height, seed),
        "tasks": {
            task: _figures(there.filter(pl.col("task") == task), (frame["task"] == task).sum(), seed)
            for task in tasks
        },
    }


def _figures(there: pl.DataFrame, of: int, seed: int) -> dict[str, Any]:
    return {name: mean_of(there, name, cluster="cluster", seed=seed) | {"of": of} for name in FIGURES}
