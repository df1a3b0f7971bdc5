"""`imagenhub/scenes`: the two scores of ImagenHub's protocol for text-guided edits, of known scenes.

Belongs here: the suite, and the two scores of a picture. Not here: their rules (`asked`, `excess`).

Per picture the success of the edit and the over-editing, 0 to 10 each; the value is the smaller one over 10,
the overall score the mean over pictures. Where the object to be edited is absent from the source, the success
is 0 whatever is drawn. All edits but those are the ones of `edits/scenes`, of which the pictures are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import polars as pl
from PIL import Image

from got_core.evaluate.edit_cases import edit_cases
from got_core.evaluate.edit_rules import EditRules
from got_core.evaluate.exact.asked import ExactRules, success_of
from got_core.evaluate.exact.cases import ABSENT, ExactCase, absent_cases, of_edit_case
from got_core.evaluate.exact.excess import excess_of, outside
from got_core.evaluate.exact.suite import COLUMNS, ExactSuite, Place, mean
from got_core.evaluate.trace_scores import COLUMNS as TRACES
from got_core.evaluate.trace_scores import trace_figures
from got_core.evaluate.traces import TraceRules, shown_places, traces_of
from got_core.planning.geneval import Detection

SCORED: dict[str, pl.DataType] = {
    **COLUMNS,
    "success": pl.Float64(),
    "over_editing": pl.Float64(),
    "changed_outside": pl.Float64(),
    **TRACES,
}
"""`success` and `over_editing`: 0 to 10, the latter 10 where nothing else changed; `changed_outside`: what
changed outside over what the true edit changes; `trace`, `rest` and `edges`: levels from the true picture
(`evaluate.traces`), no part of the value."""


def two_scores(
    case: ExactCase, after: Image.Image, found: Sequence[Detection], rules: ExactRules
) -> dict[str, Any]:
    """`success`, `over_editing`, `changed_outside`, `value` and `reason` of both, and levels of traces."""
    success, boxes = 0.0, ()
    reason: str | None = f"the source shows no {case.absent}"
    if not case.absent:
        judged = success_of(found, case.source, case.expected, rules)
        success, reason, boxes = judged.score, judged.reason, judged.boxes  # type: ignore[assignment]
    kept = outside(case.source.size, case.expected, boxes, rules.halo)
    excess = excess_of(case.before, after, kept, case.true_change, rules)
    much = f"outside changes {excess.share:.2f} of what the edit does" if excess.score < success else None
    places = shown_places(found, (), case.expected, EditRules(), case.source.size)
    traces = traces_of(case.source, case.target, case.expected, places, after, TraceRules())
    return {
        "value": min(success, excess.score) / 10,
        "reason": "; ".join(filter(None, (reason, much))) or None,
        "success": success,
        "over_editing": excess.score,
        "changed_outside": excess.share,
        **{name: getattr(traces, name) for name in TRACES},
    }


@dataclass(frozen=True)
class ImagenHubScenes(ExactSuite):
    """`imagenhub/scenes` in a world and at a size; its tasks are the kinds of edit, and absent objects."""

    name: ClassVar[str] = "imagenhub/scenes"
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, pl.DataType]] = SCORED

    @cached_property
    def cases(self) -> list[ExactCase]:
        """Those of `edits/scenes`, then edits of absent objects."""
        edits = [of_edit_case(case) for case in edit_cases(self.world, self.config)]
        return [*edits, *absent_cases(self.world, self.config)]

    @cached_property
    def places(self) -> dict[int, Place]:
        """All pictures of `edits/scenes` as there, then those of absent objects in a folder of their own."""
        edits = self.config.edit_images
        absent, turns = len(self.cases) - edits, range(len(self.config.sampling_seeds))
        shared = [(turn, case) for turn in turns for case in range(edits)]
        own = [(turn, case) for turn in turns for case in range(absent)]
        places = [Place(case, turn, f"{turn * edits + case:05d}.png") for turn, case in shared]
        places += [Place(edits + case, turn, f"absent/{turn * absent + case:05d}.png") for turn, case in own]
        return dict(enumerate(places))

    def size(self) -> dict[str, Any]:
        """With the number of edits of absent objects."""
        return super().size() | {"absent": len(self.cases) - self.config.edit_images}

    def measure(self, case: ExactCase, after: Image.Image, found: Sequence[Detection]) -> dict[str, Any]:
        """See `two_scores`."""
        return two_scores(case, after, found, self.rules)

    def figures(self, samples: pl.DataFrame) -> dict[str, Any]:
        """Means of both scores, and the overall score without absent objects, of which 1 is the most."""
        absent = samples.filter(pl.col("task") == ABSENT)
        there = samples.filter(pl.col("task") != ABSENT)
        figures = score_means(there) | {
            "without_absent": mean(there["value"]),
            "absent_over_editing": mean(absent["over_editing"]),
        }
        notes = [*score_notes(figures), *_absent_note(figures, absent.height)]
        return figures | {"traces": trace_figures(there), "notes": notes}


def score_means(samples: pl.DataFrame) -> dict[str, float | None]:
    """Means of the two scores, 0 to 10."""
    return {"success": mean(samples["success"]), "over_editing": mean(samples["over_editing"])}


def score_notes(figures: dict[str, float | None]) -> list[str]:
    """The same in words."""
    if figures["success"] is None or figures["over_editing"] is None:
        return []
    return [
        f"Success of the edit {figures['success']:.2f}, over-editing {figures['over_editing']:.2f} (of 10, "
        "which is nothing but the edit), on average."
    ]


def _absent_note(figures: dict[str, float | None], count: int) -> list[str]:
    if figures["without_absent"] is None or figures["absent_over_editing"] is None:
        return []
    return [
        f"Without the {count} edits of objects that are not there, whose success is 0 by the protocol, the "
        f"score is {figures['without_absent']:.3f}; their over-editing is "
        f"{figures['absent_over_editing']:.2f} (10: left alone)."
    ]
