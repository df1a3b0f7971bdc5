"""The scene reader as a detector: what it finds, whether it can be trusted, and how well it can do at best.

Belongs here: detections from pixels, the self-test on known scenes, ceilings, autoencoder reconstructions.
Not here: reading pixels (`got_core.scenes.reader`), or any benchmark that uses the detector.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from got_core.evaluate.config import EvaluateConfig
from got_core.planning.geneval import TASKS, XYXY, Detection, GenEvalRules, evaluate_image
from got_core.scenes.config import DEFAULT_READER
from got_core.scenes.prompts import applicable_prompts, parse_prompt
from got_core.scenes.reader import NotASceneError, read_scene
from got_core.scenes.render import render
from got_core.scenes.sample import sample_scene
from got_core.scenes.world import Scene, World

VERSION = 1
"""Raise when the same pixels give other detections (the reader's limits are in the record by themselves)."""

RULES = GenEvalRules()
SELF_TEST_BAR = 0.97
"""Share of known verdicts that the detector must get right before anything is scored with it."""

Redraw = Callable[[list[Image.Image]], list[Image.Image]]
"""Pictures in, pictures of the same sizes out."""


class DetectorError(RuntimeError):
    """The detector misjudges pictures whose content is known: scores made with it would mean nothing."""


def detector_record() -> dict[str, Any]:
    """Name, version and limits, for a protocol."""
    return {
        "name": "got_core.scenes.reader",
        "version": VERSION,
        "strict": False,
        **dataclasses.asdict(DEFAULT_READER),
    }


def detect(image: Image.Image) -> list[Detection]:
    """Objects of a picture, from its pixels. What fits badly has a low score; what is no scene has none."""
    found = read_scene(image, strict=False, config=DEFAULT_READER)
    return [Detection(o.shape, float(o.score), _xyxy(o.box), o.color) for o in found]


def refusal(image: Image.Image) -> str | None:
    """Why a picture is no scene at all, for the reason column; None if it is one."""
    try:
        read_scene(image)
    except NotASceneError as error:
        return str(error)
    return None


def _xyxy(box: Sequence[float]) -> XYXY:
    x1, y1, x2, y2 = (float(v) for v in box)
    return x1, y1, x2, y2


def true_detections(scene: Scene) -> list[Detection]:
    """What a perfect detector finds in a scene's picture."""
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
    redraw: Redraw | None = None,
) -> float:
    """Share of verdicts that agree with those from the scenes' truth, in [0, 1].

    Each known scene is judged against a prompt that is true of it and against its neighbour's, so a detector
    that finds nothing and one that finds everything both fail. `redraw` changes the pictures first (an
    autoencoder, say).
    """
    known = list(known_scenes(world, count, seed))
    pictures = [render(scene) for scene, _ in known]
    detections = [detect(picture) for picture in (redraw(pictures) if redraw else pictures)]
    agreed = []
    for index, (scene, own) in enumerate(known):
        truth = true_detections(scene)
        for metadata in (own, known[index - 1][1]):
            expected = evaluate_image(truth, metadata, RULES).correct
            agreed.append(evaluate_image(detections[index], metadata, RULES).correct == expected)
    return float(np.mean(agreed))


def detector_ceiling(
    world: World,
    count: int,
    seed: int = 0,
    redraw: Redraw | None = None,
) -> float:
    """Score of a perfect painter: share of true scenes, redrawn if requested, that pass their own prompt."""
    known = list(known_scenes(world, count, seed))
    pictures = [render(scene) for scene, _ in known]
    shown = redraw(pictures) if redraw else pictures
    judged = [evaluate_image(detect(p), row, RULES) for p, (_, row) in zip(shown, known, strict=True)]
    return float(np.mean([verdict.correct for verdict in judged]))


def autoencoder_redraw(vae: Any) -> Redraw:
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


def check_detector(world: World, config: EvaluateConfig) -> float:
    """The self-test's share of right verdicts; raises DetectorError if it is below SELF_TEST_BAR."""
    share = detector_self_test(world, config.self_test, config.seed)
    if share < SELF_TEST_BAR:
        raise DetectorError(
            f"the scene reader judges only {share:.3f} of {config.self_test} known scenes right (needs "
            f"{SELF_TEST_BAR}): nothing was scored; look at got_core.scenes.reader"
        )
    return share
