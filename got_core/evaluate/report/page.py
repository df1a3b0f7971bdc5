"""The whole benchmark page.

Belongs here: the order of what stands on it. Not here: its pieces (`figures`, `beside`, `plots`, `gallery`).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from got_core.evaluate.html import page
from got_core.evaluate.html import row as _row
from got_core.evaluate.report.beside import beside, published_tables
from got_core.evaluate.report.cases import Limits
from got_core.evaluate.report.figures import failure_table, figures_of, note
from got_core.evaluate.report.gallery import Galleries, script, style
from got_core.evaluate.report.plots import interval_plot
from got_core.evaluate.report.section import Section
from got_core.evaluate.report.stages import StagePart, stage_part

_NO_BENCHMARK = "The recipe names no benchmark: this model was not scored."
_GRID = (
    "The first pictures of each task, not chosen ones. Lines are the boxes that the model planned; the frame "
    "is green where the picture satisfies its prompt."
)
_TRACES = (
    "Of edits that are right but for a trace, then of all others: source with planned boxes, edited picture, "
    "true picture, and the difference of the last two. Light is much, a blue line is around what an object "
    "has left; figures are levels of 255."
)
_GALLERY = (
    "Of each task the first samples, the first wrong ones (of figures the lowest), and those whose verdict "
    "changed. Click a picture; the arrow keys go on."
)
_PUBLISHED = (
    "Published by the models' authors, not measured here, and judges differ: photographs, 80 COCO classes, a "
    "Mask2Former detector for GenEval, language models for edits. A score on rendered scenes must not be "
    "compared with them, nor two figures of different judges."
)


def benchmark_report(
    sections: Sequence[Section],
    *,
    lineage: Mapping[str, Any] | None = None,
    title: str = "Benchmark report",
    limits: Limits | None = None,
    stages: StagePart | None = None,
) -> str:
    """A self-contained HTML page; without sections it says that the recipe names no benchmark.

    `lineage`: what the model was made from (run, commit, manifest, weights), shown as a table. `limits`: how
    many samples and bytes of pictures there are at most; the page says what it leaves out. `stages`: what
    each stage of the training added.
    """
    galleries = Galleries(limits or Limits())
    body = [f"<h1>{escape(title)}</h1>"]
    for section in sections:
        body += _section(section, galleries)
    if stages:
        body += stage_part(stages, lambda png, name, said: _pictures(png, name, said, galleries))
    body += _published() if sections else [note([_NO_BENCHMARK])]
    if lineage:
        body += ["<h2>Where this model comes from</h2>", _pairs(lineage)]
    body.append(galleries.data())
    return page(title, body, script=script(), style=style())


def report_markdown(sections: Sequence[Section]) -> str:
    """The scores of a page beside each other, as Markdown tables."""
    return "\n\n".join(beside(one).markdown() for one in sections) or _NO_BENCHMARK


def _section(section: Section, galleries: Galleries) -> Iterator[str]:
    scores = section.scores
    yield f"<h2>{escape(scores['protocol'])}</h2>"
    yield beside(section).html()
    yield note([escape(one) for one in section.notes])
    yield interval_plot((*section.comparable, section.run), list(scores["tasks"]))
    yield from figures_of(scores)
    yield from _pictures(section.grid_png, "The first pictures of each task", _GRID, galleries)
    yield from _pictures(section.traces_png, "The largest traces", _TRACES, galleries)
    yield from _samples(section, galleries)
    yield _protocol(scores)


def _pictures(png: bytes | None, title: str, said: str, galleries: Galleries) -> Iterator[str]:
    """A grid of pictures, folded; nothing without one."""
    if not png:
        return
    if not galleries.thumbnails.spend(png):
        yield note([f"{title} are left out: the page is full."])
        return
    data = base64.b64encode(png).decode()
    yield f"<details><summary>{title}</summary>{note([said])}"
    yield f"<img alt='{title.lower()}' src='data:image/png;base64,{data}'></details>"


def _samples(section: Section, galleries: Galleries) -> Iterator[str]:
    """The gallery, or a table of what is wrong where there are no pictures."""
    if section.samples is None:
        return
    if section.pictures is None:
        yield failure_table(section.samples)
        return
    runs = (*(one for one in section.comparable if one.samples is not None), section.run)
    if shown := galleries.add(section.name, runs):
        yield f"<h3>Sample by sample</h3>{note([_GALLERY])}{shown}"


def _protocol(scores: Mapping[str, Any]) -> str:
    record = json.dumps(scores["protocol_record"], indent=1, sort_keys=True)
    return (
        f"<details><summary>Protocol {escape(scores['protocol_digest'])}</summary>"
        f"<pre>{escape(record)}</pre></details>"
    )


def _published() -> Iterator[str]:
    yield f"<h2>Published figures, other protocols</h2>{note([_PUBLISHED])}"
    yield from published_tables()


def _pairs(values: Mapping[str, Any]) -> str:
    return (
        f"<table>{''.join(_row((key, value)) for key, value in values.items() if value is not None)}</table>"
    )
