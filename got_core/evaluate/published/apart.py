"""Planning and drawing apart for any opened benchmark.

    planned = plans_of(opened, pipeline, storage, prefix="plans", weights_hash="0123456789ab")
    drawn = pictures_of(opened, folder, opened.judge(folder, store=storage, prefix="judged"))
    scores = with_apart(scores, drawn)

Belongs here: choosing what fits a benchmark. Not here: how it is done (`evaluate.apart`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import polars as pl

from got_core.evaluate.apart import edits, geneval
from got_core.evaluate.drawers.drawer import PipelineOrDrawer
from got_core.evaluate.published.edits import OpenedEdits
from got_core.evaluate.published.pictures import OpenedGenEval
from got_core.evaluate.samples import Progress
from got_core.evaluate.scores import FAILURES

if TYPE_CHECKING:
    from got_core.storage import Storage


@dataclass(frozen=True)
class Apart:
    """One side of it: plans, or pictures against plans."""

    rows: pl.DataFrame
    """One row a plan or picture."""

    figures: dict[str, Any]
    """Plain JSON. Of GenEval's plans these are scores with a protocol, of all else shares with intervals."""


class NothingApartError(ValueError):
    """A benchmark of which planning and drawing cannot be told apart."""


def plans_of(
    opened: Any,
    pipeline: PipelineOrDrawer,
    store: Storage,
    *,
    prefix: str,
    weights_hash: str | None = None,
    sampler: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Apart:
    """Write a plan for each prompt of a benchmark, or find it in `store`, and judge it; nothing is drawn.

    Raises NothingApartError for a benchmark that says nothing about plans, ValueError for a model that writes
    none.
    """
    options: dict[str, Any] = {
        "prefix": prefix,
        "weights_hash": weights_hash,
        "sampler": sampler,
        "progress": progress,
    }
    if isinstance(opened, OpenedGenEval):
        judged = geneval.plans_of_geneval(opened.benchmark, opened.samples, pipeline, store, **options)
        return Apart(judged.frame, {"benchmark": opened.name, **judged.scores})
    if isinstance(opened, OpenedEdits):
        rows, figures = edits.plans_of_edits(opened.benchmark, opened.samples, pipeline, store, **options)
        return Apart(rows, {"benchmark": opened.name, **figures})
    raise NothingApartError(
        f"{opened.name} does not say what a plan has to show: plans are judged alone for geneval, emu_edit "
        "and magicbrush, and with their pictures for scenes"
    )


def pictures_of(opened: Any, folder: Storage, frame: pl.DataFrame) -> Apart | None:
    """Judged pictures of a folder against the plans in their files; None for a benchmark that has no such
    figures, or has them in its scores.

    `frame`: what `opened.judge` gave for the folder. For pictures that were drawn from plans; those of other
    programs are left out and counted.
    """
    if isinstance(opened, OpenedGenEval):
        return Apart(*geneval.pictures_and_plans(opened.benchmark, opened.samples, folder, frame))
    if isinstance(opened, OpenedEdits):
        bench = replace(opened.benchmark, partial=True)
        edited = bench.read_layout(opened.samples, folder)
        return Apart(*edits.pictures_and_plans(bench, opened.samples, edited))
    return None


TABLE = "apart"
"""Name, beside the scores, of the table of pictures against their plans."""

_CAUSES = ("plan_correct", "plan_faults", *FAILURES)


def with_apart(scores: Mapping[str, Any], apart: Apart | None) -> dict[str, Any]:
    """Scores with the figures under `apart`.

    Those of GenEval also get what the benchmarks on scenes have, by task and in all: `plan_correct`,
    `plan_faults`, wrong pictures by cause, and `plan_overall`; only where every picture has a plan, so that
    the causes add up.
    """
    if apart is None:
        return dict(scores)
    made = {**scores, "apart": apart.figures}
    if "failure" not in apart.rows.columns or apart.figures["partial"]:
        return made
    parts = apart.figures["tasks"]
    tasks = {name: {**one, **_causes(parts[name])} for name, one in scores["tasks"].items()}
    shares = [one["plan_correct"] for one in tasks.values()]
    return {**made, "tasks": tasks, **_causes(apart.figures), "plan_overall": sum(shares) / len(shares)}


def _causes(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Under the names of `scores.plan_figures`."""
    values = (figures["plan_right"]["mean"], figures["failed"], *(figures.get(one, 0) for one in FAILURES))
    return dict(zip(_CAUSES, values, strict=True))
