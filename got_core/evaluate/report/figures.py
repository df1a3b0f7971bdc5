"""One model's figures by one benchmark, in words and tables.

Belongs here: what stands in a score dict. Not here: other models beside it (`beside`), pictures (`gallery`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import polars as pl

from got_core.evaluate.html import row as _row
from got_core.evaluate.html import table as _table

_OUTCOMES = (
    ("right", "right"),
    ("planned", "planned wrong"),
    ("drawn", "drawn wrong"),
    ("trace", "trace left"),
    ("none", "not drawn"),
)
_COUNTS = ("correct", "planned_wrong", "drawn_wrong", "trace_left", "not_drawn")
"""Of images by outcome; benchmarks without edits count no traces."""


def figures_of(scores: Mapping[str, Any]) -> list[str]:
    """All that a score dict says, as pieces of a page."""
    return [
        _headline(scores),
        note([escape(line) for line in scores.get("notes", ())]),
        _task_table(scores),
        _measured(scores),
        _split_plot(scores),
        _plan_note(scores),
        _edit_note(scores),
        _traces(scores),
        _outside(scores),
        _grounding(scores),
        _seeds(scores),
        _repair(scores),
        _kept(scores),
    ]


def _headline(scores: Mapping[str, Any]) -> str:
    count = f"{scores['found']} of {scores['expected']} images"
    state = count if scores["complete"] else f"<span class='warning'>partial: {count}</span>"
    overall = "No overall score"
    if scores["overall"] is not None:
        interval = f"95 % interval {scores['low']:.3f} to {scores['high']:.3f}"
        overall = f"<b>Overall {scores['overall']:.3f}</b> ({interval})"
    share = scores.get("prompts_any_correct")
    any_correct = "" if share is None else f"; {share:.0%} of prompts have at least one correct image"
    return f"<p>{overall}, {state}{any_correct}.</p>"


def _task_table(scores: Mapping[str, Any]) -> str:
    scale = scores.get("scale", 1)
    counts = [name for _, name in _outcomes(scores)[1:]]
    rows = "".join(_task_row(task, score, scale, counts) for task, score in scores["tasks"].items())
    failures = [label for (_, label), _ in _outcomes(scores)[1:]]
    head = _row(("task", "score", "", "95 % interval", "images", "plans right", *failures), "th")
    return f"<table><caption>Scores by task</caption>{head}{rows}</table>"


def _outcomes(scores: Mapping[str, Any]) -> list[tuple[tuple[str, str], str]]:
    """Those that a benchmark tells apart, with the names of their counts."""
    named = zip(_OUTCOMES, _COUNTS, strict=True)
    return [(one, name) for one, name in named if name != "trace_left" or name in scores]


def _task_row(task: str, score: Mapping[str, Any], scale: float, counts: Sequence[str]) -> str:
    plans, measured = score.get("plan_correct"), score["mean"] is not None
    numbers = (
        _interval(score) if measured else "",
        str(score["n"]),
        "" if plans is None else f"{plans:.3f}",
        *(str(score.get(name, "")) for name in counts),
    )
    cells = "".join(f"<td class='number'>{number}</td>" for number in numbers)
    mean = f"<td class='number'>{score['mean']:.3f}</td>" if measured else "<td></td>"
    bar = _bar(score, scale) if measured else ""
    return f"<tr><td>{escape(task)}</td>{mean}<td>{bar}</td>{cells}</tr>"


def _bar(score: Mapping[str, Any], scale: float) -> str:
    """Of the scale, with its interval; figures below 0 begin at the left."""
    mean, low, high = (min(max(score[name] / scale, 0.0), 1.0) for name in ("mean", "low", "high"))
    return (
        f"<div class='bar'><span style='width:{mean:.1%}'></span>"
        f"<i style='left:{low:.1%}'></i><i style='left:{high:.1%}'></i></div>"
    )


def _interval(score: Mapping[str, Any]) -> str:
    """The bootstrap interval; it has no width where all images agree, so the rule of three (over prompts) is
    added."""
    text = f"{score['low']:.3f} to {score['high']:.3f}"
    if "prompts" not in score:  # figures, no shares
        return text
    reach = min(3 / score["prompts"], 1.0)
    if score["correct"] == score["n"]:
        return f"{text} (rule of three: above {1 - reach:.3f})"
    return f"{text} (rule of three: below {reach:.3f})" if score["correct"] == 0 else text


def _measured(scores: Mapping[str, Any]) -> str:
    """All figures of an edit benchmark, of edits and of what they are compared with, raw and filtered."""
    rows, names = [], dict[str, None]()
    for setting, kinds in scores.get("settings", {}).items():
        for kind, one in kinds.items():
            for part in ("raw", "filtered"):
                figures = {name: value for name, value in one[part].items() if isinstance(value, Mapping)}
                names |= dict.fromkeys(name for name, value in figures.items() if "mean" in value)
                rows.append((setting, kind, part, one[part]))
    cells = [(*row[:3], row[3]["n"], *(_mean_text(row[3].get(name)) for name in names)) for row in rows]
    header = ("list", "pictures", "samples", "n", *(name.replace("_", "-") for name in names))
    return _table("All figures", header, cells) if rows else ""


def _mean_text(figure: Mapping[str, Any] | None) -> str:
    return "" if figure is None or figure["mean"] is None else f"{figure['mean']:.4f}"


def _split_plot(scores: Mapping[str, Any]) -> str:
    """Stacked bars: what became of each task's images. Nothing for scores without plans."""
    if scores.get("planned_wrong") is None:
        return ""
    outcomes = _outcomes(scores)
    keys = "".join(f"<span class='key {name}'></span>{label}" for (name, label), _ in outcomes)
    rows = "".join(
        f"<tr><td>{escape(task)}</td><td>{_split_bar(score, outcomes)}</td><td>{_fault_text(score)}</td></tr>"
        for task, score in scores["tasks"].items()
    )
    head = _row(("task", "", "faults of plans"), "th")
    return f"<table><caption>Where images fail: {keys}</caption>{head}{rows}</table>"


