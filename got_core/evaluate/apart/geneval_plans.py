"""GenEval's rules over plans: the boxes that a model writes stand for what a detector would find.

Belongs here: the verdict on a plan, its table, protocol and scores. Not here: writing plans (`writing`), the
rules (`planning.geneval`), or pictures (`followed`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from got_core.chain.boxes import LIMIT
from got_core.evaluate.apart.drawn import spelled
from got_core.evaluate.apart.figures import mean_of
from got_core.evaluate.apart.words import PhraseReader
from got_core.evaluate.geneval.benchmark import NAMED, GenEval
from got_core.evaluate.geneval.prompts import Samples
from got_core.evaluate.protocol import Protocol, protocol_figures
from got_core.evaluate.samples import Plan
from got_core.evaluate.scores import IncompleteRunError
from got_core.planning.geneval import Detection, GenEvalRules, evaluate_image

VERSION = 1
"""Raise when the same plans get other verdicts (words, rules and prompts are in the protocol)."""

SQUARE = (LIMIT, LIMIT)
"""Width and height of a picture of whatever size with equal sides."""

PLAN_COLUMNS: dict[str, pl.DataType] = {
    "sample_id": pl.String(),
    "prompt_index": pl.Int32(),
    "task": pl.String(),
    "prompt": pl.String(),
    "chain": pl.String(),
    "correct": pl.Boolean(),
    "unscored": pl.String(),
    "failed": pl.List(pl.String()),
    "reason": pl.String(),
    "boxes": pl.Int32(),
    "objects": pl.String(),
    "unread": pl.List(pl.String()),
    "malformed": pl.Int32(),
}
"""`correct` is null where `unscored` says why; `failed`: the checks that failed (count, color, position);
`objects`: [class, colour, box in chain units] of each box that is read as one, as JSON; `unread`: phrases of
boxes that name no known class; `malformed`: things written that no chain can hold."""

NO_PLAN = "there is no plan of it"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanVerdict:
    """What GenEval's rules say of a plan."""

    objects: tuple[Detection, ...]
    """In pixels of a picture, as written."""

    unread: tuple[str, ...]
    failed: tuple[str, ...]
    reasons: tuple[str, ...]

    @property
    def correct(self) -> bool:
        """Whether nothing failed."""
        return not self.failed


def judge_plan(
    plan: Plan,
    row: Mapping[str, Any],
    reader: PhraseReader,
    rules: GenEvalRules,
    size: tuple[float, float] = SQUARE,
) -> PlanVerdict:
    """The verdict on a plan for a row of the list; `size`: the picture's, whose aspect matters to relations.

    Boxes without an area plan nothing. Where more objects of a class are planned than asked for, those that
    were written first are judged, as a detector's best ones are.
    """
    objects, unread = planned(plan, reader, size)
    verdict = evaluate_image(reversed(objects), row, rules)  # of equal scores the rules take the last first
    return PlanVerdict(
        objects=tuple(objects),
        unread=tuple(unread),
        failed=tuple(clause.failed for clause in verdict.clauses if clause.failed),
        reasons=tuple(verdict.reasons),
    )


def planned(
    plan: Plan, reader: PhraseReader, size: tuple[float, float] = SQUARE
) -> tuple[list[Detection], list[str]]:
    """The objects of a plan, with score 1, and the phrases of boxes that name no known class."""
    objects, unread = [], []
    for placed in plan.chain.boxes:
        cls, color = reader.read(placed.phrase)
        if cls is None:
            unread.append(placed.phrase)
        elif placed.box.area:
            objects.append(Detection(cls, 1.0, placed.box.to_pixels(*size), color))
    return objects, unread


def judge_plans(
    samples: Samples,
    plans: Mapping[int, Plan],
    rules: GenEvalRules,
    reader: PhraseReader | None = None,
    size: tuple[float, float] = SQUARE,
) -> pl.DataFrame:
    """One row (PLAN_COLUMNS) for each prompt of the list. `plans`: by the prompts' numbers."""
    reader = reader or PhraseReader(samples.classes)
    rows = []
    for number, row in enumerate(samples.rows):
        about = {"sample_id": f"{number:05d}", "prompt_index": number, "task": row["tag"]}
        judged = _row(plans[number], row, reader, rules, size) if number in plans else {"unscored": NO_PLAN}
        rows.append({**about, "prompt": row["prompt"], **judged})
    return pl.DataFrame(rows, schema=PLAN_COLUMNS)


