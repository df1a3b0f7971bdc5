"""`emu_edit/scenes`: Emu-Edit's figures with exact counterparts, from scenes that are known.

Belongs here: the suite, and the figures of a picture. Not here: their rules (`agreement`).

The counterparts: `source_agreement` of CLIP-I (what is found, against the source scene), `target_agreement`
of CLIP-T (against what the instruction asks for), `direction` of CLIP-dir (the share of the asked change that
was made), `l1_source` and `l1_target` of L1 (against the source, and against the true result). The value is
the direction: copies have the best `source_agreement` and `l1_source` there are, and a direction of 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import polars as pl
from PIL import Image

from got_core.evaluate.detector import autoencoder_redraw, detect, true_detections
from got_core.evaluate.edit_cases import edit_cases
from got_core.evaluate.exact.agreement import agreement, made_of, of_edit, of_scene
from got_core.evaluate.exact.asked import success_of
from got_core.evaluate.exact.cases import ExactCase, of_edit_case
from got_core.evaluate.exact.excess import difference
from got_core.evaluate.exact.suite import COLUMNS, ExactSuite, Place, exact_ceilings, mean
from got_core.planning.geneval import Detection

if TYPE_CHECKING:
    from got_core.model.pipeline import GoTPipeline

FIGURES = ("source_agreement", "target_agreement", "direction", "l1_source", "l1_target")
MEASURED: dict[str, pl.DataType] = {**COLUMNS, **dict.fromkeys(FIGURES, pl.Float64())}

TASKS = {"add": "add", "remove": "remove", "recolour": "color", "replace": "local", "move": "local"}
"""Emu-Edit's task of each kind of edit. Scenes have no counterparts of background, global, style and text,
and Emu-Edit none of edits in several steps."""


@dataclass(frozen=True)
class EmuEditScenes(ExactSuite):
    """`emu_edit/scenes` in a world and at a size: the edits of `edits/scenes` in one step, by Emu-Edit's
    tasks."""

    name: ClassVar[str] = "emu_edit/scenes"
    version: ClassVar[int] = 1
    mean_of: ClassVar[str] = "tasks"
    columns: ClassVar[dict[str, pl.DataType]] = MEASURED

    @cached_property
    def cases(self) -> list[ExactCase]:
        """All those of `edits/scenes`, so that they have its numbers."""
        return [of_edit_case(one, TASKS.get(one.kind)) for one in edit_cases(self.world, self.config)]

    @cached_property
    def places(self) -> dict[int, Place]:
        """Of the cases of one step, numbered as in `edits/scenes`."""
        return {n: one for n, one in super().places.items() if self.cases[one.case].kind in TASKS.values()}

    def measure(self, case: ExactCase, after: Image.Image, found: Sequence[Detection]) -> dict[str, Any]:
        """The five figures; the value is the direction."""
        rules, size = self.rules, case.source.size
        truth = true_detections(case.source)
        source = agreement(found, of_scene(case.source, rules), rules)
        target = agreement(found, of_edit(case.expected, found, size, rules), rules)
        copied = agreement(truth, of_edit(case.expected, truth, size, rules), rules)
        direction = made_of(copied, target)
        success = success_of(found, case.source, case.expected, rules)
        return {
            "value": direction,
            "reason": success.reason,
            "source_agreement": source,
            "target_agreement": target,
            "direction": direction,
            "l1_source": float(difference(case.before, after).mean()) / 255,
            "l1_target": float(difference(case.true_result(success.placed), after).mean()) / 255,
        }

    def ceilings(self, pipeline: GoTPipeline) -> dict[str, Any]:
        """See `exact_ceilings`; with all figures of copied sources and of true results."""
        cases = [self.cases[one.case] for one in self.places.values() if one.turn == 0]
        return {
            **exact_ceilings(self, autoencoder_redraw(pipeline.vae)),
            "copied_figures": self._means(cases, [case.before for case in cases]),
            "target_figures": self._means(cases, [case.true_result({}) for case in cases]),
        }

    def _means(self, cases: Sequence[ExactCase], shown: Sequence[Image.Image]) -> dict[str, float | None]:
        rows = [self.measure(case, one, detect(one)) for case, one in zip(cases, shown, strict=True)]
        frame = pl.DataFrame(rows, schema={name: MEASURED[name] for name in ("value", "reason", *FIGURES)})
        return {name: mean(frame[name]) for name in FIGURES}

    def figures(self, samples: pl.DataFrame) -> dict[str, Any]:
        """Means of all five."""
        means = {name: mean(samples[name]) for name in FIGURES}
        if any(one is None for one in means.values()):
            return means
        texts = ", ".join(f"{name.replace('_', ' ')} {means[name]:.3f}" for name in FIGURES)
        return means | {"notes": [f"{texts.capitalize()}. A copied source has direction 0."]}