def _split_bar(score: Mapping[str, Any], outcomes: Sequence[tuple[tuple[str, str], str]]) -> str:
    parts = "".join(
        f"<span class='{name}' style='width:{score[count] / score['n']:.2%}' "
        f"title='{label}: {score[count]}'></span>"
        for (name, label), count in outcomes
    )
    return f"<div class='split'>{parts}</div>"


def _fault_text(score: Mapping[str, Any]) -> str:
    return escape(", ".join(f"{kind} {count}" for kind, count in score["plan_faults"].items()))


def _plan_note(scores: Mapping[str, Any]) -> str:
    """What the plan figures and ceilings are, for the scores that have them."""
    facts = []
    if scores.get("plan_overall") is not None:
        facts.append(
            f"Plans alone satisfy what is asked in {scores['plan_overall']:.3f} (mean of tasks). Of the "
            f"wrong images {scores['planned_wrong']} were planned wrong and {scores['drawn_wrong']} drawn "
            f"wrong from a right plan{_trace_count(scores)}."
        )
    if scores.get("not_drawn"):
        facts.append(
            f"<span class='warning'>{scores['not_drawn']} could not be drawn at all: the model answered with "
            "NaN or infinity.</span>"
        )
    if scores.get("plan_iou") is not None:
        what = "places planned for new objects" if "change_found" in scores else "planned boxes"
        facts.append(
            f"Mean IoU of {what} with found ones: {scores['place_iou']:.3f} whatever is found there, "
            f"{scores['plan_iou']:.3f} counting only objects of the planned class and colour."
        )
    names = {
        "detector_ceiling": "true pictures",
        "autoencoder_ceiling": "true pictures through the autoencoder",
    }
    ceilings = [f"{label} {scores[key]:.3f}" for key, label in names.items() if scores.get(key) is not None]
    if ceilings:
        facts.append(f"What a perfect painter would score: {', '.join(ceilings)}.")
    return note(facts)


