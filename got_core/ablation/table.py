"""What the ablation says: one line a row, mean and spread over the seeds, and a plot of it.

Belongs here: arithmetic over a table of trials, its text and its picture. Not here: making trials (`trials`).
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from got_core.ablation.config import ROWS
from got_core.ablation.schemas import TABLE
from got_core.evaluate.protocol import UnlikeProtocolsError
from got_core.planning.geneval import TASKS

HEADER = (
    "row",
    "runs",
    "score",
    *(task.replace("_", " ") for task in TASKS),
    "plans right",
    "edits",
    "edit plans right",
    "edit trace",
    "steps",
    "CPU s",
    "published",
)
"""Column heads of `spelled`."""

_OTHERS = ("plans_right", "edits", "edit_plans_right", "edit_trace")
"""Columns between the tasks and the steps."""

MEASURED, EDITS, POINT, PUBLISHED = "#3a78b5", "#4f9d69", "#1b2a38", "#b9c4ce"


def summarise(trials: pl.DataFrame) -> pl.DataFrame:
    """The rows of the ablation with TABLE, in the order of the trials' table.

    Raises UnlikeProtocolsError where trials were scored under different protocols, ValueError without trials.
    """
    if trials.is_empty():
        raise ValueError("the table of trials is empty; make the asset `ablation_runs` first")
    protocols = trials["protocol_digest"].unique().sort().to_list()
    if len(protocols) > 1:
        raise UnlikeProtocolsError(
            f"the trials were scored under the protocols {', '.join(protocols)}; make `ablation_runs` again"
        )
    lines = trials.group_by("row", maintain_order=True).agg(
        runs=pl.len().cast(pl.Int64),
        mean=pl.col("overall").mean(),
        spread=pl.col("overall").std(),
        **{name: pl.col(name).mean() for name in (*TASKS, *_OTHERS, "cpu_seconds")},
        steps=pl.col("steps").max(),
        most_cpu_seconds=pl.col("cpu_seconds").max(),
    )
    titles, published = (
        {name: getattr(row, field) for name, row in ROWS.items()} for field in ("title", "published")
    )
    return lines.with_columns(
        title=pl.col("row").replace_strict(titles, return_dtype=pl.String),
        published=pl.col("row").replace_strict(published, return_dtype=pl.Float64),
    ).select(*TABLE)


def spelled(table: pl.DataFrame) -> Iterator[tuple[str, ...]]:
    """The table's lines as text, under HEADER."""
    for line in table.iter_rows(named=True):
        spread = "" if line["spread"] is None else f" ± {line['spread']:.3f}"
        yield (
            line["title"],
            str(line["runs"]),
            f"{line['mean']:.3f}{spread}",
            *(_number(line[task]) for task in TASKS),
            *(_number(line[name]) for name in _OTHERS[:-1]),
            _number(line["edit_trace"], 1),
            str(line["steps"]),
            f"{line['cpu_seconds']:.0f}",
            _number(line["published"], 2),
        )


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def plot(trials: pl.DataFrame, table: pl.DataFrame) -> bytes:
    """PNG: a bar for each row's mean with a point for each seed, of text to image and, where they were
    scored, of edits; the published figures on axes of their own, for they are of another protocol."""
    edits = trials["edits"].is_not_null().all()
    widths = (3, 3, 2) if edits else (3, 2)
    figure = Figure(figsize=(2 * sum(widths), 3.8), layout="constrained")
    *measured, paper = figure.subplots(1, len(widths), sharey=True, width_ratios=widths)
    _measured(measured[0], trials, table, ("overall", "mean"), MEASURED)
    measured[0].legend(loc="upper left", frameon=False)
    measured[0].set(title=f"{trials['protocol'][0]}, measured", ylabel="overall", ylim=(0, 1))
    if edits:
        _measured(measured[1], trials, table, ("edits", "edits"), EDITS)
        measured[1].set(title="edits/scenes, measured")
    _bars(paper, table.filter(pl.col("published").is_not_null()), "published", PUBLISHED)
    paper.set(title="GenEval, published (another protocol)")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _measured(
    axes: Axes, trials: pl.DataFrame, table: pl.DataFrame, columns: tuple[str, str], color: str
) -> None:
    """Bars of the table's column, points of the trials' one."""
    of_trial, of_row = columns
    _bars(axes, table, of_row, color)
    places = {row: place for place, row in enumerate(table["row"])}
    axes.scatter(
        [places[row] for row in trials["row"]], trials[of_trial], color=POINT, s=18, zorder=3, label="seeds"
    )


def _bars(axes: Axes, table: pl.DataFrame, column: str, color: str) -> None:
    axes.bar(range(table.height), table[column], color=color, width=0.6)
    # The number stands below the bar, where no point hides it.
    names = [f"{title}\n{value:.2f}" for title, value in table.select("title", column).iter_rows()]
    axes.set_xticks(range(table.height), [name.replace(", ", ",\n") for name in names], fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
