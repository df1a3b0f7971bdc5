"""`edits/scenes`: edits of unseen scenes, and `grounding/scenes`, their chains alone.

Belongs here: the protocols, ceilings and verdicts. Not here: which edits are requested (`edit_cases`), the
rules (`edit_rules`, `grounding`), the detector (`detector`), or running it (`runner`).
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl
from PIL import Image

from got_core.chain.boxes import LIMIT
from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.detector import (
    SELF_TEST_BAR,
    DetectorError,
    Redraw,
    autoencoder_redraw,
    detect,
    detector_record,
)
from got_core.evaluate.edit_cases import EditCase, edit_cases
from got_core.evaluate.edit_rules import (
    EditRules,
    changed_boxes,
    expected_objects,
    judge_edit,
    judge_edit_plan,
    planned_places,
)
from got_core.evaluate.grounding import grounding_iou, grounding_scores
from got_core.evaluate.protocol import Protocol, digest_of, protocol_figures, world_record
from got_core.evaluate.samples import Drawn, Request, picture_seed, plan_requests, sample_name
from got_core.evaluate.scores import TRACE_LEFT, outcome_of
from got_core.evaluate.suite import (
    AS_WRITTEN,
    REPAIR_SLACK,
    EditRegion,
    Variant,
    chosen_variants,
    sampler_arguments,
)
from got_core.evaluate.trace_scores import COLUMNS as TRACES
from got_core.evaluate.trace_scores import trace_figures
from got_core.evaluate.traces import TraceRules, Traces, shown_places, traces_of
from got_core.figures.grids import GridItem, picture_grid, png_bytes
from got_core.planning.edits import repair_edit_plan
from got_core.planning.geneval import Detection
from got_core.planning.objects import plan_followed
from got_core.scenes.render import render
from got_core.scenes.world import World

if TYPE_CHECKING:
    from got_core.chain.grammar import Chain
    from got_core.model.pipeline import GoTPipeline

GROUNDING = "grounding/scenes"
VERSION = 5
"""Raise when cases or rules change in a way that can change a verdict. 2: where a plan names the background,
it has to be the source's. 3: the model's text must be a chain as it stands, and new places must be free.
4: canvases as the released inference code paints them, places of the same pixels, evenly spaced noise
levels. 5: an edit that leaves a trace of what it takes away is not right."""

EDITS: dict[str, pl.DataType] = {
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
    "reason": pl.String(),
    "change_found": pl.Boolean(),
    "others_kept": pl.Boolean(),
    "change_outside": pl.Float64(),
    **TRACES,
    "plan_correct": pl.Boolean(),
    "plan_faults": pl.List(pl.String()),
    "plan_reason": pl.String(),
    "failure": pl.String(),
    "grounding_iou": pl.Float64(),
    "plan_iou": pl.Float64(),
    "place_iou": pl.Float64(),
    "found": pl.String(),
}
"""`case`: number of the source scene and its edit; `task`: kind of edit; `prompt`: the instruction;
`change_outside`: levels of 255, null where nothing could be drawn; `trace`, `rest` and `edges`: levels from
the true picture (`traces`); `plan_iou`: mean IoU of the places planned
for added and moved objects with found ones of that class and colour, `place_iou`: whatever they are; 0 for a
place that is not planned, null where none is required."""


_NOT_DRAWN: dict[str, Any] = {
    **dict.fromkeys(("change_outside", *TRACES)),
    **dict.fromkeys(("correct", "change_found", "others_kept"), False),
}
"""What is said of a picture that is none."""


@dataclass(frozen=True)
class EditScenes:
    """`edits/scenes` in a world and at a size; its tasks are the kinds of edit."""

    world: World
    config: EvaluateConfig

    name: ClassVar[str] = "edits/scenes"
    cluster: ClassVar[str] = "case"
    value: ClassVar[str] = "correct"
    mean_of: ClassVar[str] = "tasks"
    columns: ClassVar[Mapping[str, pl.DataType]] = EDITS

    @cached_property
    def cases(self) -> list[EditCase]:
        """What is to be edited; all of it for the first sampling seed, then for the next."""
        return edit_cases(self.world, self.config)

    @cached_property
    def sources(self) -> list[Image.Image]:
        """The pictures of the cases."""
        return [render(case.source) for case in self.cases]

    @property
    def rules(self) -> EditRules:
        """The rules with the configured limit."""
        return EditRules(max_change=self.config.max_change_outside)

    @property
    def trace_rules(self) -> TraceRules:
        """Those of traces, with the configured limit."""
        return TraceRules(most=self.config.max_trace)

    @property
    def expected(self) -> dict[str, int]:
        """Pictures of each kind of edit."""
        kinds = [case.kind for case in self.cases]
        return {kind: kinds.count(kind) * len(self.config.sampling_seeds) for kind in dict.fromkeys(kinds)}

    @property
    def variants(self) -> tuple[Variant, ...]:
        """All that are configured."""
        return chosen_variants(self.config)

    def protocol(self, variant: Variant = AS_WRITTEN, name: str | None = None) -> Protocol:
        """The protocol of a variant; `name`: of another measure on the same cases (GROUNDING)."""
        config = self.config
        repair = {"repair": {"move": "nearest", "slack_pixels": REPAIR_SLACK}}
        listed = [[case.instruction, dataclasses.asdict(case.source), case.seed] for case in self.cases]
        return Protocol(
            name=name or self.name,
            version=VERSION,
            rules={**dataclasses.asdict(self.rules), "traces": dataclasses.asdict(self.trace_rules)},
            detector=detector_record(),
            prompts={
                "edit_images": config.edit_images,
                "edit_steps": config.edit_steps,
                "seed": config.seed,
                "sampling_seeds": list(config.sampling_seeds),
                "digest": digest_of(listed),
            },
            sampler=sampler_arguments(config) | variant.sampler | (repair if variant.repaired else {}),
            aggregation={
                "task": "mean over pictures of a kind of edit, all sampling seeds",
                "overall": "plain mean of the kinds",
                "interval": f"95 % percentile bootstrap over source scenes, {config.bootstrap} resamples",
            },
            world=world_record(self.world),
        )

    def requests(self, prefix: str) -> dict[int, Request]:
        """The pictures to draw, numbered in the order of the cases, sampling seed after sampling seed."""
        requests: dict[int, Request] = {}
        for number in self.config.sampling_seeds:
            for case, source in zip(self.cases, self.sources, strict=True):
                index = len(requests)
                seed = picture_seed(case.seed, number)
                requests[index] = Request(sample_name(prefix, index), case.instruction, seed, source)
        return requests

    def repair(self, index: int, chain: Chain) -> Chain:
        """The plan with places moved until they keep REPAIR_SLACK pixels from the limits of their words."""
        side = self.world.size
        slack = math.ceil(LIMIT * REPAIR_SLACK / side)
        return repair_edit_plan(chain, self._case(index).instruction, size=(side, side), slack=slack)

    def ceilings(self, pipeline: GoTPipeline) -> dict[str, Any]:
        """See `edit_ceilings`."""
        return edit_ceilings(self, autoencoder_redraw(pipeline.vae))

    def judge(self, index: int, drawn: Drawn) -> dict[str, Any]:
        """The verdict on an edited picture and on its chain."""
        turn, number = divmod(index, len(self.cases))
        case = self.cases[number]
        faults = judge_edit_plan(drawn.chain, case.source, case.ops, self.world, self.rules, drawn.dropped)
        return {
            "case": number,
            "task": case.kind,
            "sampling_seed": self.config.sampling_seeds[turn],
            **self._judge_picture(number, drawn),
            "plan_correct": not faults,
            "plan_faults": sorted({kind for kind, _ in faults}),
            "plan_reason": "; ".join(reason for _, reason in faults) or None,
            "grounding_iou": grounding_iou(drawn.chain, case.source, case.ops),
        }

    def _judge_picture(self, number: int, drawn: Drawn) -> dict[str, Any]:
        case, after = self.cases[number], self._sized(drawn.image)
        found = [] if drawn.fault else detect(after)
        planned = planned_places(drawn.chain, case.source, case.ops, self.world)
        new = sum(one.op is not None and not one.gone for one in expected_objects(case.source, case.ops))

        def mean_iou(**options: bool) -> float | None:
            """Over the places that are required; 0 for those that are not planned."""
            followed = plan_followed(planned, found, **options) or 0.0
            return followed * len(planned) / new if new else None

        verdict = _NOT_DRAWN if drawn.fault else self.verdict(number, after, found, planned)
        return {
            **verdict,
            "reason": drawn.fault or verdict["reason"],
            "plan_iou": mean_iou(),
            "place_iou": mean_iou(place_only=True),
            "found": json.dumps([dataclasses.asdict(d) for d in found]),
        }

    def verdict(
        self, number: int, after: Image.Image, found: Sequence[Detection], planned: Sequence[Detection] = ()
    ) -> dict[str, Any]:
        """What a picture of a case shows, by the objects `found` in it; with `failure` where an edit is right
        but for a trace."""
        case = self.cases[number]
        expected = expected_objects(case.source, case.ops)
        judged = judge_edit(self.sources[number], after, found, expected, self.rules)
        traces = self._traces(number, after, found, planned)
        row = {
            "correct": judged.correct,
            "reason": judged.reason,
            "change_found": judged.change is None,
            "others_kept": judged.others is None,
            "change_outside": judged.change_outside,
            **{name: getattr(traces, name) for name in TRACES},
        }
        most = self.trace_rules.most
        if judged.correct and traces.trace is not None and traces.trace > most:
            reason = f"what was there before shows by {traces.trace:.1f} levels (at most {most:g})"
            row |= {"correct": False, "reason": reason, "failure": TRACE_LEFT}
        return row

    def _traces(
        self, number: int, after: Image.Image, found: Sequence[Detection], planned: Sequence[Detection]
    ) -> Traces:
        case = self.cases[number]
        expected = expected_objects(case.source, case.ops)
        places = shown_places(found, planned, expected, self.rules, self.world.size)
        return traces_of(case.source, case.target, expected, places, after, self.trace_rules)

    def _sized(self, image: Image.Image) -> Image.Image:
        size = (self.world.size, self.world.size)
        return image if image.size == size else image.resize(size)

    def traces(self, row: Mapping[str, Any], drawn: Drawn) -> tuple[Image.Image, Traces]:
        """Of a row of its samples: the source, and how far the picture is from the true one."""
        case = self.cases[row["case"]]
        planned = planned_places(drawn.chain, case.source, case.ops, self.world)
        after = self._sized(drawn.image)
        return self.sources[row["case"]], self._traces(row["case"], after, _found(row), planned)

    def may_change(self, row: Mapping[str, Any]) -> EditRegion:
        """Of a row of its samples: the source, and where the picture may differ from it."""
        case = self.cases[row["case"]]
        boxes = changed_boxes(_found(row), expected_objects(case.source, case.ops), self.rules)
        return EditRegion(self.sources[row["case"]], boxes, self.rules.halo)

    def figures(self, samples: pl.DataFrame) -> dict[str, Any]:
        """Shares of found changes and kept objects, the mean change outside, and `grounding`."""
        one_each = samples.unique("case", keep="first", maintain_order=True)
        return {
            "change_found": samples["change_found"].mean(),
            "others_kept": samples["others_kept"].mean(),
            "change_outside": samples["change_outside"].mean(),
            "traces": trace_figures(samples),
            "grounding": grounding_scores(one_each, self.config),
        }

    def grid(self, samples: pl.DataFrame, drawn: Mapping[int, Drawn]) -> bytes:
        """The first cases of each kind, one row a kind: source with planned boxes, then the edited one."""
        pairs = max(1, self.config.grid_per_task // 2)
        items: list[GridItem] = []
        for row in samples.group_by("task", maintain_order=True).head(pairs).iter_rows(named=True):
            one = drawn[row["index"]]
            items.append(GridItem(self.sources[row["case"]], row["prompt"], one.outlines))
            items.append(GridItem(one.image, "", (), row["correct"], outcome_of(row)))
        return png_bytes(picture_grid(items, columns=2 * pairs)) if items else b""

    def _case(self, index: int) -> EditCase:
        return self.cases[index % len(self.cases)]


def _found(row: Mapping[str, Any]) -> list[Detection]:
    return [Detection(**{**one, "box": tuple(one["box"])}) for one in json.loads(row["found"])]


# ---------------------------------------------------------------- ceilings


def edit_ceilings(suite: EditScenes, redraw: Redraw) -> dict[str, Any]:
    """What a perfect editor would score, and what one that changes nothing does.

    `detector_ceiling`: true targets; `autoencoder_ceiling`: the same through the autoencoder; `unchanged`:
    the sources through the autoencoder, which must fail; `reconstruction_change`: levels by which the
    autoencoder alone changes a picture outside the boxes, mean and largest (the limit has to lie above);
    `trace_ceilings`: figures of traces, of true targets through the autoencoder and of unchanged sources.
    Raises DetectorError where the rules refuse true targets or accept unchanged sources.
    """
    targets = [render(case.target) for case in suite.cases]
    plain, through, unchanged = (
        _verdicts(suite, after) for after in (targets, redraw(targets), redraw(suite.sources))
    )
    right, wrong = _share(plain), _share(unchanged)
    if right < SELF_TEST_BAR or wrong > 1 - SELF_TEST_BAR:
        raise DetectorError(
            f"of {len(targets)} known edits {right:.3f} pass where all should and {wrong:.3f} where "
            "nothing was done: nothing was scored; look at got_core.evaluate.edit_rules and the scene reader"
        )
    levels = through["change_outside"].to_numpy()
    return {
        "detector_ceiling": right,
        "autoencoder_ceiling": _share(through),
        "unchanged": wrong,
        "reconstruction_change": {"mean": float(np.mean(levels)), "max": float(np.max(levels))},
        "trace_ceilings": {"autoencoder": trace_figures(through), "unchanged": trace_figures(unchanged)},
    }


def _verdicts(suite: EditScenes, after: Sequence[Image.Image]) -> pl.DataFrame:
    """On one picture of each case: `task` and what `EDITS` names of a picture."""
    rows = [
        {"task": case.kind, **suite.verdict(number, picture, detect(picture))}
        for number, (case, picture) in enumerate(zip(suite.cases, after, strict=True))
    ]
    names = ("task", "correct", "change_outside", *TRACES)
    return pl.DataFrame(rows, schema={name: EDITS[name] for name in names})


def _share(verdicts: pl.DataFrame) -> float:
    return float(verdicts["correct"].mean())  # type: ignore[arg-type]


# ---------------------------------------------------------------- grounding alone


def run_grounding_scenes(pipeline: GoTPipeline, world: World, config: EvaluateConfig) -> dict[str, Any]:
    """Grounding alone, on the same cases: chains are written, nothing is drawn. See `grounding_scores`."""
    suite = EditScenes(world, config)
    requests = list(suite.requests("none").values())[: len(suite.cases)]
    sampler, chains = sampler_arguments(config), list["Chain"]()
    for start in range(0, len(requests), config.batch_size):
        plans = plan_requests(pipeline, requests[start : start + config.batch_size], sampler, {})
        chains += [plan.chain for plan in plans]
    rows = [
        {"task": case.kind, "grounding_iou": grounding_iou(chain, case.source, case.ops)}
        for case, chain in zip(suite.cases, chains, strict=True)
    ]
    frame = pl.DataFrame(rows, schema={"task": pl.String(), "grounding_iou": pl.Float64()})
    return {**protocol_figures(suite.protocol(name=GROUNDING)), **grounding_scores(frame, config)}