def _trace_count(scores: Mapping[str, Any]) -> str:
    count = scores.get("trace_left")
    return f"; {count} show nothing wrong but a trace of what was there" if count else ""


def _edit_note(scores: Mapping[str, Any]) -> str:
    """What only edits have."""
    if scores.get("change_found") is None:
        return ""
    facts = [
        f"The requested change is found in {scores['change_found']:.3f} of the pictures, all other objects "
        f"keep class, colour and place in {scores['others_kept']:.3f}. Outside old and new boxes the picture "
        f"changes by {_levels(scores)} levels of 255 on average; the limit is "
        f"{scores['protocol_record']['rules']['max_change']}."
    ]
    if scores.get("unchanged") is not None:
        alone = scores["reconstruction_change"]
        facts.append(
            f"The autoencoder alone changes {alone['mean']:.1f} (at most {alone['max']:.1f}); sources that "
            f"only passed through it count as edited in {scores['unchanged']:.3f}."
        )
    return note(facts)


def _traces(scores: Mapping[str, Any]) -> str:
    """How far edited pictures are from the true ones."""
    if not (figures := scores.get("traces")):
        return ""
    ceilings = scores.get("trace_ceilings", {})
    rows = [(kind, *_trace_cells(one)) for kind, one in figures["kinds"].items()]
    rows.append(("all edits", *_trace_cells(figures)))
    named = {"autoencoder": "true pictures through the autoencoder", "unchanged": "unchanged sources"}
    rows += [(label, *_trace_cells(ceilings[name])) for name, label in named.items() if name in ceilings]
    header = ("edit", *(f"{title}: {what}" for title in _TRACES.values() for what in ("median", "mean")))
    caption = "Levels of 255 between edited pictures and true ones"
    limit = scores["protocol_record"]["rules"].get("traces", {}).get("most")
    if limit is not None:
        caption += f"; an edit with a trace above {limit:g} is not right"
    return _table(caption, header, rows)


_TRACES = {"trace": "where an object has left", "rest": "elsewhere", "edges": "edges"}


def _trace_cells(figures: Mapping[str, Any]) -> list[str]:
    ones = [figures[name] for name in _TRACES]
    return [f"{one[what]:.1f}" if one else "" for one in ones for what in ("median", "mean")]


def _outside(scores: Mapping[str, Any]) -> str:
    """What edits changed where nothing should have, by what says where that is."""
    outside = scores.get("outside")
    if not outside:
        return ""
    rows = [(_REGIONS[kind], one["of"], *_outside_cells(one)) for kind, one in outside["regions"].items()]
    left_out = [escape(f"Left out, {reason}: {count}.") for reason, count in outside["left_out"].items()]
    header = ("region", "pictures", *(title for title, _ in _OUTSIDE.values()))
    caption = "Changes outside the region of the edit, with 95 % intervals; no part of any score"
    return (_table(caption, header, rows) if rows else "") + note(left_out)


_REGIONS = {
    "mask": "mask of the data",
    "plan": "boxes of the model's own plan",
    "exact": "exact boxes of the edit",
}
_OUTSIDE = {
    "change_outside": ("levels of 255", "{:.2f}"),
    "changed_outside": ("share of pixels that changed", "{:.1%}"),
    "psnr_outside": ("PSNR, dB", "{:.1f}"),
    "ssim_outside": ("SSIM", "{:.3f}"),
}
"""Figures with their titles and how they are spelled."""


def _outside_cells(figures: Mapping[str, Any]) -> list[str]:
    cells = []
    for name, (_, spelled) in _OUTSIDE.items():
        mean, low, high = (figures[name][part] for part in ("mean", "low", "high"))
        cells.append("" if mean is None else f"{spelled} ({spelled} to {spelled})".format(mean, low, high))
    return cells


def _levels(scores: Mapping[str, Any]) -> str:
    """Mean change outside; there is none where no picture could be drawn."""
    value = scores["change_outside"]
    return "unknown" if value is None else f"{value:.1f}"


