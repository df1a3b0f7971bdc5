"""`reason_edit/scenes`: edits whose instructions need reasoning, scored as in `imagenhub/scenes`.

Belongs here: the suite. Not here: its instructions (`reasoning`), or the two scores (`imagenhub`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import polars as pl
from PIL import Image

from got_core.chain.boxes import LIMIT
from got_core.chain.grammar import Chain
from got_core.evaluate.exact.cases import ExactCase
from got_core.evaluate.exact.imagenhub import SCORED, score_means, score_notes, two_scores
from got_core.evaluate.exact.reasoning import reasoning_cases
from got_core.evaluate.exact.suite import ExactSuite
from got_core.evaluate.suite import REPAIR_SLACK
from got_core.evaluate.trace_scores import trace_figures
from got_core.planning.edits import repair_edit_plan
from got_core.planning.geneval import Detection
from got_core.scenes.edits import in_turn, instruction
from got_core.scenes.reasoning import MULTIPLE


@dataclass(frozen=True)
class ReasonEditScenes(ExactSuite):
    """`reason_edit/scenes` in a world and at a size; its tasks are Reason-Edit's classes."""

    name: ClassVar[str] = "reason_edit/scenes"
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, pl.DataType]] = SCORED

    @cached_property
    def cases(self) -> list[ExactCase]:
        """What is to be edited."""
        return reasoning_cases(self.world, self.config)

    def size(self) -> dict[str, Any]:
        """The number of pictures."""
        return {"reason_images": self.config.reason_images}

    def repair(self, index: int, chain: Chain) -> Chain:
        """The plan with places moved as in `edits/scenes`, by what its instruction comes to."""
        case, side = self.cases[self.places[index].case], self.world.size
        slack = math.ceil(LIMIT * REPAIR_SLACK / side)
        return repair_edit_plan(chain, instruction(in_turn(case.ops)), size=(side, side), slack=slack)

    def any_order(self, case: ExactCase) -> bool:
        """Several objects are edited in any order."""
        return case.kind == MULTIPLE

    def measure(self, case: ExactCase, after: Image.Image, found: Sequence[Detection]) -> dict[str, Any]:
        """See `two_scores`."""
        return two_scores(case, after, found, self.rules)

    def figures(self, samples: pl.DataFrame) -> dict[str, Any]:
        """Means of both scores, and levels of traces."""
        means = score_means(samples)
        return means | {"traces": trace_figures(samples), "notes": score_notes(means)}
