"""Instructions that need reasoning: what they ask for, scenes that allow them, and their plain words.

Belongs here: the wordings, in Reason-Edit's classes, sampling, and `resolve`. Not here: the phrases that
point at objects (`referents`), the benchmark's cases (`evaluate.exact.reasoning`), or instructions that name
their objects (`edits`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product

import numpy as np

from got_core.scenes import referents
from got_core.scenes.edits import (
    EditOp,
    apply,
    find,
    fits_words,
    in_turn,
    parse_instruction,
    split_steps,
)
from got_core.scenes.heldout import Placed, is_held_out
from got_core.scenes.prompts import article
from got_core.scenes.referents import READING, WRITING, Finder, Referent, Seen
from got_core.scenes.sample import fill, may_be_shown, sample_scene, with_box
from got_core.scenes.world import PLACES, Scene, SceneObject, World

LEFT_RIGHT, SIZE, MIRROR, COLOR = "left_right", "relative_size", "mirror", "color"
MULTIPLE, REASONING = "multiple_objects", "reasoning"
_TRIES = 5000
_TURNS = 60
"""Turns of a class, all of whose kinds and mirrors are among them equally often."""

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


def _edits_of(finder: Finder) -> Asker:
    """One edit of an object that is pointed at."""

    def ask(world: World, rng: np.random.Generator, scene: Scene) -> Iterator[Asked]:
        for referent in finder(Seen.of(scene)):
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


def _edits_of_all(finder: Finder) -> Asker:
    """One edit of several objects: they go, or get one colour."""

    def ask(world: World, rng: np.random.Generator, scene: Scene) -> Iterator[Asked]:
        for referent in finder(Seen.of(scene)):
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


# ---------------------------------------------------------------- sampling

Finish = Callable[[Scene, tuple[EditOp, ...]], tuple[EditOp, ...] | None]
"""Completes the edits of a scene; None where they cannot be made."""


def sample_reasoning(
    world: World, rng: np.random.Generator, task: str | None = None, place_draws: int = 1
) -> tuple[Scene, Scene, EditOp, str]:
    """Source scene, target scene, operation, instruction; `None` draws the class (of ASKED) evenly.

    Several objects are edited step by step, from left to right. Scenes are as in `sample_edit`, those between
    the steps too. Raises ValueError where the world cannot show the class.
    """

    def finish(scene: Scene, ops: tuple[EditOp, ...]) -> tuple[EditOp, ...] | None:
        return _finished(world, rng, scene, ops, place_draws)

    task = task or _one_of(rng, *ASKED)
    turn = int(rng.integers(_TURNS))
    source, target, ops, text = draw_reasoning(world, rng, task, turn, finish)
    return source, target, in_turn(ops), text


def draw_reasoning(
    world: World,
    rng: np.random.Generator,
    task: str,
    turn: int,
    finish: Finish = lambda scene, ops: ops,
) -> tuple[Scene, Scene, tuple[EditOp, ...], str]:
    """Source, target, edits and instruction of one class, whose kinds take turns. Raises ValueError where the
    world cannot show one: it needs three objects in a scene, three shapes and three colours."""
    ask = ASKED[task][turn % len(ASKED[task])]
    for _ in range(_TRIES):
        source = _scene(world, rng, task, turn)
        found = list(ask(world, rng, source)) if source else []
        if not source or not found:
            continue
        asked = found[int(rng.integers(len(found)))]
        ops = finish(source, asked.ops)
        target = _result(source, ops, world) if ops else None
        if ops and target:
            return source, target, ops, asked.instruction
    raise ValueError(
        f"the world shows no scene for {task} instructions in {_TRIES} tries: it needs more objects in a "
        "scene, shapes or colours"
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
    return target if may_be_shown(target, world) else None


def _finished(
    world: World, rng: np.random.Generator, scene: Scene, ops: tuple[EditOp, ...], place_draws: int
) -> tuple[EditOp, ...] | None:
    """The edits from left to right, with exact fills and places; None also where that order is not plain."""
    finished: list[EditOp] = []
    left = {op: scene.objects[find(scene, op.color, op.shape)].x1 for op in ops}
    in_order = sorted(ops, key=left.__getitem__)
    if any(left[after] - left[before] < WRITING.side for before, after in pairwise(in_order)):
        return None
    for op in in_order:
        step: EditOp | None = op
        if op.new_color:
            step = replace(op, rgb=fill(world, rng, op.new_color))
        elif op.kind == "move":
            old = scene.objects[find(scene, op.color, op.shape)]
            others = tuple(one for one in scene.objects if one is not old)
            step = with_box(world, rng, op, scene, others, old, place_draws)
        between = _result(scene, [step], world) if step else None
        if step is None or between is None:
            return None
        scene = between
        finished.append(step)
    return tuple(finished)


# ---------------------------------------------------------------- plain words

_FINDERS: tuple[Finder, ...] = (*referents.SINGLE, *referents.SEVERAL)
_THING = r"the \w+ \w+"
_LIKE = re.compile(rf"give ({_THING}) the colou?r of (?:the (\w+) \w+|({'|'.join(_THINGS.values())}))")
_COLOR_OF = {thing: color for color, thing in _THINGS.items()}


def resolve(text: str, objects: Sequence[Placed], sides: tuple[int, int]) -> EditOp:
    """The edit that an instruction asks for, in steps that name their objects.

    `objects`: all that the picture shows, with boxes in pixels, which may be a pixel off; `sides`: its width
    and height. All steps speak of the picture as it is. Several objects are edited from left to right. An
    instruction that names its objects is read as it stands. Raises ValueError where a phrase is true of
    nothing or of more than one thing, where colour and shape do not name the thing, or where the rest is no
    edit of scenes.
    """
    phrases = _phrases(Seen(tuple(sorted(objects, key=lambda one: one.box)), sides, READING))
    try:
        return in_turn([op for part in split_steps(text) for op in _resolved(part, phrases)])
    except ValueError:
        shown = ", ".join(article(f"{one.color} {one.shape}") for one in objects) or "nothing"
        raise ValueError(
            f"{text!r} asks for no edit that can be understood, or for one of nothing or of more than one "
            f"thing in the picture, which shows {shown}"
        ) from None


def _resolved(part: str, phrases: dict[str, tuple[str, ...]]) -> Iterator[EditOp]:
    """The edits of one step: one for each object that its phrases are true of."""
    pattern = "|".join(map(re.escape, sorted(phrases, key=len, reverse=True)))
    words = re.split(rf"\b({pattern})\b", part) if phrases else [part]
    for said in product(*(phrases[word] if k % 2 else (word,) for k, word in enumerate(words))):
        plain = "".join(said)
        if like := _LIKE.fullmatch(plain):
            plain = f"change {like[1]} to {like[2] or _COLOR_OF[like[3]]}"
        yield parse_instruction(plain)


def _phrases(seen: Seen) -> dict[str, tuple[str, ...]]:
    """What may be said of objects, and their names; only where these are names of one object each."""
    found = [one for finder in _FINDERS for one in finder(seen)]
    found += [Referent(f"the {one.shape}", (k,)) for k, one in referents.one_each(seen)]
    names = [f"the {one.color} {one.shape}" for one in seen.objects]
    clear = [one for one in found if all(names.count(names[k]) == 1 for k in one.objects)]
    return {one.phrase: tuple(names[k] for k in one.objects) for one in clear}
