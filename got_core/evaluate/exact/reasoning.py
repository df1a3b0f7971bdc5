"""Cases of `reason_edit/scenes`: edits whose instructions need reasoning, in Reason-Edit's classes.

Belongs here: scenes, edits and wordings. Not here: the phrases that point at objects (`referents`), or the
suite (`reason_edit`). Scenes come from seeds that no corpus uses and show nothing that is held out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.exact import referents
from got_core.evaluate.exact.cases import ExactCase
from got_core.evaluate.exact.referents import Finder
from got_core.scenes.edits import EditOp, apply, fits_words, in_turn
from got_core.scenes.heldout import is_held_out
from got_core.scenes.prompts import article
from got_core.scenes.sample import sample_scene
from got_core.scenes.world import PLACES, Scene, SceneObject, World

LEFT_RIGHT, SIZE, MIRROR, COLOR = "left_right", "relative_size", "mirror", "color"
MULTIPLE, REASONING = "multiple_objects", "reasoning"
_TRIES = 5000

_THINGS = {
    "red": "a ripe tomato",
    "orange": "a carrot",
    "yellow": "a ripe banana",
    "green": "fresh grass",
    "blue": "a clear sky",
    "purple": "an aubergine",
    "pink": "a flamingo",
    "brown": "chocolate",
}
"""What has which colour."""


@dataclass(frozen=True)
class Asked:
    """An instruction, and the edits of named objects that it comes to."""

    instruction: str
    ops: tuple[EditOp, ...]


Asker = Callable[[World, np.random.Generator, Scene], Iterator[Asked]]
"""Instructions of one kind that a scene allows."""


# ---------------------------------------------------------------- what is asked


def _edits_of(find: Finder) -> Asker:
    """One edit of an object that is pointed at."""

    def ask(world: World, rng: np.random.Generator, scene: Scene) -> Iterator[Asked]:
        for referent in find(scene):
            item = scene.objects[referent.objects[0]]
            kind = ("remove", "recolour", "replace", "move")[int(rng.integers(4))]
            asked = _single(world, rng, scene, item, referent.phrase, kind)
            if asked:
                yield asked

    return ask


def _single(
    world: World, rng: np.random.Generator, scene: Scene, item: SceneObject, phrase: str, kind: str
) -> Asked | None:
    op = EditOp(kind=kind, color=item.color, shape=item.shape)
    if kind == "remove":
        return Asked(_one_of(rng, f"remove {phrase}", f"take away {phrase}"), (op,))
    color = _one_of(rng, *(name for name in world.colors if name != item.color))
    if kind == "recolour":
        text = _one_of(rng, f"make {phrase} {color}", f"paint {phrase} {color}")
        return Asked(text, (replace(op, new_color=color),))
    if kind == "replace":
        shape = _one_of(rng, *(name for name in world.shapes if name != item.shape))
        new = article(f"{color} {shape}")
        text = _one_of(rng, f"replace {phrase} with {new}", f"turn {phrase} into {new}")
        return Asked(text, (replace(op, new_color=color, new_shape=shape),))
    place = _one_of(rng, *PLACES)
    moved = replace(op, place=place)
    if fits_words(item.box, moved, scene):
        return None
    return Asked(_one_of(rng, f"move {phrase} to the {place}", f"bring {phrase} to the {place}"), (moved,))


def _edits_of_all(find: Finder) -> Asker:
    """One edit of several objects: they go, or get one colour."""

    def ask(world: World, rng: np.random.Generator, scene: Scene) -> Iterator[Asked]:
        for referent in find(scene):
            items = [scene.objects[k] for k in referent.objects]
            others = [name for name in world.colors if all(name != one.color for one in items)]
            if len({one.shape for one in items}) == len(items) and others and rng.random() < 0.5:
                color = _one_of(rng, *others)
                ops = (_op("recolour", one, new_color=color) for one in items)
                yield Asked(f"make {referent.phrase} {color}", tuple(ops))
            else:
                yield Asked(f"remove {referent.phrase}", tuple(_op("remove", one) for one in items))

    return ask


def _by_analogy(world: World, rng: np.random.Generator, scene: Scene) -> Iterator[Asked]:
    """`give the circle the colour of the square`."""
    for item, other in _named(scene):
        if item.color != other.color:
            text = f"give the {item.shape} the colour of the {other.shape}"
            yield Asked(text, (_op("recolour", item, new_color=other.color),))


def _by_knowledge(world: World, rng: np.random.Generator, scene: Scene) -> Iterator[Asked]:
    """`give the circle the colour of a ripe banana`."""
    for item, _ in _named(scene):
        color = _one_of(rng, *(name for name in world.colors if name != item.color))
        text = f"give the {item.shape} the colour of {_THINGS[color]}"
        yield Asked(text, (_op("recolour", item, new_color=color),))


def _named(scene: Scene) -> Iterator[tuple[SceneObject, SceneObject]]:
    """Pairs of objects that their shapes alone name."""
    alone = [one for one in scene.objects if sum(one.shape == o.shape for o in scene.objects) == 1]
    return ((one, other) for one in alone for other in alone if one is not other)


def _op(kind: str, item: SceneObject, new_color: str | None = None) -> EditOp:
    return EditOp(kind=kind, color=item.color, shape=item.shape, new_color=new_color)


def _one_of(rng: np.random.Generator, *texts: str) -> str:
    return texts[int(rng.integers(len(texts)))]


ASKED: dict[str, tuple[Asker, ...]] = {
    LEFT_RIGHT: (_edits_of(referents.far_left_or_right), _edits_of(referents.left_or_right_of_two)),
    SIZE: (_edits_of(referents.largest_or_smallest), _edits_of(referents.larger_of_two)),
    MIRROR: (_edits_of(referents.mirrored),),
    COLOR: tuple(
        map(_edits_of, (referents.not_that_color, referents.of_that_color, referents.of_same_color))
    ),
    MULTIPLE: tuple(
        map(_edits_of_all, (referents.all_of_shape, referents.all_of_color, referents.all_but_one))
    ),
    REASONING: (
        _edits_of(referents.odd_one_out),
        _edits_of(referents.related),
        _by_analogy,
        _by_knowledge,
        _edits_of(referents.by_corners),
    ),
}
"""Kinds of instructions of each task, which take turns. The tasks are Reason-Edit's classes."""