def _row(
    plan: Plan, row: Mapping[str, Any], reader: PhraseReader, rules: GenEvalRules, size: tuple[float, float]
) -> dict[str, Any]:
    verdict = judge_plan(plan, row, reader, rules, size)
    shown, _ = planned(plan, reader)
    return {
        "chain": plan.chain.to_data(),
        "correct": verdict.correct,
        "failed": list(verdict.failed),
        "reason": "; ".join(verdict.reasons) or None,
        "boxes": len(plan.chain.boxes),
        "objects": spelled([[one.cls, one.color, one.box] for one in shown]),
        "unread": list(verdict.unread),
        "malformed": len(plan.dropped),
    }


def plan_protocol(
    benchmark: GenEval,
    samples: Samples,
    *,
    reader: PhraseReader | None = None,
    sampler: Mapping[str, Any] | None = None,
) -> Protocol:
    """All that scores of plans depend on besides the model. `sampler`: what was forced on the planner."""
    own_list = [] if samples.published else [f"prompts-{samples.sha256[:12]}"]
    return Protocol(
        name="/".join([benchmark.name, "plans", *own_list]),
        version=VERSION,
        rules={**dataclasses.asdict(benchmark.rules), "first": "objects written first"},
        detector={"name": "the plan's boxes", **(reader or PhraseReader(samples.classes)).record()},
        sampler=dict(sampler or {}),
        aggregation={
            "task": "mean over prompts",
            "overall": f"plain mean of {', '.join(samples.tasks)}",
            "interval": f"95 % percentile bootstrap over prompts, {benchmark.config.bootstrap} resamples",
        },
        samples=samples.record() | {"images_per_prompt": 1},
        plan=True,
    )


def plan_scores(
    benchmark: GenEval, frame: pl.DataFrame, *, protocol: Protocol | None = None, partial: bool = False
) -> dict[str, Any]:
    """Share of right plans by task and overall, as `GenEval.scores` gives it for pictures, and `plans`: mean
    numbers of boxes, unread phrases and malformed text, and which checks failed.

    Raises IncompleteRunError, which names prompts, while one has no plan, unless `partial`.
    """
    without = frame.filter(pl.col("correct").is_null())
    if without.height and not partial:
        names = [f"{one['sample_id']} ({one['unscored']})" for one in without.head(NAMED).to_dicts()]
        more = f" and {without.height - NAMED} more" if without.height > NAMED else ""
        raise IncompleteRunError(
            f"{frame.height - without.height} / {frame.height} prompts have a plan; not judged: "
            f"{', '.join(names)}{more}; write the rest, or ask for a partial score"
        )
    scores = benchmark.scores(frame, protocol=protocol, partial=partial)
    tasks = {
        name: one | {"failed": failed_checks(frame.filter(pl.col("task") == name)["failed"])}
        for name, one in scores["tasks"].items()
    }
    named = protocol_figures(protocol) if protocol else {}
    return {**scores, **named, "tasks": tasks, "plans": _figures(frame, benchmark.config.seed)}


def _figures(frame: pl.DataFrame, seed: int) -> dict[str, Any]:
    written = frame.filter(pl.col("correct").is_not_null())
    shares = {
        "boxes": pl.col("boxes"),
        "without_boxes": pl.col("boxes") == 0,
        "unread": pl.col("unread").list.len() > 0,
        "malformed": pl.col("malformed") > 0,
    }
    table = written.select("prompt_index", **{name: one.cast(pl.Float64) for name, one in shares.items()})
    figures = {name: mean_of(table, name, cluster="prompt_index", seed=seed) for name in shares}
    return {**figures, "failed": failed_checks(frame["failed"])}


def failed_checks(failed: pl.Series | Sequence[Sequence[str]]) -> dict[str, int]:
    """How many clauses failed by each check."""
    flat = pl.Series(failed, dtype=pl.List(pl.String)).explode().drop_nulls()
    return dict(flat.value_counts(sort=True).iter_rows())
