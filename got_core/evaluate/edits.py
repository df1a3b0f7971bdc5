"""`edits/scenes`: edits of unseen scenes, from drawing to a complete score, and `grounding/scenes`.

Belongs here: which edits are asked for, the protocols, the runs, ceilings. Not here: the rules
(`edit_rules`), the detector (`detector`), storing pictures (`samples`), or any page about the result.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
from got_core.evaluate.edit_rules import (
    EditRules,
    expected_objects,
    grounding_iou,
    judge_edit,
    judge_edit_plan,
    planned_places,
)
from got_core.evaluate.geneval import score_tasks
from got_core.evaluate.plans import plan_followed
from got_core.evaluate.protocol import Protocol, digest_of, world_record
from got_core.evaluate.samples import (
    Drawn,
    Progress,
    Request,
    draw_missing,
    plan_requests,
    read_samples,
    sample_name,
)
from got_core.evaluate.scenes import (
    REPAIR_SLACK,
    failure_of,
    picture_seed,
    protocol_figures,
    sampler_arguments,
    with_plan_figures,
    write_result,
)
from got_core.figures.grids import GridItem, picture_grid, png_bytes
from got_core.planning.edits import repair_edit_plan
from got_core.scenes.corpus import MULTI_TURN
from got_core.scenes.edits import KINDS, EditOp, wordings
from got_core.scenes.render import render
from got_core.scenes.sample import sample_edit, sample_multi_turn
from got_core.scenes.world import Scene, World

if TYPE_CHECKING:
    from got_core.chain.grammar import Chain
    from got_core.model.pipeline import GoTPipeline
    from got_core.storage import Storage

NAME = "edits/scenes"
GROUNDING = "grounding/scenes"
VERSION = 4
"""Raise when cases or rules change in a way that can change a verdict. 2: where a plan names the background,
it has to be the source's. 3: the model's text must be a chain as it stands, and new places must be free.
4: canvases as the released inference code paints them, places of the same pixels, evenly spaced noise
levels."""


@dataclass(frozen=True)
class Way:
    """A way of drawing the same edits once more."""

    key: str
    """Of its scores."""

    folder: str
    """Of its pictures; and, behind `samples_`, of its table."""

    repaired: bool = False
    """From plans that are repaired where they fall short of their instruction."""

    kept: bool = False
    """With the source kept outside the plan's boxes."""

    @property
    def sampler(self) -> dict[str, Any]:
        """What the sampler is told besides."""
        return {"keep_outside": True} if self.kept else {}


WAYS = (
    Way("repaired", "repaired", repaired=True),
    Way("kept_outside", "kept", kept=True),
    Way("repaired_kept_outside", "repaired_kept", repaired=True, kept=True),
)
AS_WRITTEN = Way("", "")

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
    "plan_correct": pl.Boolean(),
    "plan_faults": pl.List(pl.String()),
    "plan_reason": pl.String(),
    "failure": pl.String(),
    "grounding_iou": pl.Float64(),
    "plan_iou": pl.Float64(),
    "place_iou": pl.Float64(),
    "found": pl.String(),
}
"""Columns of `EditResult.samples`. `case`: number of the source scene and its edit; `task`: kind of edit;
`prompt`: the instruction; `change_outside`: levels of 255, null where nothing could be drawn; `failure`: one
of `scenes.FAILURES` or null; `plan_iou`: mean IoU of the places planned for added and moved objects with
found ones of that class and colour, `place_iou`: whatever they are; 0 for a place that is not planned, null
where none is asked for."""


@dataclass(frozen=True)
class EditCase:
    """One scene and what is to be done to it."""

    kind: str
    """One of KINDS, or MULTI_TURN."""

    source: Scene
    target: Scene
    """One right result of many."""

    ops: tuple[EditOp, ...]
    instruction: str
    seed: int
    """Of the picture's generator."""


