"""What the exact benchmarks have in common: requests, verdicts on plans, ceilings, grids.

Belongs here: all that does not depend on which figure is made. Not here: the figures (`imagenhub`,
`reason_edit`, `emu_edit`), or running a suite (`evaluate.runner`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl
from PIL import Image

from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.detector import (
    SELF_TEST_BAR,
    DetectorError,
    autoencoder_redraw,
    detect,
    detector_record,
)
from got_core.evaluate.edit_rules import EditRules, judge_edit_plan
from got_core.evaluate.exact.asked import ExactRules, success_of
from got_core.evaluate.exact.cases import ExactCase
from got_core.evaluate.grounding import grounding_iou
from got_core.evaluate.protocol import Protocol, digest_of, world_record
from got_core.evaluate.samples import Drawn, Request, picture_seed
from got_core.evaluate.scores import outcome_of
from got_core.evaluate.suite import AS_WRITTEN, EditRegion, Variant, sampler_arguments
from got_core.evaluate.trace_scores import COLUMNS as TRACES
from got_core.figures.grids import GridItem, picture_grid, png_bytes
from got_core.planning.edits import edit_steps
from got_core.planning.geneval import Detection
from got_core.scenes.world import World

if TYPE_CHECKING:
    from got_core.chain.grammar import Chain
    from got_core.model.pipeline import GoTPipeline

COLUMNS: dict[str, pl.DataType] = {
    "sample_id": pl.String(),
    "index": pl.Int32(),
    "case": pl.Int32(),
    "task": pl.String(),
    "prompt": pl.String(),
    "sampling_seed": pl.Int64(),
    "seed": pl.Int64(),
    "chain": pl.String(),
    "image": pl.String(),
    "image_id": pl.String(),
    "correct": pl.Boolean(),
    "value": pl.Float64(),
    "reason": pl.String(),
    "plan_correct": pl.Boolean(),
    "plan_faults": pl.List(pl.String()),
    "plan_reason": pl.String(),
    "failure": pl.String(),
    "grounding_iou": pl.Float64(),
    "found": pl.String(),
}
"""`value`: the figure that is scored; `correct`: whether it is at least `ExactRules.right_from`; the others
as in `edits/scenes`."""


@dataclass(frozen=True)
class Place:
    """A picture of a suite."""

    case: int
    turn: int
    """Which of the sampling seeds draws it, counted from 0."""

    name: str
    """Of its file, below the suite's folder of pictures."""


