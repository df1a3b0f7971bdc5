"""`geneval/scenes`: GenEval's rules on rendered scenes.

Belongs here: its prompts, protocol, ceilings and verdicts. Not here: the rules (`planning.geneval`), the
detector (`detector`), reading and repairing a plan (`planning`), or running it (`runner`). The name differs
from `geneval` because detector and corpus do: their scores are never compared.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import polars as pl

from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.detector import (
    RULES,
    autoencoder_redraw,
    check_detector,
    detect,
    detector_ceiling,
    detector_record,
    refusal,
)
from got_core.evaluate.protocol import Protocol, digest_of, world_record
from got_core.evaluate.samples import Drawn, Request, picture_seed, sample_name
from got_core.evaluate.scores import outcome_of
from got_core.evaluate.suite import AS_WRITTEN, REPAIR_SLACK, Variant, chosen_variants, sampler_arguments
from got_core.figures.grids import GridItem, picture_grid, png_bytes
from got_core.planning.check import Requirements, check_plan
from got_core.planning.geneval import TASKS, evaluate_image
from got_core.planning.objects import plan_detections, plan_followed
from got_core.planning.repair import repair_plan
from got_core.scenes.prompts import benchmark_prompts
from got_core.scenes.world import World

if TYPE_CHECKING:
    from got_core.chain.grammar import Chain
    from got_core.model.pipeline import GoTPipeline

VERSION = 4
"""Raise when prompts or rules change in a way that can change a verdict. 2: a plan must also be valid
(overlap, size), and intervals are over prompts. 3: the model's text must be a chain as it stands.
4: canvases as the released inference code paints them, and evenly spaced noise levels."""

SAMPLES: dict[str, pl.DataType] = {
    "sample_id": pl.String(),
    "index": pl.Int32(),
    "task": pl.String(),
    "prompt": pl.String(),
    "metadata": pl.String(),
    "sampling_seed": pl.Int64(),
    "seed": pl.Int64(),
    "chain": pl.String(),
    "image": pl.String(),
    "image_id": pl.String(),
    "correct": pl.Boolean(),
    "reason": pl.String(),
    "plan_correct": pl.Boolean(),
    "plan_faults": pl.List(pl.String()),
    "plan_reason": pl.String(),
    "failure": pl.String(),
    "plan_iou": pl.Float64(),
    "place_iou": pl.Float64(),
    "found": pl.String(),
}
"""`plan_faults`: kinds of fault of the plan (see `planning.check`); `plan_iou`: planned with found boxes of
the same class and colour, `place_iou`: whatever they are."""


@dataclass(frozen=True)
class GenEvalScenes:
    """`geneval/scenes` in a world and at a size."""

    world: World
    config: EvaluateConfig

    name: ClassVar[str] = "geneval/scenes"
    cluster: ClassVar[str] = "prompt"
    value: ClassVar[str] = "correct"
    mean_of: ClassVar[str] = "tasks"
    columns: ClassVar[Mapping[str, pl.DataType]] = SAMPLES

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Metadata rows of all pictures, one sampling seed after another, with each picture's `seed`."""
        rows = benchmark_prompts(self.world, self.config.images_per_task, self.config.seed)
        return [
            row | {"sampling_seed": number, "seed": picture_seed(row["seed"], number)}
            for number in self.config.sampling_seeds
            for row in rows
        ]

    @property
    def expected(self) -> dict[str, int]:
        """Pictures of each of the six tasks."""
        return dict.fromkeys(TASKS, self.config.images_per_task * len(self.config.sampling_seeds))

    @property
    def variants(self) -> tuple[Variant, ...]:
        """With repaired plans; there is no source to keep."""
        return tuple(one for one in chosen_variants(self.config) if not one.keep_outside)

    def protocol(self, variant: Variant = AS_WRITTEN) -> Protocol:
        """The protocol, with or without repaired plans."""
        config = self.config
        repair = {"repair": {"move": "smallest sum of absolute moves", "slack_pixels": REPAIR_SLACK}}
        return Protocol(
            name=self.name,
            version=VERSION,
            rules=dataclasses.asdict(RULES),
            detector=detector_record(),
            prompts={
                "images_per_task": config.images_per_task,
                "seed": config.seed,
                "sampling_seeds": list(config.sampling_seeds),
                "held_out": "two_object, position and color_attr ask for combinations the corpus never shows",
                "digest": digest_of(self.rows),
            },
            sampler=sampler_arguments(config) | (repair if variant.repaired else {}),
            aggregation={
                "task": "mean over images of all sampling seeds",
                "overall": "plain mean of the six tasks",
                "interval": "95 % percentile bootstrap over the prompts of a task, each with all its images, "
                f"{config.bootstrap} resamples",
            },
            world=world_record(self.world),
        )

    def requests(self, prefix: str) -> dict[int, Request]:
        """The pictures to draw, numbered in the order of the rows."""
        return {
            index: Request(sample_name(prefix, index), row["prompt"], row["seed"])
            for index, row in enumerate(self.rows)
        }

    def repair(self, index: int, chain: Chain) -> Chain:
        """The plan moved until it keeps REPAIR_SLACK pixels from every limit, where a move can do that."""
        return repair_plan(chain, Requirements.in_world(self.rows[index], self.world, REPAIR_SLACK))

    def ceilings(self, pipeline: GoTPipeline) -> dict[str, Any]:
        """Scores of true pictures, and of these through the autoencoder. Raises DetectorError if the detector
        fails its self-test."""
        world, count, seed = self.world, self.config.self_test, self.config.seed
        check_detector(world, self.config)
        return {
            "detector_ceiling": detector_ceiling(world, count, seed),
            "autoencoder_ceiling": detector_ceiling(world, count, seed, autoencoder_redraw(pipeline.vae)),
        }

    def judge(self, index: int, drawn: Drawn) -> dict[str, Any]:
        """The verdict on a picture by GenEval's rules, and on its plan by `planning.check`."""
        row, world, found = self.rows[index], self.world, [] if drawn.fault else detect(drawn.image)
        planned = plan_detections(drawn.chain, world.shapes, *drawn.image.size, colors=world.colors)
        verdict = evaluate_image(found, row, RULES)
        faults = check_plan(drawn.chain, Requirements.in_world(row, world), drawn.dropped)
        reason = "; ".join(verdict.reasons) or None
        return {
            "task": row["tag"],
            "metadata": json.dumps(row, sort_keys=True),
            "sampling_seed": row["sampling_seed"],
            "correct": verdict.correct and not drawn.fault,
            "reason": reason if found else drawn.fault or refusal(drawn.image) or reason,
            "plan_correct": not faults,
            "plan_faults": sorted({fault.kind for fault in faults}),
            "plan_reason": "; ".join(map(str, faults)) or None,
            "plan_iou": plan_followed(planned, found),
            "place_iou": plan_followed(planned, found, place_only=True),
            "found": json.dumps([dataclasses.asdict(d) for d in found]),
        }

    def figures(self, samples: pl.DataFrame) -> dict[str, Any]:
        """Nothing besides what every benchmark has."""
        return {}

    def grid(self, samples: pl.DataFrame, drawn: Mapping[int, Drawn]) -> bytes:
        """The first `grid_per_task` pictures of each task with their planned boxes, one row a task."""
        shown = samples.group_by("task", maintain_order=True).head(self.config.grid_per_task)
        items = [
            GridItem(
                drawn[row["index"]].image,
                row["prompt"],
                drawn[row["index"]].outlines,
                row["correct"],
                outcome_of(row),
            )
            for row in shown.iter_rows(named=True)
        ]
        columns = min(self.config.grid_per_task, self.config.images_per_task)
        return png_bytes(picture_grid(items, columns=columns)) if items else b""
