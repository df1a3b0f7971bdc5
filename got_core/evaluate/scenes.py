"""`geneval/scenes`: GenEval's rules on rendered scenes, from drawing to a complete score.

Belongs here: prompts and pictures of a run, the protocol, the verdicts, with and without repaired plans. Not
here: the rules (`geneval`), the detector (`detector`), reading and mending a plan (`plans`, `planning`),
storing pictures (`samples`), or any page about the result (`report`). The name differs from `geneval`
because detector and corpus do: their scores are never compared.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
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
from got_core.evaluate.geneval import TASKS, evaluate_image, score_seeds, score_tasks
from got_core.evaluate.plans import plan_detections, plan_followed
from got_core.evaluate.protocol import Protocol, digest_of, world_record
from got_core.evaluate.samples import Drawn, Progress, Request, draw_missing, read_samples, sample_name
from got_core.figures.grids import GridItem, picture_grid, png_bytes
from got_core.planning.check import Requirements, check_plan
from got_core.planning.repair import repair_plan
from got_core.scenes.prompts import benchmark_prompts
from got_core.scenes.world import World

if TYPE_CHECKING:
    from got_core.evaluate.edits import EditResult
    from got_core.model.pipeline import GoTPipeline
    from got_core.storage import Storage

NAME = "geneval/scenes"
VERSION = 4
"""Raise when prompts or rules change in a way that can change a verdict. 2: a plan must also be valid
(overlap, size), and intervals are over prompts. 3: the model's text must be a chain as it stands.
4: canvases as the released inference code paints them, and evenly spaced noise levels."""

REPAIR_SLACK = 1
"""Pixels by which a repaired plan keeps its distance from every limit."""

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
"""Columns of `GenEvalResult.samples`. `plan_faults`: kinds of fault of the plan (see `planning.check`);
`failure`: one of FAILURES or null; `plan_iou`: planned with found boxes of the same class and
colour, `place_iou`: whatever they are; `image`: a storage name."""

FAILURES = ("planned_wrong", "drawn_wrong", "not_drawn")
"""Causes of wrong pictures: the plan; the drawing of a right one; NaN or infinity, so there is no picture."""

IOUS = ("plan_iou", "place_iou", "grounding_iou")
"""Columns whose means are reported where they exist."""


@dataclass(frozen=True)
class GenEvalResult:
    """A finished run."""

    samples: pl.DataFrame
    """One row an image, columns SAMPLES, in the order of the prompt list."""

    scores: dict[str, Any]
    """Plain JSON: overall, tasks, intervals, counts, plan figures, seeds, protocol with its digest; where
    plans were repaired too, `repaired` is a score dict of its own."""

    grid_png: bytes
    """The first pictures of each task with their planned boxes, as PNG."""

    protocol: Protocol


# ---------------------------------------------------------------- protocol


def sampler_arguments(config: EvaluateConfig) -> dict[str, Any]:
    """Arguments that the configuration forces on the pipeline; empty where the model's own defaults count."""
    names = ("num_inference_steps", "text_scale", "spatial_scale", "max_new_tokens")
    return {name: getattr(config, name) for name in names if getattr(config, name) is not None}


def scenes_protocol(world: World, config: EvaluateConfig, repaired: bool = False) -> Protocol:
    """The protocol of `geneval/scenes` in this world and at this size, with or without repaired plans."""
    rows = scene_prompts(world, config)
    repair = {"repair": {"move": "smallest sum of absolute moves", "slack_pixels": REPAIR_SLACK}}
    return Protocol(
        name=NAME,
        version=VERSION,
        rules=dataclasses.asdict(RULES),
        detector=detector_record(),
        prompts={
            "images_per_task": config.images_per_task,
            "seed": config.seed,
            "sampling_seeds": list(config.sampling_seeds),
            "held_out": "two_object, position and color_attr ask for combinations the corpus never shows",
            "digest": digest_of(rows),
        },
        sampler=sampler_arguments(config) | (repair if repaired else {}),
        aggregation={
            "task": "mean over images of all sampling seeds",
            "overall": "plain mean of the six tasks",
            "interval": "95 % percentile bootstrap over the prompts of a task, each with all its images, "
            f"{config.bootstrap} resamples",
        },
        world=world_record(world),
    )


def scene_prompts(world: World, config: EvaluateConfig) -> list[dict[str, Any]]:
    """Metadata rows of all pictures, sampling seed after sampling seed, each with the picture's `seed`."""
    rows = benchmark_prompts(world, config.images_per_task, config.seed)
    return [
        row | {"sampling_seed": number, "seed": picture_seed(row["seed"], number)}
        for number in config.sampling_seeds
        for row in rows
    ]


def picture_seed(seed: int, sampling_seed: int) -> int:
    """Seed of a picture's generator; sampling seed 0 leaves the list's own."""
    if sampling_seed == 0:
        return seed
    return int(np.random.SeedSequence([seed, sampling_seed]).generate_state(1)[0])


# ---------------------------------------------------------------- run


