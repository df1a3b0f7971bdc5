"""The annotator of a shard for as long as a step works, and what a step says about asking models.

Belongs here: opening the configured annotator with the shard's ledger; tokens, cost and estimate as metadata.
Does not belong here: the steps (`assets`) and how models are asked (`got_core.annotate`).
"""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from got_assets.project import Project
from got_assets.reporting import log_progress
from got_core.annotate.config import OpenAIConfig

if TYPE_CHECKING:
    from got_core.annotate.annotator import Annotator
    from got_core.annotate.estimate import Estimate

_SAY_SECONDS = 20.0


def server_config(project: Project) -> OpenAIConfig | None:
    """Settings of the model server; None where none is configured."""
    return project.settings.annotator_config


@contextmanager
def shard_annotator(project: Project, shard: str) -> Iterator["Annotator"]:
    """The configured annotator with the shard's ledger. ValueError where none can read these images."""
    config = server_config(project)
    if config is None:
        yield project.annotator()
        return
    from got_core.annotate.factory import open_annotator

    settings = project.settings
    name, address = settings.annotator_name, settings.ray_address
    with open_annotator(name, project.storage, shard, config, log_progress, address) as annotator:
        yield annotator


def announced(
    project: Project, step: str, rows: int, pictures: pl.DataFrame | None = None, calls: float | None = None
) -> dict[str, Any]:
    """Metadata: what the step will take if nothing is answered yet; said aloud before the first question.

    `pictures` has their `width` and `height`, `calls` is the number of questions a row where it is known.
    Nothing where no model server is asked.
    """
    config = server_config(project)
    if config is None:
        return {}
    from got_core.annotate.estimate import estimate_step

    expected = estimate_step(step, rows, config, pictures, calls)
    log_progress(f"{step}: {_told(expected)}")
    return {
        "estimated_calls": expected.calls,
        "estimated_tokens": expected.tokens_in + expected.tokens_out,
        "estimated_gpu_hours": round(expected.gpu_hours, 4),
        "estimated_cost": round(expected.money, 6),
    }


def asked(frame: pl.DataFrame, annotator: "Annotator") -> dict[str, Any]:
    """Metadata: tokens and cost of the table's answers, whenever they were given, and of the shard so far."""
    spent = getattr(annotator, "spent", None)
    if spent is None:
        return {}
    return {
        "tokens_in": int(frame["tokens_in"].sum()),
        "tokens_out": int(frame["tokens_out"].sum()),
        "cost": round(float(frame["cost"].sum()), 6),
        "requests": annotator.requests,  # type: ignore[attr-defined]
        "answers_from_ledger": annotator.reused,  # type: ignore[attr-defined]
        "shard_tokens": spent.tokens,
        "shard_cost": round(spent.cost, 6),
        "dearest_rows": _dearest(frame),
    }


def progress_of(step: str, shard: str) -> Callable[[int, int], None]:
    """Says how far a step is, every so often; quick steps say nothing."""
    last = [time.monotonic()]

    def progress(done: int, total: int) -> None:
        if time.monotonic() - last[0] > _SAY_SECONDS:
            last[0] = time.monotonic()
            log_progress(f"{step} {shard}: {done} of {total} rows")

    return progress


def _told(expected: "Estimate") -> str:
    return (
        f"{expected.rows} rows, at most about {expected.calls} questions, {expected.tokens_in} tokens to "
        f"read, {expected.tokens_out} to write, {expected.gpu_hours:.2g} GPU hours, "
        f"{expected.money:.4g} of money"
    )


def _dearest(frame: pl.DataFrame) -> dg.MarkdownMetadataValue:
    from got_assets.reporting import markdown_table

    columns = [frame.columns[0], "tokens_in", "tokens_out", "cost"]
    rows = frame.select(columns).sort("cost", "tokens_in", descending=True).head(5)
    return markdown_table(columns, rows.iter_rows())
