"""The page that sets scores side by side: one HTML file with everything in it.

Belongs here: how a comparison looks. Not here: what is compared (`comparison`), or the pictures that stand
beside each other below it (`report.gallery`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from got_core.evaluate.comparison import OVERALL, spelled_row
from got_core.evaluate.html import page, table
from got_core.evaluate.report.cases import Limits
from got_core.evaluate.report.gallery import Galleries, script, style
from got_core.evaluate.report.plots import interval_plot
from got_core.evaluate.report.section import Run


def comparison_page(
    found: Mapping[str, Any],
    title: str = "Scores side by side",
    *,
    runs: Mapping[str, Run] | None = None,
    limits: Limits | None = None,
) -> str:
    """A self-contained page of `comparison.compare`.

    `runs`: results by the URL of their scores, of which plots and pictures are shown side by side; `limits`:
    how much of them.
    """
    galleries, runs = Galleries(limits or Limits()), runs or {}
    body = [f"<h1>{escape(title)}</h1>"]
    for benchmark in found["benchmarks"]:
        body.append(f"<h2>{escape(benchmark['name'])}</h2>")
        for one in benchmark["tables"]:
            body += _table(one)
            body += _pictures(benchmark["name"], one, runs, galleries)
        body += [_unlike(one) for one in benchmark["unlike"]]
        body += _published(benchmark)
    return page(title, [*body, galleries.data()], script=script(), style=style())


def _pictures(
    name: str, one: Mapping[str, Any], runs: Mapping[str, Run], galleries: Galleries
) -> Iterator[str]:
    """Plot and gallery of the models of a table; the base model, or else the first, is what the last one is
    compared with."""
    rows = sorted(one["rows"], key=lambda row: row["row"] != "base")
    shown = [runs[url] for url in dict.fromkeys(row["url"] for row in rows) if url in runs]
    if not shown:
        return
    yield interval_plot(shown, [name for name in one["figures"] if name != OVERALL])
    drawn = [run for run in shown if run.samples is not None and run.pictures is not None]
    for run in shown:
        if run not in drawn:
            yield f"<p class='note'>{escape(f'{run.label}: its pictures or verdicts are not there')}</p>"
    if drawn and (gallery := galleries.add(name, drawn)):
        yield f"<h3>Sample by sample</h3>{gallery}"


def _table(one: Mapping[str, Any]) -> Iterator[str]:
    header = ("", "n / N", *one["figures"], "seconds a picture", "money a picture")
    rows = [
        (
            spelled_row(row),
            counted(row),
            *(_cell(row["figures"].get(name)) for name in one["figures"]),
            _number(row["seconds"], 2),
            _number(row["money"], 4),
        )
        for row in one["rows"]
    ]
    caption = f"{one['protocol']} (protocol {', '.join(one['digests'])})"
    yield f"<div class='scroll'>{table(caption, header, rows)}</div>"
    yield from (f"<p class='note'>{escape(note)}</p>" for note in one["notes"])
    yield from (f"<p class='note'>{escape(spelled_difference(diff))}</p>" for diff in one["differences"])
    yield from (f"<p class='note'>{escape(spelled_apart(line))}</p>" for line in one["apart"])
    yield from (f"<p class='note'>{escape(spelled_outside(line))}</p>" for line in one["outside"])


def _cell(figure: Mapping[str, Any] | None) -> str:
    if figure is None or figure["mean"] is None:
        return "" if figure is None else f"none, {figure['of']}"
    interval = "" if figure["low"] is None else f" ({figure['low']:.3f} to {figure['high']:.3f})"
    return f"{figure['mean']:.3f}{interval}, {figure['of']}"


def _unlike(one: Mapping[str, Any]) -> str:
    reasons = "".join(f"<li>{escape(line)}</li>" for line in one["why"])
    return (
        f"<p class='warning'>Not side by side: {escape(one['left'])} and {escape(one['right'])}</p>"
        f"<ul>{reasons}</ul>"
    )


def _published(benchmark: Mapping[str, Any]) -> list[str]:
    rows = [(one["model"], f"{one[OVERALL]:.2f}", one["note"]) for one in benchmark["published"]]
    return [table("Published by the models' authors", ("model", OVERALL, ""), rows)] if rows else []


def counted(row: Mapping[str, Any]) -> str:
    """`n / N` of a row, and whether it is a part only."""
    return f"partial: {row['of']}" if row["partial"] else row["of"] or ""


def spelled_difference(one: Mapping[str, Any]) -> str:
    """A difference in words, with the paired interval where there is one."""
    paired = _paired(one.get("paired") or {})
    figures = ", ".join(
        f"{name} {value:+.3f}{paired.get(name, '')}" for name, value in one["figures"].items()
    )
    return f"{one['model']}, minus {one['minus']}: {figures or 'no figure in common'}"


def _paired(made: Mapping[str, Any]) -> dict[str, str]:
    """Intervals of differences by figure, and of how many pairs they are."""
    whole = {OVERALL: made["overall"]} if made.get("overall") else {}
    return {
        name: f" (paired {one['low']:+.3f} to {one['high']:+.3f}, {one['n']} / {one['of']})"
        for name, one in {**whole, **made.get("tasks", {})}.items()
        if one["low"] is not None
    }


def spelled_apart(one: Mapping[str, Any]) -> str:
    """How a model's pictures keep to their plans, in words."""
    figures = one["figures"]
    if "plan_right" in figures:
        parts = [
            _part("right plans", figures["plan_right"]),
            _part("right pictures of right plans", figures["right_of_right_plans"]),
            _part("planned objects in their place", figures["in_place"]),
            f"wrong pictures: {figures['planned_wrong']} planned wrong, {figures['drawn_wrong']} drawn wrong",
        ]
    else:
        parts = [
            _part("change inside the planned boxes", figures["inside"]),
            _part("which cover of the picture", figures["area"]),
        ]
    return f"{one['model']}, {figures['pictures']} pictures against their plans: {'; '.join(parts)}"


def spelled_outside(one: Mapping[str, Any]) -> str:
    """What a model's edits changed outside their regions, in words."""
    parts = [
        f"by {kind} ({figures['of']}) {figures['change_outside']['mean']:.2f} levels "
        f"({figures['change_outside']['low']:.2f} to {figures['change_outside']['high']:.2f}), "
        f"{figures['changed_outside']['mean']:.1%} of the pixels"
        for kind, figures in one["figures"]["regions"].items()
    ]
    left_out = [f"{reason}: {count}" for reason, count in one["figures"]["left_out"].items()]
    return f"{one['model']}, change outside the region of the edit: {'; '.join([*parts, *left_out])}"


def _part(name: str, figure: Mapping[str, Any]) -> str:
    return f"{name} {'none' if figure['mean'] is None else format(figure['mean'], '.3f')}"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
