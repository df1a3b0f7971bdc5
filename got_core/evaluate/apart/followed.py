"""Pictures set against the plans that they were drawn from: objects in their places, wrong pictures by cause.

Belongs here: one row a judged picture of GenEval, and what the rows come to. Not here: the verdict on a plan
(`geneval_plans`), finding objects (`evaluate.geneval`).

How well a picture keeps to its plan is measured whether or not the plan is right.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from PIL import Image
from scipy.optimize import linear_sum_assignment

from got_core.evaluate.apart.drawn import drawn_plan
from got_core.evaluate.apart.figures import mean_of, ratio_of
from got_core.evaluate.apart.geneval_plans import failed_checks, judge_plan
from got_core.evaluate.apart.words import PhraseReader
from got_core.evaluate.geneval.layout import read_files
from got_core.evaluate.geneval.prompts import Samples
from got_core.evaluate.samples import Plan
from got_core.evaluate.scores import failure_of
from got_core.planning.geneval import Detection, GenEvalRules
from got_core.planning.objects import iou

if TYPE_CHECKING:
    from got_core.storage import Storage

FOUND_IOU = 0.5
"""Overlap from which on a planned object counts as found in its place."""

OTHERS = "its file says of no plan: another program drew it"
CAUSES = ("planned_wrong", "drawn_wrong")

ROWS: dict[str, pl.DataType] = {
    "sample_id": pl.String(),
    "prompt_index": pl.Int32(),
    "task": pl.String(),
    "correct": pl.Boolean(),
    "left_out": pl.String(),
    "chain": pl.String(),
    "plan_correct": pl.Boolean(),
    "plan_failed": pl.List(pl.String()),
    "plan_reason": pl.String(),
    "failure": pl.String(),
    "planned": pl.Int32(),
    "in_place": pl.Int32(),
    "iou": pl.Float64(),
    "colored": pl.Int32(),
    "colors_agree": pl.Int32(),
    "unread": pl.Int32(),
}
"""`left_out`: why nothing is said of a picture; `failure`: `planned_wrong` or `drawn_wrong`; `planned`:
objects of the prompt's classes in the plan; `in_place`: those found there (FOUND_IOU); `iou`: sum over the
planned ones; `colored`: planned and found pairs that both have a colour, `colors_agree`: the same one."""


@dataclass(frozen=True)
class DrawnFrom:
    """What a picture was drawn from, and its width and height in pixels."""

    plan: Plan | None
    size: tuple[int, int]


def drawn_from(folder: Storage, verdicts: pl.DataFrame) -> dict[str, DrawnFrom]:
    """What the files of judged pictures say, by the samples' ids; pixels are not read."""
    there = verdicts.filter(pl.col("image").is_not_null())
    names = dict(there.select("image", "sample_id").iter_rows())
    found = {}
    for name, data in read_files(folder, list(names)):
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            found[names[name]] = DrawnFrom(drawn_plan(data), image.size)
    return found


def followed_rows(
    samples: Samples,
    verdicts: pl.DataFrame,
    drawn: Mapping[str, DrawnFrom],
    rules: GenEvalRules,
    reader: PhraseReader | None = None,
) -> pl.DataFrame:
    """One row (ROWS) for each verdict of `GenEval.judge`.

    Left out, with the reason: pictures without a verdict, and those whose file says of no plan. An empty plan
    is one without boxes, so it is wrong; do not ask about pictures that were drawn without plans.
    """
    reader = reader or PhraseReader(samples.classes)
    rows = []
    for row in verdicts.iter_rows(named=True):
        one = drawn.get(row["sample_id"])
        about = {name: row[name] for name in ("sample_id", "prompt_index", "task", "correct")}
        reason = row["unscored"] or (None if one and one.plan else OTHERS)
        if reason or one is None or one.plan is None:
            rows.append({**about, "left_out": reason})
        else:
            asked = samples.rows[row["prompt_index"]]
            rows.append({**about, **_followed(row, one.plan, one.size, asked, reader, rules)})
    return pl.DataFrame(rows, schema=ROWS)