# ---------------------------------------------------------------- cases


def reasoning_cases(world: World, config: EvaluateConfig) -> list[ExactCase]:
    """`reason_images` cases, the tasks in turn. Raises ValueError where the world cannot show one: it needs
    three objects in a scene, three shapes and three colours."""
    return [_case(world, config, index) for index in range(config.reason_images)]


def _case(world: World, config: EvaluateConfig, index: int) -> ExactCase:
    rng = np.random.default_rng([config.seed, 0x4EA5, index])
    turn, number = divmod(index, len(ASKED))
    task = list(ASKED)[number]
    ask = ASKED[task][turn % len(ASKED[task])]
    for _ in range(_TRIES):
        source = _scene(world, rng, task, turn)
        found = list(ask(world, rng, source)) if source else []
        if not source or not found:
            continue
        asked = found[int(rng.integers(len(found)))]
        target = _result(source, asked.ops, world)
        if target:
            seed = int(rng.integers(2**31 - 1))
            return ExactCase(task, source, target, asked.ops, asked.instruction, seed)
    raise ValueError(
        f"the world shows no scene for the task {task} of reason_edit/scenes in {_TRIES} tries: it needs "
        "more objects in a scene, shapes or colours"
    )


def _scene(world: World, rng: np.random.Generator, task: str, turn: int) -> Scene | None:
    scene = sample_scene(world, rng, "mixed")
    if task != MIRROR:
        return scene
    turned = referents.with_mirror_image(scene, turn % 2, world.gap)
    return turned if turned and not is_held_out(turned.objects, world) else None


def _result(source: Scene, ops: Sequence[EditOp], world: World) -> Scene | None:
    """The scene after the edits; None where there is no room, or it may not be shown."""
    try:
        target = apply(source, in_turn(ops))
    except ValueError:
        return None
    looks = {(one.color, one.shape) for one in target.objects}
    if not target.objects or len(looks) < len(target.objects) or is_held_out(target.objects, world):
        return None
    return target