def run_geneval_scenes(
    pipeline: GoTPipeline,
    world: World,
    config: EvaluateConfig,
    storage: Storage,
    prefix: str,
    progress: Progress | None = None,
    *,
    weights_hash: str | None = None,
) -> GenEvalResult:
    """Draw what is missing under `prefix`, judge all of it, and write the result beside the pictures.

    Pictures come from chains that the model wrote itself; with `config.repair` those whose plan falls short,
    or comes within REPAIR_SLACK of that, are drawn once more from the repaired plan. Written:
    `<prefix>/NNNNN.png`, `repaired/NNNNN.png`, `samples.parquet`, `scores.json`, `protocol.json`, `grid.png`.
    Give `weights_hash` (or a prefix of its own for each model) so that pictures of other weights are not
    taken for this model's. Raises DetectorError if the detector fails its self-test, IncompleteRunError if
    pictures are missing in the end.
    """
    check_detector(world, config)
    rows, sampler = scene_prompts(world, config), sampler_arguments(config)
    drawing: dict[str, Any] = {"sampler": sampler, "weights_hash": weights_hash}
    requests = scene_requests(rows, prefix)
    draw_missing(pipeline, requests, storage, **drawing, batch_size=config.batch_size, progress=progress)
    if config.repair == "both":
        repaired = repaired_requests(rows, read_samples(storage, requests, **drawing), world, prefix)
        draw_missing(pipeline, repaired, storage, **drawing, batch_size=config.batch_size, progress=progress)
    redraw = autoencoder_redraw(pipeline.vae)
    extra = {
        "detector_ceiling": detector_ceiling(world, config.self_test, config.seed),
        "autoencoder_ceiling": detector_ceiling(world, config.self_test, config.seed, redraw),
    }
    return score_stored(world, config, storage, prefix, weights_hash=weights_hash, extra=extra)


def scene_requests(rows: Sequence[Mapping[str, Any]], prefix: str) -> dict[int, Request]:
    """The pictures of a run, numbered in the order of the rows."""
    return {
        index: Request(sample_name(prefix, index), row["prompt"], row["seed"])
        for index, row in enumerate(rows)
    }


def repaired_requests(
    rows: Sequence[Mapping[str, Any]], drawn: Mapping[int, Drawn], world: World, prefix: str
) -> dict[int, Request]:
    """The pictures that a repaired plan changes: same prompt and noise, another chain."""
    requests, plans = {}, dict[tuple[str, str], Any]()
    for index, one in drawn.items():
        row, question = rows[index], (rows[index]["prompt"], one.chain.to_model())
        if question not in plans:
            plans[question] = repair_plan(one.chain, Requirements.in_world(row, world, REPAIR_SLACK))
        if plans[question] != one.chain:
            name = sample_name(f"{prefix.rstrip('/')}/repaired", index)
            requests[index] = Request(
                name, row["prompt"], row["seed"], chain=plans[question], dropped=one.dropped
            )
    return requests


def score_stored(
    world: World,
    config: EvaluateConfig,
    storage: Storage,
    prefix: str,
    *,
    weights_hash: str | None = None,
    partial: bool = False,
    extra: Mapping[str, Any] | None = None,
) -> GenEvalResult:
    """Judge the pictures that are in storage; needs no model. `extra` joins the scores.

    Raises IncompleteRunError if any is missing, unless `partial`: the scores then say `complete: false`.
    """
    rows = scene_prompts(world, config)
    drawing: dict[str, Any] = {"sampler": sampler_arguments(config), "weights_hash": weights_hash}
    drawn = read_samples(storage, scene_requests(rows, prefix), **drawing)
    protocol = scenes_protocol(world, config)
    samples = _judge(rows, drawn, world, protocol)
    scores = _scores(samples, protocol, config, partial) | dict(extra or {})
    if config.repair == "both":
        asked = repaired_requests(rows, drawn, world, prefix)
        again = read_samples(storage, asked, **drawing)
        kept = {k: one for k, one in drawn.items() if k not in asked}
        mended = scenes_protocol(world, config, repaired=True)
        changed = _judge(rows, kept | again, world, mended)
        scores["repaired"] = _scores(changed, mended, config, partial) | {"changed": len(asked)}
        storage.write_table(f"{prefix.rstrip('/')}/samples_repaired", changed)
    result = GenEvalResult(samples, scores, _grid(samples, drawn, config), protocol)
    write_result(result, storage, prefix)
    return result


def write_result(result: GenEvalResult | EditResult, storage: Storage, prefix: str) -> None:
    """Store a benchmark's result beside its pictures; the scores come last and mark it as complete."""
    folder = prefix.rstrip("/")
    storage.write_table(f"{folder}/samples", result.samples)
    storage.write_json(f"{folder}/protocol.json", result.protocol.to_dict())
    storage.write_bytes(f"{folder}/grid.png", result.grid_png)
    storage.write_json(f"{folder}/scores.json", result.scores)


# ---------------------------------------------------------------- verdicts


