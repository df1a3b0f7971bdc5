"""A painter that keeps to its plans in seconds: what a trained model does, with the faults one asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image

from got_core.chain.boxes import Box
from got_core.chain.grammar import Boxed, Chain, Text
from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.edits import EditScenes
from got_core.evaluate.runner import RunResult, score_stored
from got_core.evaluate.samples import draw_batch
from got_core.evaluate.scenes import GenEvalScenes
from got_core.evaluate.suite import Suite
from got_core.scenes.render import render
from got_core.scenes.world import NARROW, RGB, Background, Scene, SceneObject
from got_core.storage import Storage
from tests.got_core.evaluate.annotated import annotated_chains

CONFIG = EvaluateConfig(images_per_task=3, edit_images=5, bootstrap=20, self_test=6, edit_steps=1)
GENEVAL, EDITS = GenEvalScenes(NARROW, CONFIG), EditScenes(NARROW, CONFIG)
SLOTS = {
    "left of": (4, 22, 24, 42),
    "right of": (40, 22, 60, 42),
    "above": (22, 4, 42, 24),
    "below": (22, 40, 42, 60),
}
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
GREY = Background("grey", 128)


def objects_of(row: dict[str, Any]) -> list[SceneObject]:
    """What a prompt asks for, in places of its own."""
    shapes = [one for one in row["include"] for _ in range(one["count"])]
    free = iter(("red", "blue", "green", "yellow"))
    found = []
    for box, one in zip(_places(row), shapes, strict=False):
        color = one.get("color") or next(free)
        found.append(SceneObject(one["class"], color, *box, RGB[color]))
    return found


def _places(row: dict[str, Any]) -> list[tuple[int, int, int, int]]:
    if len(row["include"]) == 1:
        return [(4, 4, 24, 24), (40, 40, 60, 60), (40, 4, 60, 24), (4, 40, 24, 60)]
    relation = next((one["position"][0] for one in row["include"] if "position" in one), "right of")
    return [SLOTS[OPPOSITE[relation]], SLOTS[relation]]


def plan_of(objects: Sequence[SceneObject], shift: int = 0) -> Chain:
    """Their boxes, moved to the right by so many thousandths."""
    parts: list[Text | Boxed] = []
    for number, one in enumerate(objects):
        parts.append(Text(f"{' and ' if number else ''}a {one.color} {one.shape} "))
        x1, y1, x2, y2 = (round(1000 * v / 64) for v in one.box)
        parts.append(Boxed(Box(min(x1 + shift, 990), y1, min(x2 + shift, 999), y2)))
    return Chain(tuple(parts))


class Painter:
    """Stands where a pipeline stands; `wrong`: numbers of requests that it plans and draws without their
    first object, `shift`: of all its plans."""

    def __init__(self, suite: Suite, wrong: Sequence[int] = (), shift: int = 0) -> None:
        self.requests = suite.requests("x")
        self.chains, self.images = [], []
        if isinstance(suite, GenEvalScenes):
            for number, row in enumerate(suite.rows):
                objects = objects_of(row)[1 if number in wrong else 0 :]
                self.chains.append(plan_of(objects, shift))
                self.images.append(render(Scene(tuple(objects), GREY, 64)))
        elif isinstance(suite, EditScenes):
            self.chains = annotated_chains(suite.cases)
            for number, case in enumerate(suite.cases):
                self.images.append(render(case.source if number in wrong else case.target))

    def _numbers(self, prompts: Sequence[str], seeds: Sequence[int] | None) -> list[int]:
        numbers = []
        for place, prompt in enumerate(prompts):
            fitting = [
                number
                for number, one in self.requests.items()
                if one.prompt == prompt and (seeds is None or one.seed == seeds[place])
            ]
            numbers.append(fitting[0])
        return numbers

    def write_chains(self, prompts: Sequence[str], sources: Any = None, **options: Any) -> list[str]:
        return [self.chains[number].to_model() for number in self._numbers(prompts, None)]

    def draw(
        self, chains: Any, prompts: Sequence[str], sources: Any, *, generator: Sequence[Any], **options: Any
    ) -> list[Image.Image]:
        seeds = [one.initial_seed() for one in generator]
        return [self.images[number] for number in self._numbers(prompts, seeds)]


def painted_run(
    suite: Suite, storage: Storage, prefix: str, weights: str, *, wrong: Sequence[int] = (), shift: int = 0
) -> RunResult:
    """Drawn by a painter, stored and judged as everything is."""
    painter = Painter(suite, wrong, shift)
    for request in suite.requests(prefix).values():  # one by one: prompts repeat, and have a plan each
        draw_batch(painter, [request], storage, {}, sampler={}, weights_hash=weights)  # type: ignore[arg-type]
    return score_stored(suite, storage, prefix, weights_hash=weights)
