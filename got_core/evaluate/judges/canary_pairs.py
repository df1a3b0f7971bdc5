"""Drawn pairs of a source and an edited picture whose quality is known, to ask a judge about again and again.

Belongs here: the scenes, what was asked for, and four outcomes of each edit. Not here: asking (`canary`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from PIL import Image

from got_core.evaluate.judges.call import Shown
from got_core.scenes.edits import EditOp, apply, instruction
from got_core.scenes.render import render
from got_core.scenes.world import RGB, TONES, Background, Scene, SceneObject

SIDE = 256
"""Of the pictures, in pixels."""

OUTCOMES = ("right", "nothing", "another", "too much")
"""The edit asked for; the source as it is; another edit; the edit asked for and others besides."""


@dataclass(frozen=True, kw_only=True)
class CanaryPair:
    """A source, what was asked for, and a picture that shows it or does not."""

    name: str
    """`recolour, too much`."""
    instruction: str
    source: Shown
    edited: Shown
    done: bool
    """Whether the edited picture shows what was asked for."""
    kept: bool
    """Whether all else is as it was."""

    @property
    def right(self) -> bool:
        """Whether it deserves the highest scores."""
        return self.done and self.kept


@cache
def canary_pairs() -> Sequence[CanaryPair]:
    """Four edits with four outcomes each, always the same pixels."""
    return tuple(
        CanaryPair(
            name=f"{op.kind}, {outcome}",
            instruction=instruction(op),
            source=_shown(scene),
            edited=_shown(_outcome(scene, op, other, outcome)),
            done=outcome in ("right", "too much"),
            kept=outcome in ("right", "nothing"),
        )
        for scene, op, other in _edits()
        for outcome in OUTCOMES
    )


def _outcome(scene: Scene, op: EditOp, other: EditOp, outcome: str) -> Scene:
    if outcome == "nothing":
        return scene
    if outcome == "another":
        return apply(scene, other)
    edited = apply(scene, op)
    if outcome == "right":
        return edited
    return replace(apply(edited, other), background=_ground("black"))


def _edits() -> list[tuple[Scene, EditOp, EditOp]]:
    """A scene, an edit of it, and an edit of something else there."""
    first = _scene("white", ("circle", "red", 24, 40, 96), ("square", "blue", 148, 130, 84))
    second = _scene("grey", ("triangle", "green", 30, 132, 92), ("circle", "yellow", 140, 32, 88))
    third = _scene("white", ("star", "purple", 28, 28, 90), ("diamond", "orange", 140, 140, 90))
    fourth = _scene("grey", ("cross", "blue", 140, 28, 90), ("square", "red", 28, 140, 88))
    return [
        (
            first,
            EditOp(kind="recolour", color="red", shape="circle", new_color="green"),
            EditOp(kind="remove", color="blue", shape="square"),
        ),
        (
            second,
            EditOp(kind="remove", color="yellow", shape="circle"),
            EditOp(kind="recolour", color="green", shape="triangle", new_color="pink"),
        ),
        (
            third,
            EditOp(kind="replace", color="purple", shape="star", new_color="purple", new_shape="square"),
            EditOp(kind="recolour", color="orange", shape="diamond", new_color="blue"),
        ),
        (
            fourth,
            EditOp(kind="add", color="yellow", shape="triangle", place="top left", box=(30, 30, 116, 116)),
            EditOp(kind="recolour", color="red", shape="square", new_color="purple"),
        ),
    ]


def _scene(tone: str, *objects: tuple[str, str, int, int, int]) -> Scene:
    """Shape, colour, left, top and side of each object."""
    items = (
        SceneObject(shape, color, x, y, x + side, y + side, RGB[color])
        for shape, color, x, y, side in objects
    )
    return Scene(tuple(items), _ground(tone), SIDE)


def _ground(tone: str) -> Background:
    return Background(tone, TONES[tone])


def _shown(scene: Scene) -> Shown:
    image = render(scene)
    return Shown(sha256=hashlib.sha256(image.tobytes()).hexdigest(), image=lambda: _copy(image))


def _copy(image: Image.Image) -> Image.Image:
    return image.copy()