def _followed(
    row: Mapping[str, Any],
    plan: Plan,
    size: tuple[int, int],
    asked: Mapping[str, Any],
    reader: PhraseReader,
    rules: GenEvalRules,
) -> dict[str, Any]:
    verdict = judge_plan(plan, asked, reader, rules, size)
    spoken = {clause["class"] for kind in ("include", "exclude") for clause in asked.get(kind, ())}
    objects = [one for one in verdict.objects if one.cls in spoken]
    return {
        "chain": plan.chain.to_data(),
        "plan_correct": verdict.correct,
        "plan_failed": list(verdict.failed),
        "plan_reason": "; ".join(verdict.reasons) or None,
        "failure": failure_of(drawn=True, correct=row["correct"], plan_correct=verdict.correct),
        "planned": len(objects),
        "unread": len(verdict.unread),
        **overlaps(objects, found_objects(row["found"])),
    }


def found_objects(text: str) -> list[Detection]:
    """The detections of a verdict's column `found`."""
    return [Detection(cls, score, tuple(box), color) for cls, score, box, color in json.loads(text)]


def overlaps(planned: Sequence[Detection], found: Sequence[Detection]) -> dict[str, Any]:
    """The best one-to-one match of planned and found objects of one class, by the sum of their IoU."""
    pairs = list(_pairs(planned, found))
    overlap = [iou(plan.box, one.box) for plan, one in pairs]
    colored = [(plan.color, one.color) for plan, one in pairs if plan.color and one.color]
    return {
        "in_place": sum(value >= FOUND_IOU for value in overlap),
        "iou": float(sum(overlap)),
        "colored": len(colored),
        "colors_agree": sum(plan == one for plan, one in colored),
    }


def _pairs(planned: Sequence[Detection], found: Sequence[Detection]) -> Iterable[tuple[Detection, Detection]]:
    for cls in dict.fromkeys(one.cls for one in planned):
        left = [one for one in planned if one.cls == cls]
        right = [one for one in found if one.cls == cls]
        overlap = np.array([[iou(plan.box, one.box) for one in right] for plan in left]).reshape(
            len(left), len(right)
        )
        for row, column in zip(*linear_sum_assignment(-overlap), strict=True):
            if overlap[row, column] > 0:
                yield left[row], right[column]


# -- figures -----------------------------------------------------------------------------------------


def followed_figures(rows: pl.DataFrame, *, seed: int = 0) -> dict[str, Any]:
    """What the rows come to, overall and by task under `tasks`.

    `pictures`: n / N; `left_out`: pictures of which nothing is said, by reason; `plan_right`: share of
    pictures whose plan is right; `right_of_right_plans` and `right_of_wrong_plans`: share of right pictures
    among those of right and of wrong plans; `failed`: failed checks of plans;
    `planned_wrong` and `drawn_wrong`: wrong pictures by cause;
    `in_place`: share of planned objects that are found in their place; `iou`: mean over planned objects, 0
    for those not found; `colors_agree`: share among found objects of which both colours are known. Shares
    have 95 % intervals over prompts.
    """
    tasks = rows["task"].unique(maintain_order=True).to_list()
    return {
        **_figures(rows, seed),
        "tasks": {task: _figures(rows.filter(pl.col("task") == task), seed) for task in tasks},
    }


def _figures(rows: pl.DataFrame, seed: int) -> dict[str, Any]:
    there = rows.filter(pl.col("left_out").is_null())
    options: dict[str, Any] = {"cluster": "prompt_index", "seed": seed}
    reasons = rows["left_out"].drop_nulls().value_counts(sort=True)
    return {
        "pictures": f"{there.height} / {rows.height}",
        "partial": there.height < rows.height,
        "left_out": dict(reasons.iter_rows()),
        "plan_right": mean_of(there, "plan_correct", **options),
        "right_of_right_plans": mean_of(there.filter("plan_correct"), "correct", **options),
        "right_of_wrong_plans": mean_of(there.filter(~pl.col("plan_correct")), "correct", **options),
        "failed": failed_checks(there["plan_failed"]),
        **{cause: int((there["failure"] == cause).sum()) for cause in CAUSES},
        "in_place": ratio_of(there, "in_place", "planned", **options),
        "iou": ratio_of(there, "iou", "planned", **options),
        "colors_agree": ratio_of(there, "colors_agree", "colored", **options),
    }