def _judge(
    rows: Sequence[Mapping[str, Any]],
    drawn: Mapping[int, Drawn],
    world: World,
    protocol: Protocol,
) -> pl.DataFrame:
    protocol_digest = protocol.digest()
    judged = [
        {
            "sample_id": digest_of([protocol_digest, index]),
            "index": index,
            "image": drawn[index].name,
            **_judge_one(rows[index], drawn[index], world),
        }
        for index in sorted(drawn)
    ]
    return pl.DataFrame(judged, schema=SAMPLES)


def _judge_one(row: Mapping[str, Any], drawn: Drawn, world: World) -> dict[str, Any]:
    found = [] if drawn.fault else detect(drawn.image)
    planned = plan_detections(drawn.chain, world.shapes, *drawn.image.size, colors=world.colors)
    image, faults = (
        evaluate_image(found, row, RULES),
        check_plan(drawn.chain, Requirements.in_world(row, world), drawn.dropped),
    )
    correct, reason = image.correct and not drawn.fault, "; ".join(image.reasons) or None
    return {
        "task": row["tag"],
        "prompt": row["prompt"],
        "metadata": json.dumps(row, sort_keys=True),
        "sampling_seed": row["sampling_seed"],
        "seed": row["seed"],
        "chain": drawn.chain.to_data(),
        "image_id": drawn.image_id,
        "correct": correct,
        "reason": reason if found else drawn.fault or refusal(drawn.image) or reason,
        "plan_correct": not faults,
        "plan_faults": sorted({fault.kind for fault in faults}),
        "plan_reason": "; ".join(map(str, faults)) or None,
        "failure": failure_of(drawn, correct, bool(faults)),
        "plan_iou": plan_followed(planned, found),
        "place_iou": plan_followed(planned, found, place_only=True),
        "found": json.dumps([dataclasses.asdict(d) for d in found]),
    }


def failure_of(drawn: Drawn, correct: bool, plan_wrong: bool) -> str | None:
    """One of FAILURES, or None for a right picture."""
    if drawn.fault:
        return "not_drawn"
    return None if correct else "planned_wrong" if plan_wrong else "drawn_wrong"


def _scores(
    samples: pl.DataFrame, protocol: Protocol, config: EvaluateConfig, partial: bool
) -> dict[str, Any]:
    expected = dict.fromkeys(TASKS, config.images_per_task * len(config.sampling_seeds))
    scores = score_tasks(
        samples, expected=expected, partial=partial, bootstrap=config.bootstrap, seed=config.seed
    )
    return {**protocol_figures(protocol), **scores, **with_plan_figures(samples, scores)}


def protocol_figures(protocol: Protocol) -> dict[str, Any]:
    """The protocol as a score dict carries it."""
    return {
        "protocol": protocol.name,
        "protocol_digest": protocol.digest(),
        "protocol_record": protocol.to_dict(),
    }


def with_plan_figures(samples: pl.DataFrame, scores: Mapping[str, Any]) -> dict[str, Any]:
    """Plan figures of the whole run and of each task, and the scores of each sampling seed.

    `samples` has the columns `task`, `correct`, `failure`, `sampling_seed`, `plan_correct`, `plan_faults`,
    and some of IOUS.
    """
    tasks = {
        task: score | plan_figures(samples.filter(pl.col("task") == task))
        for task, score in scores["tasks"].items()
    }
    plan_means = [score["plan_correct"] for score in tasks.values()]
    return {
        "tasks": tasks,
        **plan_figures(samples),
        "plan_overall": float(np.mean(plan_means)) if plan_means else None,
        "seeds": score_seeds(samples),
    }


def plan_figures(samples: pl.DataFrame) -> dict[str, Any]:
    """Share of right plans, plans with each kind of fault, failures by cause, mean IoU with found boxes."""
    faults = samples["plan_faults"].explode().drop_nulls().value_counts().sort("plan_faults")
    return {
        "plan_correct": _mean(samples, "plan_correct"),
        "plan_faults": dict(faults.iter_rows()),
        **{failure: int((samples["failure"] == failure).sum()) for failure in FAILURES},
        **{name: _mean(samples, name) for name in IOUS if name in samples.columns},
    }


def _mean(samples: pl.DataFrame, column: str) -> float | None:
    value = samples[column].mean()
    return None if value is None else float(value)  # type: ignore[arg-type]


def _grid(samples: pl.DataFrame, drawn: Mapping[int, Drawn], config: EvaluateConfig) -> bytes:
    """The first `grid_per_task` pictures of each task, one row a task."""
    shown = samples.group_by("task", maintain_order=True).head(config.grid_per_task)
    items = [_grid_item(row, drawn[row["index"]]) for row in shown.iter_rows(named=True)]
    if not items:
        return b""
    return png_bytes(picture_grid(items, columns=min(config.grid_per_task, config.images_per_task)))


def _grid_item(row: Mapping[str, Any], drawn: Drawn) -> GridItem:
    boxes = tuple((placed.box.to_pixels(1, 1), placed.color) for placed in drawn.chain.boxes)
    note = (row["failure"] or "right").replace("_", " ")
    return GridItem(drawn.image, row["prompt"], boxes, row["correct"], note)