@dataclass(frozen=True)
class EditResult:
    """A finished run."""

    samples: pl.DataFrame
    """One row a picture, columns EDITS, in the order of the cases."""

    scores: dict[str, Any]
    """Plain JSON, as `scenes.GenEvalResult.scores`; the tasks are the kinds of edit. Besides: shares of
    found changes and kept objects, `change_outside`, ceilings, and `grounding`."""

    grid_png: bytes
    """The first cases of each kind: source with planned boxes, then the edited picture."""

    protocol: Protocol


# ---------------------------------------------------------------- cases


def edit_cases(world: World, config: EvaluateConfig) -> list[EditCase]:
    """`edit_images` cases, the kinds in turn; scenes and wordings from seeds that no corpus uses.

    Scenes show the corpus's combinations (held-out ones are `geneval/scenes`'s business), in arrangements of
    their own.
    """
    return [_case(world, config, index) for index in range(config.edit_images)]


def _case(world: World, config: EvaluateConfig, index: int) -> EditCase:
    rng = np.random.default_rng([config.seed, 0xED17, index])
    kinds = KINDS if config.edit_steps == 1 else (*KINDS, MULTI_TURN)
    kind = kinds[index % len(kinds)]
    if kind == MULTI_TURN:
        steps = int(rng.integers(2, config.edit_steps + 1))
        source, target, op, _ = sample_multi_turn(world, rng, steps)
    else:
        source, target, op, _ = sample_edit(world, rng, kind)
    told = wordings(op)
    text = told[int(rng.integers(len(told)))]
    return EditCase(kind, source, target, op.intent.steps, text, int(rng.integers(2**31 - 1)))


def edit_rules(config: EvaluateConfig) -> EditRules:
    """The rules with the configured limit."""
    return EditRules(max_change=config.max_change_outside)


def edits_protocol(world: World, config: EvaluateConfig, name: str = NAME, way: Way = AS_WRITTEN) -> Protocol:
    """The protocol of `edits/scenes` (or of grounding) in this world and at this size."""
    cases = edit_cases(world, config)
    mended = {"repair": {"move": "nearest", "slack_pixels": REPAIR_SLACK}} if way.repaired else {}
    listed = [[case.instruction, dataclasses.asdict(case.source), case.seed] for case in cases]
    return Protocol(
        name=name,
        version=VERSION,
        rules=dataclasses.asdict(edit_rules(config)),
        detector=detector_record(),
        prompts={
            "edit_images": config.edit_images,
            "edit_steps": config.edit_steps,
            "seed": config.seed,
            "sampling_seeds": list(config.sampling_seeds),
            "digest": digest_of(listed),
        },
        sampler=sampler_arguments(config) | way.sampler | mended,
        aggregation={
            "task": "mean over pictures of a kind of edit, all sampling seeds",
            "overall": "plain mean of the kinds",
            "interval": f"95 % percentile bootstrap over source scenes, {config.bootstrap} resamples",
        },
        world=world_record(world),
    )


# ---------------------------------------------------------------- runs


def run_edit_scenes(
    pipeline: GoTPipeline,
    world: World,
    config: EvaluateConfig,
    storage: Storage,
    prefix: str,
    progress: Progress | None = None,
    *,
    weights_hash: str | None = None,
) -> EditResult:
    """Edit what is missing under `prefix`, judge all of it, and write the result beside the pictures.

    Written and resumed as `scenes.run_geneval_scenes` does. With `config.repair` those whose plan falls short
    are drawn once more from the repaired plan; with `config.keep_outside` all are, with the source kept
    outside the plan's boxes; with both in both ways at once, too: `repaired`, `kept`, `repaired_kept`. Raises
    DetectorError if the rules refuse true targets or accept unchanged sources, IncompleteRunError if pictures
    are missing in the end.
    """
    extra = edit_ceilings(world, config, autoencoder_redraw(pipeline.vae))
    requests, sampler = edit_requests(edit_cases(world, config), config, prefix), sampler_arguments(config)
    drawing: dict[str, Any] = {
        "weights_hash": weights_hash,
        "batch_size": config.batch_size,
        "progress": progress,
    }
    draw_missing(pipeline, requests, storage, sampler=sampler, **drawing)
    for way in _ways(config):
        drawn = read_samples(storage, requests, sampler=sampler, weights_hash=weights_hash)
        again = requests_again(way, requests, drawn, world, prefix)
        draw_missing(pipeline, again, storage, sampler=sampler | way.sampler, **drawing)
    return score_stored_edits(world, config, storage, prefix, weights_hash=weights_hash, extra=extra)


