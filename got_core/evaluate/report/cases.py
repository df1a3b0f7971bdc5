"""Which samples a page shows, and what became of each with every model.

    chosen = choose((champion, challenger), Limits())

Belongs here: reading rows of any benchmark's table, pairing them by sample, choosing. Not here: pictures
(`thumbnails`), or how a sample looks (`gallery`).

Nothing is chosen for its looks: of each task the first pictures in the benchmark's order, the first that are
wrong (where a benchmark has figures in place of verdicts: the lowest), and the first whose verdict changed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from got_core.evaluate.report.section import Row, Run
from got_core.evaluate.why.address import cell_name

FIXED, BROKEN, HIGHER, LOWER = "fixed", "broken", "higher", "lower"
CHANGES = (FIXED, BROKEN, HIGHER, LOWER)
RIGHT, WRONG, UNSCORED = "right", "wrong", "unscored"
_SCORED = ("scored", "judged", None, "")
_VALUES = ("value", "gm")
_EDITED = "edited"
_NAMES = ("sample_id", "sample", "index")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much of a benchmark a page shows."""

    failures: int = 12
    """Most wrong samples of a task."""

    changed: int = 12
    """Most samples of a task whose verdict changed, either way."""

    first: int = 4
    """Samples of a task that are shown whatever became of them."""

    page_bytes: int = 24_000_000
    """Most that all pictures of a page may take."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """What became of a sample with one model."""

    row: Row
    correct: bool | None
    value: float | None
    cause: str
    """Empty where nothing is wrong with it."""

    @property
    def verdict(self) -> str:
        """In a word; empty for a figure."""
        if self.correct is not None:
            return RIGHT if self.correct else WRONG
        return UNSCORED if self.cause else ""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A sample with what became of it."""

    sample: str
    """By which all models' rows are paired."""

    name: str
    """In its address."""

    task: str
    prompt: str
    sides: tuple[Side | None, ...]
    """As many as there are models; None where a model's table has no such row."""

    change: str = ""
    """Of the last model against the first: one of CHANGES, or empty."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The samples of a page."""

    cases: tuple[Case, ...]
    left_out: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """By task, where there are more: wrong ones that are shown, of how many."""


def choose(runs: Sequence[Run], limits: Limits) -> Chosen:
    """The samples to show. The last run is the one whose page it is; the first one, if there are several, is
    what it is compared with."""
    names = _sample_names(runs)
    sides = [_sides(run, names) for run in runs]
    samples = dict.fromkeys(key for one in (sides[-1], *sides[:-1]) for key in one)
    cases = [_case(key, [one.get(key) for one in sides]) for key in samples]
    by_task: dict[str, list[Case]] = {}
    for case in cases:
        by_task.setdefault(case.task, []).append(case)
    left_out, chosen = {}, set[str]()
    for task, some in by_task.items():
        failed = _failed(some)
        changed = [one for one in some if one.change]
        for part in (some[: limits.first], failed[: limits.failures], changed[: limits.changed]):
            chosen |= {one.sample for one in part}
        if len(failed) > limits.failures:
            left_out[task] = (limits.failures, len(failed))
    return Chosen(cases=tuple(one for one in cases if one.sample in chosen), left_out=left_out)


def _failed(cases: Sequence[Case]) -> list[Case]:
    """Wrong or unscored with the last model; of figures the lowest first, which is what there is to look
    at."""
    own = [(one, one.sides[-1]) for one in cases]
    wrong = [case for case, side in own if side is not None and side.cause]
    figures = [
        (side.value, number, case)
        for number, (case, side) in enumerate(own)
        if side and side.correct is None and not side.cause and side.value is not None
    ]
    return wrong + [case for _, _, case in sorted(figures)[: max(1, len(figures) // 4)]]


def _case(sample: str, sides: Sequence[Side | None]) -> Case:
    known = next(side for side in reversed(sides) if side is not None)
    row = known.row
    return Case(
        sample=sample,
        name=cell_name(row) or sample,
        task=str(row.get("task") or "all"),
        prompt=str(row.get("prompt") or row.get("instruction") or ""),
        sides=tuple(sides),
        change=_change(sides[0], sides[-1]) if len(sides) > 1 else "",
    )


def _change(before: Side | None, after: Side | None) -> str:
    if before is None or after is None:
        return ""
    if before.correct is not None and after.correct is not None:
        return "" if before.correct == after.correct else FIXED if after.correct else BROKEN
    if before.value is None or after.value is None or abs(before.value - after.value) < 1e-9:
        return ""
    return HIGHER if after.value > before.value else LOWER


def _sample_names(runs: Sequence[Run]) -> tuple[str, ...]:
    """Columns that name a sample, the first one counts. On scenes the id belongs to the protocol, so rows of
    two protocols, with plans and without, are paired by their number in the list, which they share."""
    tables = [run.samples for run in runs if run.samples is not None]
    numbered = bool(tables) and all("index" in one.columns for one in tables)
    unlike = len({run.scores.get("protocol_digest") for run in runs}) > 1
    return ("index", *_NAMES) if numbered and unlike else _NAMES


def _sides(run: Run, named: Sequence[str]) -> dict[str, Side]:
    if run.samples is None:
        return {}
    names = (*_VALUES, *run.scores.get("tasks", {}))
    value = next((name for name in names if name in _numbers(run.samples)), None)
    return {key: _side(row, value) for key, row in _rows(run.samples, named)}


def _numbers(samples: pl.DataFrame) -> set[str]:
    return {name for name, dtype in samples.schema.items() if dtype.is_numeric()}


def _rows(samples: pl.DataFrame, named: Sequence[str]) -> Iterable[tuple[str, dict[str, Any]]]:
    """Rows by sample: of tables that also hold copies and targets only those of edits."""
    if "kind" in samples.columns and _EDITED in samples["kind"].cast(pl.String):
        samples = samples.filter(pl.col("kind").cast(pl.String) == _EDITED)
    for number, row in enumerate(samples.iter_rows(named=True)):
        yield str(next((row[one] for one in named if row.get(one) is not None), number)), row


def _side(row: dict[str, Any], value: str | None) -> Side:
    correct, figure = row.get("correct"), row.get(value) if value else None
    if isinstance(figure, float) and not math.isfinite(figure):  # as a PSNR of equal pictures: JSON has none
        figure = None
    if correct is None and figure is None and value is None:
        return Side(row=row, correct=None, value=None, cause=_unscored(row))
    cause = "" if correct else _cause(row, correct, figure)
    return Side(row=row, correct=correct, value=None if figure is None else float(figure), cause=cause)


def _cause(row: Row, correct: bool | None, figure: Any) -> str:
    """Why a sample is wrong, in the benchmark's own word for it."""
    if correct is None:
        return _unscored(row) or ("" if figure is not None else UNSCORED)
    if row.get("failure"):
        return str(row["failure"]).replace("_", " ")
    failed = row.get("failed")
    return str(failed[0]) if failed else WRONG


def _unscored(row: Row) -> str:
    if row.get("unscored"):
        return UNSCORED
    state = row.get("state")
    return "" if state in _SCORED else str(state)