@dataclass(frozen=True)
class ExactSuite:
    """A suite whose samples have values; see `evaluate.suite.Suite`."""

    world: World
    config: EvaluateConfig

    name: ClassVar[str]
    version: ClassVar[int]
    """Raise when cases or rules change in a way that can change a value."""

    cluster: ClassVar[str] = "case"
    value: ClassVar[str] = "value"
    mean_of: ClassVar[str] = "samples"
    columns: ClassVar[Mapping[str, pl.DataType]] = COLUMNS
    rules: ClassVar[ExactRules] = ExactRules()

    @cached_property
    def cases(self) -> list[ExactCase]:
        """What is to be edited."""
        raise NotImplementedError

    @cached_property
    def places(self) -> dict[int, Place]:
        """The pictures by number: all cases for the first sampling seed, then for the next."""
        count, turns = len(self.cases), len(self.config.sampling_seeds)
        return {
            turn * count + case: Place(case, turn, f"{turn * count + case:05d}.png")
            for turn in range(turns)
            for case in range(count)
        }

    def size(self) -> dict[str, Any]:
        """What the number of cases depends on, for the protocol."""
        return {"edit_images": self.config.edit_images, "edit_steps": self.config.edit_steps}

    def measure(self, case: ExactCase, after: Image.Image, found: Sequence[Detection]) -> dict[str, Any]:
        """`value`, `reason` and the suite's own columns, of a picture of the source's size; also of one that
        could not be drawn, in which nothing is found."""
        raise NotImplementedError

    @property
    def expected(self) -> dict[str, int]:
        """Pictures of each task."""
        tasks = [self.cases[one.case].kind for one in self.places.values()]
        return {task: tasks.count(task) for task in dict.fromkeys(tasks)}

    @property
    def variants(self) -> tuple[Variant, ...]:
        """None: those of `edits/scenes` say what they do."""
        return ()

    def protocol(self, variant: Variant = AS_WRITTEN) -> Protocol:
        """All that the scores depend on besides the model."""
        listed = [[c.instruction, dataclasses.asdict(c.source), c.seed, c.absent] for c in self.cases]
        config = self.config
        over = "plain mean of the tasks" if self.mean_of == "tasks" else "mean over pictures"
        return Protocol(
            name=self.name,
            version=self.version,
            rules=dataclasses.asdict(self.rules),
            detector=detector_record(),
            prompts={
                **self.size(),
                "seed": config.seed,
                "sampling_seeds": list(config.sampling_seeds),
                "digest": digest_of(listed),
            },
            sampler=sampler_arguments(config),
            aggregation={
                "task": "mean over pictures of a task, all sampling seeds",
                "overall": over,
                "interval": f"95 % percentile bootstrap over source scenes, {config.bootstrap} resamples",
            },
            world=world_record(self.world),
        )

    def requests(self, prefix: str) -> dict[int, Request]:
        """The pictures to draw, by number."""
        folder, seeds = prefix.rstrip("/"), self.config.sampling_seeds
        requests = {}
        for index, one in self.places.items():
            case = self.cases[one.case]
            seed = picture_seed(case.seed, seeds[one.turn])
            requests[index] = Request(f"{folder}/{one.name}", case.instruction, seed, case.before)
        return requests

    def repair(self, index: int, chain: Chain) -> Chain:
        """The plan as it is."""
        return chain

    def judge(self, index: int, drawn: Drawn) -> dict[str, Any]:
        """The verdict on an edited picture and on its chain."""
        place = self.places[index]
        case = self.cases[place.case]
        after = drawn.image if drawn.image.size == case.before.size else drawn.image.resize(case.before.size)
        found = [] if drawn.fault else detect(after)
        measured = self.measure(case, after, found)
        faults = self._plan_faults(case, drawn)
        return {
            "case": place.case,
            "task": case.kind,
            "sampling_seed": self.config.sampling_seeds[place.turn],
            "correct": not drawn.fault and measured["value"] >= self.rules.right_from,
            **measured,
            "reason": drawn.fault or measured["reason"],
            **{name: None for name in TRACES if drawn.fault and name in measured},
            "plan_correct": not faults,
            "plan_faults": sorted({kind for kind, _ in faults}),
            "plan_reason": "; ".join(reason for _, reason in faults) or None,
            "grounding_iou": None if case.absent else grounding_iou(drawn.chain, case.source, case.ops),
            "found": json.dumps([dataclasses.asdict(d) for d in found]),
        }

    def _plan_faults(self, case: ExactCase, drawn: Drawn) -> list[tuple[str, str]]:
        """Of an absent object nothing may be planned. Steps may be planned in any order where `any_order`
        says so, else in theirs."""
        if case.absent:
            planned = edit_steps(drawn.chain)
            return [("absent", f"edits the {case.absent}, which is not there")] if planned else []
        orders = permutations(case.ops) if self.any_order(case) else iter([case.ops])
        tries = (
            judge_edit_plan(drawn.chain, case.source, ops, self.world, EditRules(), drawn.dropped)
            for ops in orders
        )
        return min(tries, key=len)

    def may_change(self, row: Mapping[str, Any]) -> EditRegion:
        """Of a row of its samples: the source, and where the picture may differ from it."""
        case = self.cases[row["case"]]
        found = [Detection(**{**one, "box": tuple(one["box"])}) for one in json.loads(row["found"])]
        new = success_of(found, case.source, case.expected, self.rules).boxes
        old = [one.old for one in case.expected if one.changed and one.old is not None]
        return EditRegion(case.before, [*old, *new], self.rules.halo)

    def any_order(self, case: ExactCase) -> bool:
        """Whether the steps of the case may be made in any order."""
        return False

    def ceilings(self, pipeline: GoTPipeline) -> dict[str, Any]:
        """See `exact_ceilings`."""
        return exact_ceilings(self, autoencoder_redraw(pipeline.vae))

    def figures(self, samples: pl.DataFrame) -> dict[str, Any]:
        """Nothing besides what every benchmark has."""
        return {}

    def grid(self, samples: pl.DataFrame, drawn: Mapping[int, Drawn]) -> bytes:
        """The first cases of each task, one row a task: source with planned boxes, then the edited one."""
        pairs = max(1, self.config.grid_per_task // 2)
        items: list[GridItem] = []
        for row in samples.group_by("task", maintain_order=True).head(pairs).iter_rows(named=True):
            one = drawn[row["index"]]
            items.append(GridItem(self.cases[row["case"]].before, row["prompt"], one.outlines))
            items.append(GridItem(one.image, "", (), row["correct"], outcome_of(row)))
        return png_bytes(picture_grid(items, columns=2 * pairs)) if items else b""


def mean(values: pl.Series) -> float | None:
    """The mean of a column without nulls; None where there is nothing."""
    found = values.mean()
    return None if found is None else float(found)  # type: ignore[arg-type]


def exact_ceilings(suite: ExactSuite, redraw: Any) -> dict[str, Any]:
    """What a perfect editor would score, and what one that changes nothing does, of edits that can be made.

    `detector_ceiling`: true results, `autoencoder_ceiling`: the same through the autoencoder, `copied`:
    sources as they are, `copied_redrawn`: through the autoencoder. Raises DetectorError where true results
    are not right or copies are.
    """
    cases = [suite.cases[number] for number in dict.fromkeys(one.case for one in suite.places.values())]
    cases = [case for case in cases if not case.absent]
    targets, sources = [c.true_result({}) for c in cases], [c.before for c in cases]
    plain, copied = _mean_value(suite, cases, targets), _mean_value(suite, cases, sources)
    if plain < SELF_TEST_BAR or copied > 1 - SELF_TEST_BAR:
        raise DetectorError(
            f"{suite.name} gives true results {plain:.3f} where it should give 1, and copied sources "
            f"{copied:.3f} where it should give 0: nothing was scored; look at got_core.evaluate.exact and "
            "the scene reader"
        )
    return {
        "detector_ceiling": plain,
        "autoencoder_ceiling": _mean_value(suite, cases, redraw(targets)),
        "copied": copied,
        "copied_redrawn": _mean_value(suite, cases, redraw(sources)),
    }


def _mean_value(suite: ExactSuite, cases: Sequence[ExactCase], shown: Sequence[Image.Image]) -> float:
    values = [suite.measure(c, p, detect(p))["value"] for c, p in zip(cases, shown, strict=True)]
    return float(np.mean(values))