def run_grounding_scenes(pipeline: GoTPipeline, world: World, config: EvaluateConfig) -> dict[str, Any]:
    """Grounding alone, on the same cases: chains are written, nothing is drawn. See `grounding_scores`."""
    cases = edit_cases(world, config)
    requests = list(edit_requests(cases, config, "none").values())[: len(cases)]
    sampler, chains = sampler_arguments(config), list["Chain"]()
    for start in range(0, len(cases), config.batch_size):
        plans = plan_requests(pipeline, requests[start : start + config.batch_size], sampler, {})
        chains += [plan.chain for plan in plans]
    rows = [
        {"task": case.kind, "grounding_iou": grounding_iou(chain, case.source, case.ops)}
        for case, chain in zip(cases, chains, strict=True)
    ]
    frame = pl.DataFrame(rows, schema={"task": pl.String(), "grounding_iou": pl.Float64()})
    protocol = edits_protocol(world, config, GROUNDING)
    return {**protocol_figures(protocol), **grounding_scores(frame, config)}


def edit_requests(cases: Sequence[EditCase], config: EvaluateConfig, prefix: str) -> dict[int, Request]:
    """The pictures of a run: all cases for the first sampling seed, then for the next."""
    sources = [render(case.source) for case in cases]
    asked = [
        (case.instruction, picture_seed(case.seed, number), source)
        for number in config.sampling_seeds
        for case, source in zip(cases, sources, strict=True)
    ]
    return {
        index: Request(sample_name(prefix, index), text, seed, source)
        for index, (text, seed, source) in enumerate(asked)
    }


def _ways(config: EvaluateConfig) -> list[Way]:
    return [
        way
        for way in WAYS
        if (config.repair == "both" or not way.repaired) and (config.keep_outside == "both" or not way.kept)
    ]


def requests_again(
    way: Way, requests: Mapping[int, Request], drawn: Mapping[int, Drawn], world: World, prefix: str
) -> dict[int, Request]:
    """The pictures that the way makes different, from plans that are written already, under other names."""
    slack = math.ceil(LIMIT * REPAIR_SLACK / world.size)
    again = {}
    for index, one in drawn.items():
        asked, chain = requests[index], one.chain
        if way.repaired:
            chain = repair_edit_plan(chain, asked.prompt, size=(world.size, world.size), slack=slack)
        if chain != one.chain or not way.repaired:
            name = sample_name(f"{prefix.rstrip('/')}/{way.folder}", index)
            again[index] = dataclasses.replace(asked, name=name, chain=chain, dropped=one.dropped)
    return again


def score_stored_edits(
    world: World,
    config: EvaluateConfig,
    storage: Storage,
    prefix: str,
    *,
    weights_hash: str | None = None,
    partial: bool = False,
    extra: Mapping[str, Any] | None = None,
) -> EditResult:
    """Judge the edited pictures that are in storage; needs no model. `extra` joins the scores.

    Raises IncompleteRunError if any is missing, unless `partial`: the scores then say `complete: false`.
    """
    cases, protocol = edit_cases(world, config), edits_protocol(world, config)
    requests = edit_requests(cases, config, prefix)
    drawn = read_samples(storage, requests, sampler=sampler_arguments(config), weights_hash=weights_hash)
    samples = _judge(cases, drawn, world, config, protocol)
    scores = _scores(samples, cases, config, partial)
    scores = {**protocol_figures(protocol), **scores, **(extra or {})}
    pictures = {False: drawn}
    """By whether the source is kept, from the plans as written."""
    for way in _ways(config):
        asked, sampler = requests_again(way, requests, drawn, world, prefix), sampler_arguments(config)
        again = read_samples(storage, asked, sampler=sampler | way.sampler, weights_hash=weights_hash)
        if way.repaired:
            again |= {index: one for index, one in pictures[way.kept].items() if index not in asked}
        else:
            pictures[way.kept] = again
        other = edits_protocol(world, config, way=way)
        judged = _judge(cases, again, world, config, other)
        figures = protocol_figures(other) | _scores(judged, cases, config, partial)
        scores[way.key] = figures | {"changed": len(asked)}
        storage.write_table(f"{prefix.rstrip('/')}/samples_{way.folder}", judged)
    result = EditResult(samples, scores, _grid(cases, samples, drawn, config), protocol)
    write_result(result, storage, prefix)
    return result


