"""One benchmark's scores beside each other: the candidate, the champion, and what authors published.

Belongs here: which figures may stand in one table and how each is marked; as HTML and as Markdown. Not here:
the published figures themselves (`published.figures`), or comparing folders of scores (`comparison`).

Measured scores share a table only under one protocol. Published rows are of other judges and stand below a
line of their own that says so; beside rendered scenes there are none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from got_core.evaluate.paired import overall_of, paired_difference
from got_core.evaluate.protocol import why_unlike
from got_core.evaluate.published.figures import EDITING, MARK, OVERALL, TABLES, PublishedTable
from got_core.evaluate.report.section import Run, Section
from got_core.figures.markdown import markdown_text

OTHER = "another protocol"
_NOT_PUBLISHED = {"scenes", "viescore", "masked"}
"""Parts of names of benchmarks whose figures are not those of the published table."""


@dataclass(frozen=True)
class Line:
    """A row of the table."""

    label: str
    cells: tuple[str, ...] = ()
    """Empty: a line that stands over the ones below it."""

    note: str = ""
    foreign: bool = False
    """Of another protocol than the measured rows."""


@dataclass(frozen=True)
class Beside:
    """The table of a benchmark."""

    caption: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]

    def html(self) -> str:
        """As a table of the page."""
        head = "".join(f"<th>{escape(one)}</th>" for one in ("", *self.columns, ""))
        body = "".join(self._html(line) for line in self.lines)
        table = (
            f"<table class='beside'><caption>{escape(self.caption)}</caption><tr>{head}</tr>{body}</table>"
        )
        return f"<div class='scroll'>{table}</div>"

    def _html(self, line: Line) -> str:
        if not line.cells:
            span = len(self.columns) + 2
            return f"<tr class='over'><th colspan='{span}'>{escape(line.label)}</th></tr>"
        cells = "".join(f"<td class='number'>{_small_interval(one)}</td>" for one in line.cells)
        kind = " class='foreign'" if line.foreign else ""
        return f"<tr{kind}><td>{escape(line.label)}</td>{cells}<td>{escape(line.note)}</td></tr>"

    def markdown(self) -> str:
        """The same as Markdown, texts escaped."""
        rows = [
            ["", *(markdown_text(one, 60) for one in self.columns), ""],
            ["---"] * (len(self.columns) + 2),
        ]
        for line in self.lines:
            cells = line.cells or ("",) * len(self.columns)
            label = markdown_text(line.label, 100)
            rows.append([label if line.cells else f"*{label}*", *cells, markdown_text(line.note, 120)])
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        return f"**{markdown_text(self.caption)}**\n\n{table}"


def _small_interval(cell: str) -> str:
    figure, bracket, interval = cell.partition(" (")
    return escape(figure) + (f"<small>{escape(interval.rstrip(')'))}</small>" if bracket else "")


def beside(section: Section) -> Beside:
    """The table of a benchmark of the page."""
    scores = section.scores
    columns = (OVERALL, *scores["tasks"])
    lines = [
        *(_measured(run, columns) for run in (*section.comparable, section.run)),
        *_gains(section, columns),
        *_unlike(section, columns),
        *_published(section, columns),
    ]
    caption = f"{section.name}, protocol {scores['protocol_digest']}"
    return Beside(caption, columns, tuple(lines))


def _measured(run: Run, columns: Sequence[str], *, foreign: bool = False) -> Line:
    scores = run.scores
    whole = {"mean": scores["overall"], "low": scores["low"], "high": scores["high"]}
    figures = {OVERALL: whole, **scores["tasks"]}
    cells = tuple(_spelled(figures.get(name)) for name in columns)
    found, expected = scores.get("found"), scores.get("expected")
    count = scores.get("of") or (f"{found} of {expected}" if found is not None else "")
    note = count if scores["complete"] else f"partial: {count}"
    return Line(run.label, cells, note, foreign)


def _spelled(figure: Mapping[str, Any] | None) -> str:
    if figure is None or figure.get("mean") is None:
        return ""
    low, high = figure.get("low"), figure.get("high")
    interval = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
    return f"{figure['mean']:.3f}{interval}"


def _gains(section: Section, columns: Sequence[str]) -> Iterator[Line]:
    """The candidate minus the first that it is compared with, sample by sample."""
    base = next(iter(section.comparable), None)
    if base is None or base.outcomes is None or section.outcomes is None:
        return
    overall = overall_of(section.scores, section.outcomes)
    made = paired_difference(section.outcomes, base.outcomes, overall=overall, partial=True)
    figures = {**made["tasks"], OVERALL: made["overall"]}
    cells = tuple(_gain(figures.get(name)) for name in columns)
    yield Line(f"{section.label} minus {base.label}", cells, "the same samples, 95 % interval in pairs")


def _gain(figure: Mapping[str, Any] | None) -> str:
    if figure is None or figure["mean"] is None or figure["low"] is None:
        return ""
    return f"{figure['mean']:+.3f} ({figure['low']:+.3f} to {figure['high']:+.3f})"


def _unlike(section: Section, columns: Sequence[str]) -> Iterator[Line]:
    for run in section.unlike:
        yield Line(f"{OTHER}, not to be compared with the rows above: {_why(section, run)}")
        yield _measured(run, columns, foreign=True)


def _why(section: Section, run: Run) -> str:
    records = [one.get("protocol_record") for one in (section.scores, run.scores)]
    if any(not isinstance(one, Mapping) for one in records):
        return f"{run.scores['protocol']} {run.scores['protocol_digest']}"
    reasons = why_unlike(*({k: v for k, v in one.items() if k != "digest"} for one in records if one))
    return "; ".join(reasons[:5]) or "their digests differ"


def published_of(name: str) -> PublishedTable | None:
    """Published figures that may stand below a benchmark's own; None for scenes, of which nobody published
    any, and for other measures of the same edits."""
    family, *more = name.split("/")
    if _NOT_PUBLISHED & set(more):
        return None
    return EDITING if family == "emu_edit" else next((one for one in TABLES if one.name == family), None)


def _published(section: Section, columns: Sequence[str]) -> Iterator[Line]:
    table = published_of(section.name)
    if table is None:
        return
    yield Line(f"{MARK}, {OTHER}; judge: {table.judge}")
    family, *more = section.name.split("/")
    whole = "" if table.scale == section.scores.get("scale", 1) else f" of {table.scale:g}"
    for row in table.rows:
        figures = {name.removeprefix(f"{family}/"): value for name, value in row.figures.items()}
        if more and more[0] in figures:  # of one list of several, such as `gedit/en`
            figures[OVERALL] = figures.pop(more[0])
        cells = tuple(f"{plain(figures[one])}{whole}" if one in figures else "" for one in columns)
        others = [
            f"{name.replace('_', '-')} {plain(value)}"
            for name, value in figures.items()
            if name not in columns and (f"{family}/{name}" in row.figures or table is not EDITING)
        ]
        note = "; ".join(filter(None, [row.remark, *others, f"{row.source}, {row.date}"]))
        yield Line(row.model, cells, note, foreign=True)


def plain(value: float) -> str:
    """A published figure with as many digits as were published."""
    return f"{value:.2f}" if round(value, 2) == value else f"{value:.3f}"


def published_tables() -> Iterator[str]:
    """All published tables with judge, source and date of each, as HTML."""
    for table in TABLES:
        header = ("model", *table.columns, "source", "")
        rows = [
            (
                row.model,
                *(plain(row.figures[one]) if one in row.figures else "" for one in table.columns),
                f"{row.source}, {row.date}",
                row.remark,
            )
            for row in table.rows
        ]
        head = "".join(f"<th>{escape(one)}</th>" for one in header)
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        notes = "".join(f"<p class='note'>{escape(one)}</p>" for one in table.notes)
        yield (
            "<div class='scroll'><table class='published'>"
            f"<caption>{escape(table.title)}</caption><tr>{head}</tr>{body}</table></div>"
            f"<p class='note'>Judge: {escape(table.judge)}.</p>{notes}"
        )
