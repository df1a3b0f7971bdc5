"""What can be said of an edit's plan without knowing the true one.

Belongs here: whether its text is a chain and a numbered list, has boxes, how much of the picture they cover,
and whether it speaks of what the instruction speaks of. Not here: whether it is right, which nobody knows for
photographs; scenes have that (`planning.edits`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from got_core.chain.boxes import Box
from got_core.chain.edits import is_edit_chain
from got_core.chain.grammar import Chain
from got_core.chain.layout import fill_region
from got_core.evaluate.apart.figures import mean_of
from got_core.evaluate.emu_edit.samples import EditSample
from got_core.evaluate.samples import Plan

PLAN_COLUMNS: dict[str, pl.DataType] = {
    "sample": pl.String(),
    "task": pl.String(),
    "cluster": pl.String(),
    "instruction": pl.String(),
    "chain": pl.String(),
    "parses": pl.Boolean(),
    "listed": pl.Boolean(),
    "has_boxes": pl.Boolean(),
    "inside": pl.Boolean(),
    "area": pl.Float64(),
    "named": pl.Float64(),
    "unnamed": pl.List(pl.String()),
    "malformed": pl.List(pl.String()),
}
"""`parses`: nothing had to be dropped from its text; `listed`: it is the numbered list that edits are trained
on; `inside`: it has boxes and none reaches out of the picture; `area`: share of the picture that its boxes
cover together; `named`: share of the instruction's words that it has too; all null where there is no plan."""

FIGURES = ("parses", "listed", "has_boxes", "inside", "area", "named")

_RASTER = 250
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
_COMMON = frozenset(
    _WORD.findall("""
    a about above add added after all also an and any are around as at back background be become
    behind below beside between but by can change changed color colour convert could delete
    different do does down edit erase for from front generate get give has have her here his how i
    image in insert inside instead into is it its just let like look looks make making modify more
    move my near next no not of off on one only onto or other our out over paint photo picture place
    please put remove replace replaced scene set should show side so some swap take than that the
    their them then there these they this those to turn under up us use want was we were what where
    which while will with without would you your
    """)
)
"""Words that say what to do or hold a sentence together: no object is meant by them."""


def edit_plan_rows(samples: Sequence[EditSample], plans: Mapping[str, Plan]) -> pl.DataFrame:
    """One row (PLAN_COLUMNS) for each sample. `plans`: by the samples' keys."""
    rows = []
    for one in samples:
        about = {"sample": one.key, "task": one.task, "cluster": one.cluster or one.source}
        plan = plans.get(one.key)
        said = edit_plan_facts(plan, one.instruction) if plan else {}
        rows.append({**about, "instruction": one.instruction, **said})
    return pl.DataFrame(rows, schema=PLAN_COLUMNS)


def edit_plan_facts(plan: Plan, instruction: str) -> dict[str, Any]:
    """The columns of a plan."""
    boxes = [placed.box for placed in plan.chain.boxes]
    wanted = spoken_of(instruction)
    unnamed = sorted(wanted - spoken_of(plan.chain.to_data()))
    return {
        "chain": plan.chain.to_data(),
        "parses": not plan.dropped,
        "listed": is_edit_chain(plan.chain),
        "has_boxes": bool(boxes),
        "inside": bool(boxes) and not any(one.reason.startswith("coordinate") for one in plan.dropped),
        "area": float(covered(boxes, _RASTER, _RASTER).mean()) if boxes else None,
        "named": 1 - len(unnamed) / len(wanted) if wanted else None,
        "unnamed": unnamed,
        "malformed": [one.reason for one in plan.dropped],
    }


def spoken_of(text: str) -> set[str]:
    """Words of a text by which something may be meant, without plural endings."""
    words = _WORD.findall(text.lower())
    return {_singular(word) for word in words if word not in _COMMON and len(word) > 2}


def _singular(word: str) -> str:
    """Such that a word and its plural are the same; the result need be no word."""
    word = word.removesuffix("'s")
    for ending, instead in (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh")):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word.removesuffix(ending) + instead
    return word if word.endswith(("ss", "us", "is")) or len(word) < 4 else word.removesuffix("s")


def covered(boxes: Sequence[Box], height: int, width: int) -> np.ndarray:
    """(height, width) bool: the pixels that boxes paint."""
    mask = np.zeros((height, width), bool)
    for box in boxes:
        mask[fill_region(box, height, width)] = True
    return mask


def planned_area(chain: Chain, height: int, width: int) -> np.ndarray:
    """`covered` of a chain's boxes."""
    return covered([placed.box for placed in chain.boxes], height, width)


def edit_plan_figures(frame: pl.DataFrame, *, seed: int = 0) -> dict[str, Any]:
    """Mean of each of FIGURES with its interval over source pictures and `n` of `of`, overall and by task.

    None says that a plan is right: a plan may parse, name everything and still point at the wrong place.
    """
    tasks = frame["task"].unique(maintain_order=True).to_list()
    written = frame.filter(pl.col("parses").is_not_null()).height
    return {
        "plans": f"{written} / {frame.height}",
        "partial": written < frame.height,
        **_figures(frame, seed),
        "tasks": {task: _figures(frame.filter(pl.col("task") == task), seed) for task in tasks},
    }


def _figures(frame: pl.DataFrame, seed: int) -> dict[str, Any]:
    table = frame.with_columns(pl.col(name).cast(pl.Float64) for name in FIGURES)
    return {name: mean_of(table, name, cluster="cluster", seed=seed) for name in FIGURES}