# ---------------------------------------------------------------- ceilings


def edit_ceilings(world: World, config: EvaluateConfig, redraw: Redraw) -> dict[str, Any]:
    """What a perfect editor would score, and what one that changes nothing does.

    `detector_ceiling`: true targets; `autoencoder_ceiling`: the same through the autoencoder; `unchanged`:
    the sources through the autoencoder, which must fail; `reconstruction_change`: levels by which the
    autoencoder alone changes a picture outside the boxes, mean and largest (the limit has to lie above).
    Raises DetectorError where the rules refuse true targets or accept unchanged sources.
    """
    cases = edit_cases(world, config)
    sources, targets = [render(case.source) for case in cases], [render(case.target) for case in cases]
    plain, _ = _accepted(cases, sources, targets, config)
    through, levels = _accepted(cases, sources, redraw(targets), config)
    unchanged, _ = _accepted(cases, sources, redraw(sources), config)
    if plain < SELF_TEST_BAR or unchanged > 1 - SELF_TEST_BAR:
        raise DetectorError(
            f"of {len(cases)} known edits {plain:.3f} pass where all should and {unchanged:.3f} where "
            "nothing was done: nothing was scored; look at got_core.evaluate.edit_rules and the scene reader"
        )
    return {
        "detector_ceiling": plain,
        "autoencoder_ceiling": through,
        "unchanged": unchanged,
        "reconstruction_change": {"mean": float(np.mean(levels)), "max": float(np.max(levels))},
    }


def _accepted(
    cases: Sequence[EditCase],
    before: Sequence[Image.Image],
    after: Sequence[Image.Image],
    config: EvaluateConfig,
) -> tuple[float, list[float]]:
    """Share of pictures that pass, and the change outside of each."""
    verdicts = [
        judge_edit(old, new, detect(new), expected_objects(case.source, case.ops), edit_rules(config))
        for case, old, new in zip(cases, before, after, strict=True)
    ]
    return float(np.mean([v.correct for v in verdicts])), [v.change_outside for v in verdicts]


# ---------------------------------------------------------------- verdicts and scores


def _judge(
    cases: Sequence[EditCase],
    drawn: Mapping[int, Drawn],
    world: World,
    config: EvaluateConfig,
    protocol: Protocol,
) -> pl.DataFrame:
    digest, judged = protocol.digest(), []
    for index in sorted(drawn):
        turn, number = divmod(index, len(cases))
        case = cases[number]
        judged.append(
            {
                "sample_id": digest_of([digest, index]),
                "index": index,
                "case": number,
                "task": case.kind,
                "prompt": case.instruction,
                "sampling_seed": config.sampling_seeds[turn],
                "seed": picture_seed(case.seed, config.sampling_seeds[turn]),
                "image": drawn[index].name,
                **_judge_one(case, drawn[index], world, edit_rules(config)),
            }
        )
    return pl.DataFrame(judged, schema=EDITS)


