"""Scores with their intervals as a drawing inside the page.

Belongs here: one plot. Not here: figures in tables (`beside`, `figures`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from got_core.evaluate.report.section import Run

_LEFT, _WIDE, _RIGHT, _LINE, _TOP = 190, 480, 60, 18, 26
_COLORS = ("#3a78b5", "#d9822b", "#4f9d69", "#8d63a8", "#8a8a8a")
_TICKS = 5


def interval_plot(runs: Sequence[Run], tasks: Sequence[str]) -> str:
    """Means and 95 % intervals by task, the overall score first, a colour for each model; SVG within HTML.

    Tasks that no model has a figure of are left out. Nothing where there is no figure at all.
    """
    shown = [task for task in (None, *tasks) if any(_figure(run, task) for run in runs)]
    if not shown:
        return ""
    low, high = _range(runs, shown)
    height = _TOP + sum(_LINE * len(runs) + 8 for _ in shown) + 24
    parts = [*_axis(low, high, height), *_rows(runs, shown, low, high)]
    keys = "".join(
        f"<span class='key' style='background:{_COLORS[k % len(_COLORS)]}'></span>{escape(run.label)}"
        for k, run in enumerate(runs)
    )
    width = _LEFT + _WIDE + _RIGHT
    return (
        f"<figure class='plot'><figcaption>Means with 95 % intervals: {keys}</figcaption>"
        f"<svg viewBox='0 0 {width} {height}' width='{width}' height='{height}' role='img' "
        f"aria-label='scores by task with intervals' font-size='12' fill='#222'>{''.join(parts)}</svg>"
        "</figure>"
    )


def _figure(run: Run, task: str | None) -> Mapping[str, Any] | None:
    """With `mean`, `low`, `high`; None where there is none."""
    scores = run.scores
    one = {**scores, "mean": scores["overall"]} if task is None else scores["tasks"].get(task)
    return one if one is not None and one.get("mean") is not None else None


def _range(runs: Sequence[Run], tasks: Sequence[str | None]) -> tuple[float, float]:
    found = [figure for run in runs for task in tasks if (figure := _figure(run, task))]
    values = [v for one in found for name in ("mean", "low", "high") if (v := one.get(name)) is not None]
    top = max(float(runs[-1].scores.get("scale", 1)), *values)
    return min(0.0, *values), top


def _axis(low: float, high: float, height: int) -> Iterator[str]:
    for k in range(_TICKS + 1):
        value = low + (high - low) * k / _TICKS
        x = _x(value, low, high)
        yield _line(x, _TOP - 6, x, height - 20, "stroke='#ddd'")
        yield f"<text x='{x:.1f}' y='{height - 6}' text-anchor='middle' fill='#555'>{value:.3g}</text>"


def _rows(runs: Sequence[Run], tasks: Sequence[str | None], low: float, high: float) -> Iterator[str]:
    top = float(_TOP)
    for task in tasks:
        middle = top + _LINE * len(runs) / 2 + 4
        weight = " font-weight='600'" if task is None else ""
        label = "overall" if task is None else task if len(task) <= 26 else f"{task[:25]}…"
        yield f"<text x='{_LEFT - 12}' y='{middle:.1f}' text-anchor='end'{weight}>{escape(label)}</text>"
        for k, run in enumerate(runs):
            if figure := _figure(run, task):
                yield from _mark(run, figure, _COLORS[k % len(_COLORS)], top + _LINE * (k + 0.5), low, high)
        top += _LINE * len(runs) + 8


def _mark(
    run: Run, figure: Mapping[str, Any], color: str, y: float, low: float, high: float
) -> Iterator[str]:
    ends = [figure.get(name) for name in ("low", "high")]
    spelled = f"{figure['mean']:.3f}"
    if None not in ends:
        left, right = (_x(float(one), low, high) for one in ends if one is not None)
        yield _line(left, y, right, y, f"stroke='{color}' stroke-width='2'")
        for x in (left, right):
            yield _line(x, y - 4, x, y + 4, f"stroke='{color}'")
        spelled += f" ({ends[0]:.3f} to {ends[1]:.3f})"
    x = _x(figure["mean"], low, high)
    yield (
        f"<circle cx='{x:.1f}' cy='{y}' r='4' fill='{color}'>"
        f"<title>{escape(run.label)}: {spelled}</title></circle>"
    )
    yield f"<text x='{_LEFT + _WIDE + 8}' y='{y + 4}' fill='{color}'>{figure['mean']:.3f}</text>"


def _line(x1: float, y1: float, x2: float, y2: float, look: str) -> str:
    return f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' {look}></line>"


def _x(value: float, low: float, high: float) -> float:
    return _LEFT + _WIDE * (value - low) / ((high - low) or 1)
