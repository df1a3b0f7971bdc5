"""The benchmark page: one HTML file with everything in it.

Belongs here: laying out scores, pictures, protocol and lineage. Not here: making any of them.
Scores of unlike protocols never share a column: each benchmark has a section of its own, published figures
too.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import polars as pl

PUBLISHED = (
    ("GoT", 0.64),
    ("GoT-R1-7B", 0.75),
    ("Janus-Pro-7B", 0.80),
    ("BAGEL", 0.82),
    ("Qwen-Image", 0.87),
    ("SenseNova-U1.5", 0.92),
)
"""GenEval overall as published by the models' authors; not measured here."""

PUBLISHED_GOT = {
    "single_object": 0.99,
    "two_object": 0.69,
    "counting": 0.67,
    "colors": 0.85,
    "position": 0.34,
    "color_attr": 0.27,
}
"""GoT's GenEval scores by task (arXiv 2503.10639)."""

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; color: #222
} h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.2rem } table { border-collapse: collapse;
margin: .8rem 0 } caption { text-align: left; font-weight: 600 } th, td { padding: .25rem .8rem;
border-bottom: 1px solid #ddd; text-align: left; vertical-align: top } td.number { text-align: right;
font-variant-numeric: tabular-nums } .bar { background: #e8eef4; width: 12rem; height: .8rem; position:
relative } .bar span { background: #3a78b5; height: 100%; position: absolute; left: 0 } .bar i { background:
#1b2a38; height: 100%; width: 2px; position: absolute } .note { color: #555; max-width: 46rem } .warning {
color: #a4282a; font-weight: 600 } img { max-width: 100% } pre { background: #f5f5f5; padding: .8rem;
overflow-x: auto; font-size: .85rem }
"""


def benchmark_report(
    scores: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    grid_png: bytes | None = None,
    lineage: Mapping[str, Any] | None = None,
    samples: pl.DataFrame | None = None,
    title: str = "Benchmark report",
) -> str:
    """A self-contained HTML page.

    `scores`: one score dict, or one for each benchmark, as `evaluate` returns them. `grid_png`: pictures of
    the first of them; `samples`: its rows, of which the failures are listed. `lineage`: what the model was
    made from (run, commit, manifest, weights), shown as a table.
    """
    sections = [scores] if isinstance(scores, Mapping) else list(scores)
    body = [f"<h1>{escape(title)}</h1>"]
    for index, one in enumerate(sections):
        body.append(_section(one, grid_png if index == 0 else None, samples if index == 0 else None))
    body.append(_published())
    if lineage:
        body += ["<h2>Where this model comes from</h2>", _pairs(lineage)]
    head = f"<meta charset='utf-8'><title>{escape(title)}</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(body)}</body></html>\n"


def _section(scores: Mapping[str, Any], grid_png: bytes | None, samples: pl.DataFrame | None) -> str:
    parts = [
        f"<h2>{escape(scores['protocol'])}</h2>",
        _headline(scores),
        _task_table(scores),
        _plan_note(scores),
    ]
    if grid_png:
        data = base64.b64encode(grid_png).decode()
        parts.append(
            "<p class='note'>The first pictures of each task, not chosen ones. Lines are the boxes that "
            "the model planned; the frame is green where the picture satisfies its prompt.</p>"
            f"<img alt='pictures with planned boxes' src='data:image/png;base64,{data}'>"
        )
    if samples is not None:
        parts.append(_failures(samples))
    record = json.dumps(scores["protocol_record"], indent=1, sort_keys=True)
    parts.append(f"<details><summary>Protocol {escape(scores['protocol_digest'])}</summary>")
    parts.append(f"<pre>{escape(record)}</pre></details>")
    return "".join(parts)


def _headline(scores: Mapping[str, Any]) -> str:
    count = f"{scores['found']} of {scores['expected']} images"
    state = count if scores["complete"] else f"<span class='warning'>partial: {count}</span>"
    return (
        f"<p><b>Overall {scores['overall']:.3f}</b> (95 % interval {scores['low']:.3f} to "
        f"{scores['high']:.3f}), {state}; "
        f"{scores['prompts_any_correct']:.0%} of prompts have at least one correct image.</p>"
    )


def _task_table(scores: Mapping[str, Any]) -> str:
    rows = "".join(_task_row(task, score) for task, score in scores["tasks"].items())
    head = _row(
        ("task", "score", "", "95 % interval", "images", "plans right", "planned wrong", "drawn wrong"), "th"
    )
    return f"<table><caption>Scores by task</caption>{head}{rows}</table>"


def _task_row(task: str, score: Mapping[str, Any]) -> str:
    bar = (
        f"<div class='bar'><span style='width:{score['mean']:.1%}'></span>"
        f"<i style='left:{score['low']:.1%}'></i><i style='left:{score['high']:.1%}'></i></div>"
    )
    plans = score.get("plan_correct")
    numbers = (
        _interval(score),
        str(score["n"]),
        "" if plans is None else f"{plans:.3f}",
        str(score.get("planned_wrong", "")),
        str(score.get("drawn_wrong", "")),
    )
    cells = "".join(f"<td class='number'>{number}</td>" for number in numbers)
    mean = f"<td class='number'>{score['mean']:.3f}</td>"
    return f"<tr><td>{escape(task)}</td>{mean}<td>{bar}</td>{cells}</tr>"


def _interval(score: Mapping[str, Any]) -> str:
    """The bootstrap interval; it has no width where all images agree, so the rule of three is added."""
    text, reach = f"{score['low']:.3f} to {score['high']:.3f}", min(3 / score["n"], 1.0)
    if score["correct"] == score["n"]:
        return f"{text} (rule of three: above {1 - reach:.3f})"
    return f"{text} (rule of three: below {reach:.3f})" if score["correct"] == 0 else text


def _plan_note(scores: Mapping[str, Any]) -> str:
    """What the plan figures and ceilings are, for the scores that have them."""
    facts = []
    if scores.get("plan_overall") is not None:
        facts.append(
            f"Plans alone satisfy their prompt in {scores['plan_overall']:.3f} (mean of tasks). Of the wrong "
            f"images {scores['planned_wrong']} were planned wrong and {scores['drawn_wrong']} drawn wrong "
            "from a right plan."
        )
    if scores.get("plan_iou") is not None:
        facts.append(f"Mean IoU of drawn objects with their planned boxes: {scores['plan_iou']:.3f}.")
    names = {
        "detector_ceiling": "true pictures",
        "autoencoder_ceiling": "true pictures through the autoencoder",
    }
    ceilings = [f"{label} {scores[key]:.3f}" for key, label in names.items() if scores.get(key) is not None]
    if ceilings:
        facts.append(f"What a perfect painter would score: {', '.join(ceilings)}.")
    return f"<p class='note'>{' '.join(facts)}</p>" if facts else ""


def _failures(samples: pl.DataFrame, most: int = 40) -> str:
    wrong = samples.filter(~pl.col("correct"))
    if wrong.is_empty():
        return ""
    columns = ("index", "task", "prompt", "seed", "failure", "reason", "plan_reason", "chain")
    rows = "".join(_row(row[c] for c in columns) for row in wrong.head(most).iter_rows(named=True))
    summary = f"<summary>Wrong images ({min(most, wrong.height)} of {wrong.height})</summary>"
    return f"<details>{summary}<table>{_row(columns, 'th')}{rows}</table></details>"


def _published() -> str:
    models = "".join(_row((name, f"{value:.2f}")) for name, value in PUBLISHED)
    tasks = "".join(_row((task, f"{value:.2f}")) for task, value in PUBLISHED_GOT.items())
    return (
        "<h2>Published GenEval figures, another protocol</h2>"
        "<p class='note'>Published by the models' authors on GenEval itself: photographs, 80 COCO classes, a "
        "Mask2Former detector. They were not measured here, and a score on rendered scenes must not be "
        "compared with them. They stand here to show what GenEval's tasks look like at full size.</p>"
        f"<table><caption>Overall</caption>{models}</table>"
        f"<table><caption>GoT by task</caption>{tasks}</table>"
    )


def _pairs(values: Mapping[str, Any]) -> str:
    return (
        f"<table>{''.join(_row((key, value)) for key, value in values.items() if value is not None)}</table>"
    )


def _row(cells: Any, tag: str = "td") -> str:
    texts = ("" if cell is None else escape(str(cell)) for cell in cells)
    return "<tr>" + "".join(f"<{tag}>{text}</{tag}>" for text in texts) + "</tr>"