def _judge_one(case: EditCase, drawn: Drawn, world: World, rules: EditRules) -> dict[str, Any]:
    before = render(case.source)
    after = drawn.image if drawn.image.size == before.size else drawn.image.resize(before.size)
    found = [] if drawn.fault else detect(after)
    expected = expected_objects(case.source, case.ops)
    verdict = judge_edit(before, after, found, expected, rules)
    correct = verdict.correct and not drawn.fault
    planned = planned_places(drawn.chain, case.source, case.ops, world)
    new = sum(one.op is not None and not one.gone for one in expected)

    def mean_iou(**options: bool) -> float | None:
        """Over the places that are asked for; 0 for those that are not planned."""
        followed = plan_followed(planned, found, **options) or 0.0
        return followed * len(planned) / new if new else None

    faults = judge_edit_plan(drawn.chain, case.source, case.ops, world, rules, drawn.dropped)
    return {
        "chain": drawn.chain.to_data(),
        "image_id": drawn.image_id,
        "correct": correct,
        "reason": drawn.fault or verdict.reason,
        "change_found": verdict.change is None and not drawn.fault,
        "others_kept": verdict.others is None and not drawn.fault,
        "change_outside": None if drawn.fault else verdict.change_outside,
        "plan_correct": not faults,
        "plan_faults": sorted({kind for kind, _ in faults}),
        "plan_reason": "; ".join(reason for _, reason in faults) or None,
        "failure": failure_of(drawn, correct, bool(faults)),
        "grounding_iou": grounding_iou(drawn.chain, case.source, case.ops),
        "plan_iou": mean_iou(),
        "place_iou": mean_iou(place_only=True),
        "found": json.dumps([dataclasses.asdict(d) for d in found]),
    }


def _scores(
    samples: pl.DataFrame, cases: Sequence[EditCase], config: EvaluateConfig, partial: bool
) -> dict[str, Any]:
    kinds = [case.kind for case in cases]
    expected = {kind: kinds.count(kind) * len(config.sampling_seeds) for kind in dict.fromkeys(kinds)}
    scores = score_tasks(
        samples,
        expected=expected,
        partial=partial,
        bootstrap=config.bootstrap,
        seed=config.seed,
        cluster="case",
    )
    return {
        **scores,
        **with_plan_figures(samples, scores),
        "change_found": samples["change_found"].mean(),
        "others_kept": samples["others_kept"].mean(),
        "change_outside": samples["change_outside"].mean(),
        "grounding": grounding_scores(samples.unique("case", keep="first", maintain_order=True), config),
    }


def grounding_scores(samples: pl.DataFrame, config: EvaluateConfig) -> dict[str, Any]:
    """Mean IoU of the chains' boxes with the true ones in the source, overall and by kind.

    `samples`: one row a case with `task` and `grounding_iou` (null where there is nothing to ground). `mean`
    is over cases, with a 95 % bootstrap interval.
    """
    grounded = samples.drop_nulls("grounding_iou")
    values = grounded["grounding_iou"].to_numpy()
    rng = np.random.default_rng(config.seed)
    drawn = rng.choice(values, size=(config.bootstrap, len(values))).mean(axis=1) if len(values) else [np.nan]
    low, high = np.percentile(drawn, [2.5, 97.5])
    kinds = grounded.group_by("task", maintain_order=True).agg(pl.col("grounding_iou").mean(), pl.len())
    return {
        "mean": float(values.mean()) if len(values) else None,
        "low": float(low) if len(values) else None,
        "high": float(high) if len(values) else None,
        "n": len(values),
        "kinds": {kind: {"mean": mean, "n": n} for kind, mean, n in kinds.iter_rows()},
    }


def _grid(
    cases: Sequence[EditCase], samples: pl.DataFrame, drawn: Mapping[int, Drawn], config: EvaluateConfig
) -> bytes:
    """The first cases of each kind, one row a kind, each as source and result."""
    pairs = max(1, config.grid_per_task // 2)
    items: list[GridItem] = []
    for row in samples.group_by("task", maintain_order=True).head(pairs).iter_rows(named=True):
        one = drawn[row["index"]]
        boxes = tuple((placed.box.to_pixels(1, 1), placed.color) for placed in one.chain.boxes)
        note = (row["failure"] or "right").replace("_", " ")
        items.append(GridItem(render(cases[row["case"]].source), row["prompt"], boxes))
        items.append(GridItem(one.image, "", (), row["correct"], note))
    return png_bytes(picture_grid(items, columns=2 * pairs)) if items else b""