def note(facts: Sequence[str]) -> str:
    """A paragraph of sentences that are HTML already; nothing for none."""
    return f"<p class='note'>{' '.join(facts)}</p>" if facts else ""


def _grounding(scores: Mapping[str, Any]) -> str:
    grounding = scores.get("grounding")
    if not grounding or grounding["mean"] is None:
        return ""
    rows = [(kind, f"{one['mean']:.3f}", one["n"]) for kind, one in grounding["kinds"].items()]
    rows.append(("all", f"{grounding['mean']:.3f}", grounding["n"]))
    interval = f"95 % interval {grounding['low']:.3f} to {grounding['high']:.3f}"
    return _table(
        f"Grounding: IoU of the chain's box with the true one in the source ({interval})",
        ("edit", "mean IoU", "scenes"),
        rows,
    )


def _seeds(scores: Mapping[str, Any]) -> str:
    """Scores by sampling seed, where there are several."""
    seeds = scores.get("seeds")
    if not seeds or len(seeds["by_seed"]) < 2:
        return ""
    columns = [("overall", seeds), *seeds["tasks"].items()]
    rows = [
        (f"seed {number}", f"{one['overall']:.3f}", *(f"{one['tasks'][task]:.3f}" for task in seeds["tasks"]))
        for number, one in seeds["by_seed"].items()
    ]
    rows += [
        (label, *(f"{value[key]:.3f}" for _, value in columns))
        for key, label in (("mean", "mean"), ("spread", "standard deviation"))
    ]
    return _table("Scores by sampling seed", ("", *(name for name, _ in columns)), rows)


def _repair(scores: Mapping[str, Any]) -> str:
    """The same run with repaired plans beside it."""
    repaired = scores.get("repaired")
    if not repaired:
        return ""
    again = f"{repaired['changed']} of {scores['found']} images drawn again"
    caption = f"Plans as written, and repaired by the smallest move ({again})"
    return _beside(caption, {"as written": scores, "repaired": repaired})


def _kept(scores: Mapping[str, Any]) -> str:
    """The same edits with the source kept outside the boxes beside them."""
    kept = scores.get("kept_outside")
    if not kept:
        return ""
    levels = f"{_levels(scores)} and {_levels(kept)} levels of change outside"
    caption = f"Drawn anew everywhere, and with the source kept outside the plan's boxes ({levels})"
    both = scores.get("repaired_kept_outside")
    return _beside(
        caption, {"drawn anew": scores, "kept": kept} | ({"repaired and kept": both} if both else {})
    )


def _beside(caption: str, runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Scores of several runs, by task."""
    tasks = zip(*(run["tasks"].items() for run in runs.values()), strict=True)
    rows = [_beside_row(same[0][0], [score for _, score in same]) for same in tasks]
    whole = [{**run, "mean": run["overall"], "plan_correct": run["plan_overall"]} for run in runs.values()]
    rows.append(_beside_row("overall", whole))
    return _table(caption, ("task", *runs, *(f"plans right, {name}" for name in runs)), rows)


def _beside_row(task: str, runs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    scores = (f"{one['mean']:.3f} ({one['low']:.3f} to {one['high']:.3f})" for one in runs)
    return task, *scores, *(f"{one['plan_correct']:.3f}" for one in runs)


_WRONG = ("index", "task", "prompt", "seed", "failure", "reason", "plan_reason", "chain", "image", "found")


def failure_table(samples: pl.DataFrame, most: int = 40) -> str:
    """The first wrong rows as a table, for tables without pictures."""
    if "correct" not in samples.columns:
        return ""
    wrong = samples.filter(~pl.col("correct"))
    if wrong.is_empty():
        return ""
    hidden = {"image", "found"} if "index" in samples.columns else set()
    columns = [one for one in _WRONG if one in samples.columns and one not in hidden]
    rows = "".join(_row(row[c] for c in columns) for row in wrong.head(most).iter_rows(named=True))
    summary = f"<summary>Wrong images ({min(most, wrong.height)} of {wrong.height})</summary>"
    return f"<details>{summary}<table>{_row(columns, 'th')}{rows}</table></details>"
