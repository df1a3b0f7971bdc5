"""The annotator of a shard for as long as a step works, and the metadata of a step that sends requests.

Belongs here: opening the configured annotator with the shard's ledger, running one step with it, tokens, cost
and estimate as metadata. Does not belong here: the steps (`assets`), figures of their tables (`figures`) and
how requests are sent (`got_core.annotate`).
"""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl

from got_assets.project import Project
from got_assets.reporting import Metadata, log_progress, markdown_table, reason_counts, table_result
from got_core.annotate.config import OpenAIConfig

if TYPE_CHECKING:
    from got_core.annotate.annotator import Annotator
    from got_core.annotate.estimate import Estimate

Progress = Callable[[int, int], None]
StepFunction = Callable[["Annotator", Progress], pl.DataFrame]
"""Makes a step's table, given the shard's annotator and what to call with (rows done, rows in all)."""

_PROGRESS_SECONDS = 20.0


def annotate_step(
    context: dg.AssetExecutionContext,
    project: Project,
    rows: pl.DataFrame,
    step: StepFunction,
    *,
    pictures: pl.DataFrame | None = None,
    requests_per_row: float | None = None,
    details: Callable[[pl.DataFrame], Metadata] = lambda _: {},
) -> dg.MaterializeResult[pl.DataFrame]:
    """Run a step that sends requests to models on one shard: its table, with counts, estimate and cost.

    `rows` without an error are what the step works on; `pictures` and `requests_per_row` as in
    `estimate_metadata`. `details` makes the metadata of this step alone from its table.
    """
    started, shard, name = time.monotonic(), context.partition_key, context.asset_key.to_user_string()
    rows_in = good_rows(rows)
    expected = estimate_metadata(project, name, rows_in, pictures, requests_per_row)
    with shard_annotator(project, shard) as annotator:
        frame = step(annotator, progress_logger(name, shard))
    return table_result(
        frame,
        rows_in=rows_in,
        started=started,
        reasons=reason_counts(frame),
        **details(frame),
        **expected,
        **request_counts(frame, annotator),
    )


def good_rows(frame: pl.DataFrame) -> int:
    """Number of rows without an error."""
    return frame.height - frame["error"].count()


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
    name, address, slots = settings.annotator_name, settings.ray_address, settings.home / "slots"
    with open_annotator(name, project.storage, shard, config, log_progress, address, slots) as annotator:
        yield annotator


def estimate_metadata(
    project: Project,
    step: str,
    rows: int,
    pictures: pl.DataFrame | None = None,
    requests_per_row: float | None = None,
) -> Metadata:
    """What the step will take if the ledger is empty, as metadata; also logged, before the first request.

    `pictures` has their `width` and `height`; `requests_per_row` is given where it is known. Empty where no
    model server is configured.
    """
    config = server_config(project)
    if config is None:
        return {}
    from got_core.annotate.estimate import estimate_step

    expected = estimate_step(step, rows, config, pictures, requests_per_row)
    log_progress(f"{step}: {_estimate_text(expected)}")
    return {
        "estimated_calls": expected.calls,
        "estimated_tokens": expected.tokens_in + expected.tokens_out,
        "estimated_gpu_hours": round(expected.gpu_hours, 4),
        "estimated_cost": round(expected.money, 6),
    }


def request_counts(frame: pl.DataFrame, annotator: "Annotator") -> Metadata:
    """Requests, tokens and cost as metadata: of the table's answers, whenever they came, and of the shard."""
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
        "dearest_rows": _dearest_rows(frame),
    }


def progress_logger(step: str, shard: str) -> Progress:
    """Logs how far a step is, every so often; quick steps log nothing."""
    last = [time.monotonic()]

    def progress(done: int, total: int) -> None:
        if time.monotonic() - last[0] > _PROGRESS_SECONDS:
            last[0] = time.monotonic()
            log_progress(f"{step} {shard}: {done} of {total} rows")

    return progress


def _estimate_text(expected: "Estimate") -> str:
    return (
        f"{expected.rows} rows, at most about {expected.calls} questions, {expected.tokens_in} tokens to "
        f"read, {expected.tokens_out} to write, {expected.gpu_hours:.2g} GPU hours, "
        f"{expected.money:.4g} of money"
    )


def _dearest_rows(frame: pl.DataFrame) -> dg.MarkdownMetadataValue:
    columns = [frame.columns[0], "tokens_in", "tokens_out", "cost"]
    rows = frame.select(columns).sort("cost", "tokens_in", descending=True).head(5)
    return markdown_table(columns, rows.iter_rows())
