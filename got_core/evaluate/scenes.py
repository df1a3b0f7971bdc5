"""`geneval/scenes`: GenEval's rules on rendered scenes, from drawing to a complete score.

Belongs here: the scene reader as a detector and its self-test, the protocol, the run. Not here: the rules
(`geneval`), reading a plan (`plans`), storing pictures (`samples`), or any page about the result (`report`).
The name differs from `geneval` because detector and corpus do: their scores are never compared.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from PIL import Image

from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.geneval import (
    TASKS,
    XYXY,
    Detection,
    GenEvalRules,
    ImageVerdict,
    evaluate_image,
    score_tasks,
)
from got_core.evaluate.plans import plan_detections, plan_followed
from got_core.evaluate.plots import GridItem, picture_grid, png_bytes
from got_core.evaluate.protocol import Protocol, digest_of
from got_core.evaluate.samples import Drawn, Progress, draw_missing, read_samples, sample_key, sample_name
from got_core.scenes.prompts import applicable_prompts, benchmark_prompts, parse_prompt
from got_core.scenes.reader import DEFAULT as READER
from got_core.scenes.reader import NotASceneError, read_scene
from got_core.scenes.render import render
from got_core.scenes.sample import sample_scene
from got_core.scenes.world import Scene, World

if TYPE_CHECKING:
    from got_core.model.pipeline import GoTPipeline
    from got_core.storage import Storage

NAME = "geneval/scenes"
VERSION = 1
"""Raise when prompts, detector or rules change in a way that can change a verdict."""

RULES = GenEvalRules()
SELF_TEST_BAR = 0.97
"""Share of known verdicts that the detector must get right before anything is scored with it."""

SAMPLES: dict[str, pl.DataType] = {
    "sample_id": pl.String(),
    "index": pl.Int32(),
    "task": pl.String(),
    "prompt": pl.String(),
    "metadata": pl.String(),
    "seed": pl.Int64(),
    "chain": pl.String(),
    "image": pl.String(),
    "image_id": pl.String(),
    "correct": pl.Boolean(),
    "reason": pl.String(),
    "plan_correct": pl.Boolean(),
    "plan_reason": pl.String(),
    "failure": pl.String(),
    "plan_iou": pl.Float64(),
    "found": pl.String(),
}
"""Columns of `GenEvalResult.samples`; `failure` is `planned_wrong`, `drawn_wrong` or null; `image` a storage
name."""


class DetectorError(RuntimeError):
    """The detector misjudges pictures whose content is known: scores made with it would mean nothing."""


@dataclass(frozen=True)
class GenEvalResult:
    """A finished run."""

    samples: pl.DataFrame
    """One row an image, columns SAMPLES, in the order of the prompt list."""

    scores: dict[str, Any]
    """Plain JSON: overall, tasks, intervals, counts, plan figures, protocol with its digest."""

    grid_png: bytes
    """The first pictures of each task with their planned boxes, as PNG."""

    protocol: Protocol


# ---------------------------------------------------------------- detector


def detect(image: Image.Image) -> list[Detection]:
    """Objects of a picture, from its pixels. What fits badly has a low score; what is no scene has none."""
    found = read_scene(image, strict=False, config=READER)
    return [Detection(o.shape, float(o.score), _xyxy(o.box), o.color) for o in found]


def _refusal(image: Image.Image) -> str | None:
    """Why a picture is no scene at all, for the reason column; None if it is one."""
    try:
        read_scene(image)
    except NotASceneError as error:
        return str(error)
    return None


def _xyxy(box: Sequence[float]) -> XYXY:
    x1, y1, x2, y2 = (float(v) for v in box)
    return x1, y1, x2, y2


def _true_detections(scene: Scene) -> list[Detection]:
    return [Detection(o.shape, 1.0, _xyxy(o.box), o.color) for o in scene.objects]


def known_scenes(world: World, count: int, seed: int = 0) -> Iterator[tuple[Scene, dict[str, Any]]]:
    """Scenes with a metadata row of each of the six tasks in turn that is true of them."""
    rng = np.random.default_rng([seed, 0x5E1F])
    made = 0
    for attempt in range(50 * count):
        if made == count:
            return
        task = TASKS[made % len(TASKS)]
        scene = sample_scene(world, rng, style=task)
        prompts = [prompt for tag, prompt in applicable_prompts(scene.objects) if tag == task]
        if prompts:
            made += 1
            yield scene, parse_prompt(prompts[attempt % len(prompts)])
    if made < count:
        raise DetectorError(f"the world gives no {TASKS[made % len(TASKS)]} scenes to test the detector with")


def detector_self_test(
    world: World,
    count: int,
    seed: int = 0,
    redraw: Callable[[list[Image.Image]], list[Image.Image]] | None = None,
) -> float:
    """Share of verdicts that agree with those from the scenes' truth, in [0, 1].

    Each known scene is judged against a prompt that is true of it and against its neighbour's, so a detector
    that sees nothing and one that sees everything both fail. `redraw` changes the pictures first (an
    autoencoder, say).
    """
    known = list(known_scenes(world, count, seed))
    pictures = [render(scene) for scene, _ in known]
    detections = [detect(picture) for picture in (redraw(pictures) if redraw else pictures)]
    agreed = []
    for index, (scene, own) in enumerate(known):
        truth = _true_detections(scene)
        for metadata in (own, known[index - 1][1]):
            expected = evaluate_image(truth, metadata, RULES).correct
            agreed.append(evaluate_image(detections[index], metadata, RULES).correct == expected)
    return float(np.mean(agreed))


def detector_ceiling(
    world: World,
    count: int,
    seed: int = 0,
    redraw: Callable[[list[Image.Image]], list[Image.Image]] | None = None,
) -> float:
    """Score of a perfect painter: share of true scenes, redrawn if asked for, that pass their own prompt."""
    known = list(known_scenes(world, count, seed))
    pictures = [render(scene) for scene, _ in known]
    shown = redraw(pictures) if redraw else pictures
    judged = [evaluate_image(detect(p), row, RULES) for p, (_, row) in zip(shown, known, strict=True)]
    return float(np.mean([verdict.correct for verdict in judged]))


def autoencoder_redraw(vae: Any) -> Callable[[list[Image.Image]], list[Image.Image]]:
    """A function that passes pictures through an autoencoder (`AutoencoderKL`'s interface) and back."""
    import torch

    @torch.no_grad()
    def redraw(pictures: list[Image.Image]) -> list[Image.Image]:
        stacked = np.stack([np.asarray(p.convert("RGB"), dtype=np.float32) for p in pictures])
        parameter = next(vae.parameters())
        images = torch.from_numpy(stacked / 127.5 - 1).permute(0, 3, 1, 2)
        latents = vae.encode(images.to(parameter.device, parameter.dtype)).latent_dist.mode()
        decoded = vae.decode(latents).sample.float().cpu().permute(0, 2, 3, 1).clamp(-1, 1)
        levels = ((decoded.numpy() + 1) * 127.5).round().astype(np.uint8)
        return [Image.fromarray(one) for one in levels]

    return redraw


# ---------------------------------------------------------------- protocol


def sampler_arguments(config: EvaluateConfig) -> dict[str, Any]:
    """Arguments that the configuration forces on the pipeline; empty where the model's own defaults count."""
    names = ("num_inference_steps", "text_scale", "spatial_scale", "max_new_tokens")
    return {name: getattr(config, name) for name in names if getattr(config, name) is not None}


def scenes_protocol(world: World, config: EvaluateConfig) -> Protocol:
    """The protocol of `geneval/scenes` in this world and at this size."""
    rows = benchmark_prompts(world, config.images_per_task, config.seed)
    return Protocol(
        name=NAME,
        version=VERSION,
        rules=dataclasses.asdict(RULES),
        detector={"name": "got_core.scenes.reader", "strict": False, **dataclasses.asdict(READER)},
        prompts={
            "images_per_task": config.images_per_task,
            "seed": config.seed,
            "held_out": "two_object, position and color_attr ask for combinations the corpus never shows",
            "digest": digest_of(rows),
        },
        sampler=sampler_arguments(config),
        aggregation={
            "task": "mean over images",
            "overall": "plain mean of the six tasks",
            "interval": f"95 % percentile bootstrap over images within a task, {config.bootstrap} resamples",
        },
        world=dataclasses.asdict(world),
    )


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

    Pictures come from chains that the model wrote itself. Written: `<prefix>/NNNNN.png`, `samples.parquet`,
    `scores.json`, `protocol.json`, `grid.png`. Give `weights_hash` (or a prefix of its own for each model) so
    that pictures of other weights are not taken for this model's. Raises DetectorError if the detector fails
    its self-test, IncompleteRunError if pictures are missing in the end.
    """
    check_detector(world, config)
    rows = benchmark_prompts(world, config.images_per_task, config.seed)
    draw_missing(
        pipeline,
        rows,
        storage,
        prefix,
        sampler=sampler_arguments(config),
        weights_hash=weights_hash,
        batch_size=config.batch_size,
        progress=progress,
    )
    extra = {
        "detector_ceiling": detector_ceiling(world, config.self_test, config.seed),
        "autoencoder_ceiling": detector_ceiling(
            world, config.self_test, config.seed, autoencoder_redraw(pipeline.vae)
        ),
    }
    return score_stored(world, config, storage, prefix, weights_hash=weights_hash, extra=extra)


def check_detector(world: World, config: EvaluateConfig) -> float:
    """The self-test's share of right verdicts; raises DetectorError if it is below SELF_TEST_BAR."""
    share = detector_self_test(world, config.self_test, config.seed)
    if share < SELF_TEST_BAR:
        raise DetectorError(
            f"the scene reader judges only {share:.3f} of {config.self_test} known scenes right (needs "
            f"{SELF_TEST_BAR}): nothing was scored; look at got_core.scenes.reader"
        )
    return share


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
    protocol = scenes_protocol(world, config)
    rows = benchmark_prompts(world, config.images_per_task, config.seed)
    keys = [sample_key(row, sampler_arguments(config), weights_hash) for row in rows]
    drawn = dict(read_samples(storage, prefix, keys))
    samples = _judge(rows, drawn, world, prefix, protocol)
    scores = _scores(samples, protocol, config, partial) | dict(extra or {})
    result = GenEvalResult(samples, scores, _grid(samples, drawn, config), protocol)
    _write(result, storage, prefix.rstrip("/"))
    return result


def _write(result: GenEvalResult, storage: Storage, prefix: str) -> None:
    storage.write_table(f"{prefix}/samples", result.samples)
    storage.write_json(f"{prefix}/protocol.json", result.protocol.to_dict())
    storage.write_bytes(f"{prefix}/grid.png", result.grid_png)
    storage.write_json(f"{prefix}/scores.json", result.scores)


def _judge(
    rows: Sequence[Mapping[str, Any]],
    drawn: Mapping[int, Drawn],
    world: World,
    prefix: str,
    protocol: Protocol,
) -> pl.DataFrame:
    protocol_digest = protocol.digest()
    judged = [
        {
            "sample_id": digest_of([protocol_digest, index]),
            "index": index,
            "image": sample_name(prefix, index),
            **_judge_one(rows[index], drawn[index], world),
        }
        for index in sorted(drawn)
    ]
    return pl.DataFrame(judged, schema=SAMPLES)


def _judge_one(row: Mapping[str, Any], drawn: Drawn, world: World) -> dict[str, Any]:
    found = detect(drawn.image)
    planned = plan_detections(drawn.chain, world.shapes, *drawn.image.size, colors=world.colors)
    image, plan = evaluate_image(found, row, RULES), evaluate_image(planned, row, RULES)
    return {
        "task": row["tag"],
        "prompt": row["prompt"],
        "metadata": json.dumps(row, sort_keys=True),
        "seed": row["seed"],
        "chain": drawn.chain.to_data(),
        "image_id": drawn.image_id,
        "correct": image.correct,
        "reason": _text(image) if found else _refusal(drawn.image) or _text(image),
        "plan_correct": plan.correct,
        "plan_reason": _text(plan),
        "failure": None if image.correct else "drawn_wrong" if plan.correct else "planned_wrong",
        "plan_iou": plan_followed(planned, found),
        "found": json.dumps([dataclasses.asdict(d) for d in found]),
    }


def _text(verdict: ImageVerdict) -> str | None:
    return "; ".join(verdict.reasons) or None


def _scores(
    samples: pl.DataFrame, protocol: Protocol, config: EvaluateConfig, partial: bool
) -> dict[str, Any]:
    expected = dict.fromkeys(TASKS, config.images_per_task)
    scores = score_tasks(
        samples, expected=expected, partial=partial, bootstrap=config.bootstrap, seed=config.seed
    )
    for task, score in scores["tasks"].items():
        score |= _plan_figures(samples.filter(pl.col("task") == task))
    plan_means = [score["plan_correct"] for score in scores["tasks"].values()]
    return {
        "protocol": protocol.name,
        "protocol_digest": protocol.digest(),
        "protocol_record": protocol.to_dict(),
        **scores,
        **_plan_figures(samples),
        "plan_overall": float(np.mean(plan_means)) if plan_means else None,
    }


def _plan_figures(samples: pl.DataFrame) -> dict[str, Any]:
    """Share of plans that satisfy their prompt, failures by cause, and the mean IoU of found with planned
    boxes."""
    iou, right = samples["plan_iou"].mean(), samples["plan_correct"].mean()
    return {
        "plan_correct": None if right is None else float(right),  # type: ignore[arg-type]
        "planned_wrong": int((samples["failure"] == "planned_wrong").sum()),
        "drawn_wrong": int((samples["failure"] == "drawn_wrong").sum()),
        "plan_iou": None if iou is None else float(iou),  # type: ignore[arg-type]
    }


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
