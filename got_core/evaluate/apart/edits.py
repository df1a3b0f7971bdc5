"""Edits of photographs, planned and drawn apart.

    frame, figures = plans_of_edits(bench, samples, pipeline, store, weights_hash="0123456789ab")
    rows, figures = pictures_and_plans(bench, samples, bench.read_layout(samples, "edited"))

Belongs here: the steps together, for any benchmark of edits. Not here: the steps themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from got_core.evaluate.apart.changes import change_figures, change_rows
from got_core.evaluate.apart.edit_plans import edit_plan_figures, edit_plan_rows
from got_core.evaluate.apart.writing import KeptPlans, PlanRequest, write_plans
from got_core.evaluate.drawers.drawer import PipelineOrDrawer
from got_core.evaluate.emu_edit.benchmark import EditBenchmark
from got_core.evaluate.emu_edit.measuring import decode
from got_core.evaluate.emu_edit.samples import EditSample, EditSamples, Pictures
from got_core.evaluate.samples import Progress

if TYPE_CHECKING:
    from got_core.storage import Storage


def plans_of_edits(
    benchmark: EditBenchmark,
    samples: EditSamples,
    pipeline: PipelineOrDrawer,
    store: Storage,
    *,
    prefix: str = "plans",
    weights_hash: str | None = None,
    sampler: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Write the plan of every edit of a picture of the data, or find it in `store`; rows
    (`edit_plans.PLAN_COLUMNS`) and figures. Nothing is drawn.

    Edits that continue a model's own earlier picture cannot be planned before that is drawn: they are no part
    of it. Raises ValueError for a model that writes no plans, and for a source that cannot be read, which a
    partial benchmark leaves out.
    """
    direct = {one.key for one in benchmark.requests(samples) if not one.of_edited}
    chosen = [one for one in samples.samples if one.key in direct]
    kept = KeptPlans(store, prefix, weights_hash, (sampler or {}).get("max_new_tokens"))
    batches = _batches(samples, chosen, benchmark.batch_size, partial=benchmark.partial)
    plans = write_plans(pipeline, batches, kept, progress, total=len(chosen))
    frame = edit_plan_rows(chosen, plans)
    return frame, edit_plan_figures(frame, seed=benchmark.seed)


def _batches(
    samples: EditSamples, chosen: Sequence[EditSample], size: int, *, partial: bool
) -> Iterator[Sequence[PlanRequest]]:
    for start in range(0, len(chosen), size):
        batch = chosen[start : start + size]
        sources = samples.pictures.read([one.source for one in batch])
        yield [
            PlanRequest(id=one.key, prompt=one.instruction, source=sources[one.source])
            for one in batch
            if not partial or _readable(sources[one.source])
        ]


def _readable(data: bytes) -> bool:
    try:
        decode(data)
    except ValueError:
        return False
    return True


def pictures_and_plans(
    benchmark: EditBenchmark, samples: EditSamples, edited: Pictures
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Where edited pictures differ from their sources, against the boxes of the plans in their files: rows
    (`changes.ROWS`) and figures."""
    rows = change_rows(samples.samples, benchmark.requests(samples), samples.pictures, edited)
    return rows, change_figures(rows, seed=benchmark.seed)
