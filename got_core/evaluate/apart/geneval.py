"""GenEval, planned and drawn apart.

    plans = write_geneval_plans(samples, pipeline, kept)
    frame = judge_plans(samples, plans, benchmark.rules)
    scores = plan_scores(benchmark, frame, protocol=plan_protocol(benchmark, samples))

    rows, figures = pictures_and_plans(benchmark, samples, folder, verdicts)

Belongs here: the steps together. Not here: the steps themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from got_core.evaluate.apart.followed import drawn_from, followed_figures, followed_rows
from got_core.evaluate.apart.geneval_plans import judge_plans, plan_protocol, plan_scores
from got_core.evaluate.apart.words import PhraseReader
from got_core.evaluate.apart.writing import KeptPlans, PlanRequest, write_plans
from got_core.evaluate.drawers.drawer import PipelineOrDrawer
from got_core.evaluate.geneval.benchmark import GenEval
from got_core.evaluate.geneval.prompts import Samples
from got_core.evaluate.samples import Plan, Progress

if TYPE_CHECKING:
    from got_core.storage import Storage


@dataclass(frozen=True)
class JudgedPlans:
    """Plans of a whole list, without any picture."""

    frame: pl.DataFrame
    """One row a prompt."""

    scores: dict[str, Any]


def plans_of_geneval(
    benchmark: GenEval,
    samples: Samples,
    pipeline: PipelineOrDrawer,
    store: Storage,
    *,
    prefix: str = "plans",
    weights_hash: str | None = None,
    sampler: Mapping[str, Any] | None = None,
    reader: PhraseReader | None = None,
    progress: Progress | None = None,
) -> JudgedPlans:
    """Write the plan of every prompt, or find it in `store`, and judge it by GenEval's rules; nothing is
    drawn.

    `sampler`: of it only `max_new_tokens` counts. Raises ValueError for a model that writes no plans.
    """
    tokens = (sampler or {}).get("max_new_tokens")
    kept = KeptPlans(store, prefix, weights_hash, tokens)
    plans = write_geneval_plans(
        samples, pipeline, kept, batch_size=benchmark.config.batch_size, progress=progress
    )
    frame = judge_plans(samples, plans, benchmark.rules, reader)
    planning = {} if tokens is None else {"max_new_tokens": tokens}
    protocol = plan_protocol(benchmark, samples, reader=reader, sampler=planning)
    return JudgedPlans(frame, plan_scores(benchmark, frame, protocol=protocol))


def write_geneval_plans(
    samples: Samples,
    pipeline: PipelineOrDrawer,
    kept: KeptPlans,
    *,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> dict[int, Plan]:
    """The plan of every prompt, by the prompts' numbers (see `writing.write_plans`)."""
    requests = [PlanRequest(id=str(number), prompt=row["prompt"]) for number, row in enumerate(samples.rows)]
    batches = _batches(requests, batch_size)
    plans = write_plans(pipeline, batches, kept, progress, total=len(requests))
    return {int(number): plan for number, plan in plans.items()}


def _batches(requests: Sequence[PlanRequest], size: int) -> Iterator[Sequence[PlanRequest]]:
    return (requests[start : start + size] for start in range(0, len(requests), size))


def pictures_and_plans(
    benchmark: GenEval,
    samples: Samples,
    folder: Storage,
    verdicts: pl.DataFrame,
    *,
    reader: PhraseReader | None = None,
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Judged pictures against the plans in their files: rows (`followed.ROWS`) and figures.

    `folder`: where the pictures are; `verdicts`: of `GenEval.judge`. For pictures that were drawn from plans;
    those of other programs have none and are left out, counted in `left_out`.
    """
    rows = followed_rows(samples, verdicts, drawn_from(folder, verdicts), benchmark.rules, reader)
    return rows, followed_figures(rows, seed=benchmark.config.seed)
