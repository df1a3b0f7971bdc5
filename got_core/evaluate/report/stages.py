"""The part of the page that says what each stage of the training added.

Belongs here: tables and pictures of `evaluate.stages` as HTML. Not here: making them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from got_core.evaluate.html import table
from got_core.evaluate.stages.figures import HEADER, STEP_HEADER, spelled, spelled_steps

TITLE = "What each stage added"
NOTE = (
    "All models on the same prompts, edits and noise. A picture is drawn from the model's own plan; for what "
    "drawing alone adds, all models also draw from the last model's plans, where these are right. Shares "
    "have 95 % intervals; trace: median levels of 255 where an object has left. Differences are paired; p: "
    "McNemar's exact test over pictures, and the same over prompts or scenes, of which all pictures count "
    "once. Few pictures: got score stages makes the same with many."
)


@dataclass(frozen=True, kw_only=True)
class StagePart:
    """What the page shows of the stages."""

    document: Mapping[str, Any]
    """As `stages.figures.stage_figures` gives it."""

    plot_png: bytes | None = None
    grid_png: bytes | None = None


def stage_part(part: StagePart, pictures: Callable[[bytes | None, str, str], Iterator[str]]) -> Iterator[str]:
    """As pieces of a page. `pictures`: PNG, title and note as such a piece."""
    yield f"<h2>{TITLE}</h2><p class='note'>{escape(NOTE)}</p>"
    for name, one in part.document["benchmarks"].items():
        yield f"<div class='scroll'>{table(name, HEADER, list(spelled(one)))}</div>"
        steps = table(f"{name}: a stage minus the one before", STEP_HEADER, list(spelled_steps(one)))
        yield f"<div class='scroll'>{steps}</div>"
    yield from pictures(part.plot_png, "Stages as a plot", "Bars are shares, lines 95 % intervals.")
    yield from pictures(part.grid_png, "The same requests by each stage", "The first one of each task.")
