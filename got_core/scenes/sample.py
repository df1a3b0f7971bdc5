"""Random scenes and edits. The generator passed in makes every choice; nothing held out ever appears."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from got_core.scenes.config import KINDS, TASKS
from got_core.scenes.edits import CLEAR, EditOp, apply, collides, fits_words, in_turn, instruction, pointed_at
from got_core.scenes.heldout import is_held_out
from got_core.scenes.prompts import NUMBERS
from got_core.scenes.world import (
    PLACES,
    RELATIONS,
    RGB,
    TONES,
    Background,
    PixelBox,
    Scene,
    SceneObject,
    World,
    relations,
)

_TRIES = 2000
Looks = list[tuple[str, str]]
"""(shape, colour) of every object."""


def sample_scene(world: World, rng: np.random.Generator, style: str | None = None) -> Scene:
    """A scene that suits one of GenEval's tasks; `None` draws the task evenly.

    single_object and colors: one object. counting: two or more of one shape, half of the time in one
    colour, else in independent colours. two_object, position, color_attr: two objects of unlike shapes;
    position with exactly one of GenEval's relations, color_attr (with `unlike_colors` all three) in unlike
    colours. `mixed` (for edits): one to max_objects, all unlike in (shape, colour). Raises ValueError if the
    world cannot show the style.
    """
    style = style or TASKS[int(rng.integers(len(TASKS)))]
    if style not in (*TASKS, "mixed"):
        raise ValueError(f"unknown style {style!r}: choose from {', '.join(TASKS)}, mixed")
    for _ in range(_TRIES):
        scene = _place_objects(world, rng, _looks(world, rng, style))
        if scene and _suits(scene, style) and not is_held_out(scene.objects, world):
            return scene
    raise ValueError(
        f"the world shows no {style} scene in {_TRIES} tries: it needs more room, shapes or colours"
    )


def _suits(scene: Scene, style: str) -> bool:
    if style != "position":
        return True
    a, b = scene.objects
    return len(relations(a.box, b.box)) == 1


def _looks(world: World, rng: np.random.Generator, style: str) -> Looks:
    if style in ("single_object", "colors"):
        return [(_pick(rng, world.shapes), _pick(rng, world.colors))]
    if style == "counting":
        return _counting_looks(world, rng)
    if style == "mixed":
        return _mixed_looks(world, rng, int(rng.integers(1, world.max_objects + 1)))
    shapes = _distinct(rng, world.shapes, 2)
    colors = (
        _distinct(rng, world.colors, 2)
        if style == "color_attr" or world.unlike_colors
        else [_pick(rng, world.colors) for _ in shapes]
    )
    return list(zip(shapes, colors, strict=True))


def _counting_looks(world: World, rng: np.random.Generator) -> Looks:
    counts = [n for n in NUMBERS if n <= world.max_objects]
    if not counts:
        raise ValueError("counting scenes need a world with max_objects of at least 2")
    count, shape = counts[int(rng.integers(len(counts)))], _pick(rng, world.shapes)
    one_color = rng.random() < 0.5
    first = _pick(rng, world.colors)
    return [(shape, first if one_color or k == 0 else _pick(rng, world.colors)) for k in range(count)]


def _mixed_looks(world: World, rng: np.random.Generator, count: int) -> Looks:
    every = [(shape, color) for shape in world.shapes for color in world.colors]
    return [every[k] for k in rng.choice(len(every), size=min(count, len(every)), replace=False)]


# ---------------------------------------------------------------- placing


def _place_objects(world: World, rng: np.random.Generator, looks: Looks) -> Scene | None:
    objects: tuple[SceneObject, ...] = ()
    for shape, color in looks:
        box = _random_box(world, rng, objects)
        if box is None:
            return None
        objects += (SceneObject(shape, color, *box, rgb=fill(world, rng, color)),)
    return Scene(objects, _background(world, rng), world.size)


def _random_box(
    world: World, rng: np.random.Generator, objects: tuple[SceneObject, ...], side: int | None = None
) -> PixelBox | None:
    draw = rng.integers
    for _ in range(40):
        length = side or int(draw(world.min_object, world.max_object + 1))
        # one by one: an array of two takes three times as long to draw
        end = world.size - world.margin - length + 1
        x, y = int(draw(world.margin, end)), int(draw(world.margin, end))
        if not collides((x, y, x + length, y + length), objects, world.gap):
            return (x, y, x + length, y + length)
    return None


def fill(world: World, rng: np.random.Generator, color: str) -> tuple[int, int, int]:
    """An exact fill that goes by the name of that colour."""
    most = world.color_jitter
    red, green, blue = (level + int(rng.integers(-most, most + 1)) for level in RGB[color])
    return (min(max(red, 0), 255), min(max(green, 0), 255), min(max(blue, 0), 255))


def _background(world: World, rng: np.random.Generator) -> Background:
    tone, kind = _pick(rng, world.tones), _pick(rng, world.backgrounds)
    plain = Background(tone=tone, level=TONES[tone] + int(rng.integers(-8, 9)), kind=kind)
    if kind == "gradient":
        angle, rise = rng.uniform(0, 2 * np.pi), rng.uniform(10, 24)
        return replace(plain, slope=(float(rise * np.cos(angle)), float(rise * np.sin(angle))))
    if kind == "noise":
        return replace(plain, noise=float(rng.uniform(2, 6)), noise_seed=int(rng.integers(2**31)))
    return plain


def _pick(rng: np.random.Generator, names: tuple[str, ...]) -> str:
    return names[int(rng.integers(len(names)))]


def _distinct(rng: np.random.Generator, names: tuple[str, ...], count: int) -> list[str]:
    if len(names) < count:
        raise ValueError(f"the style needs {count} unlike names, the world has {names}")
    return [names[k] for k in rng.choice(len(names), size=count, replace=False)]


# ---------------------------------------------------------------- edits


def sample_edit(
    world: World, rng: np.random.Generator, kind: str | None = None, place_draws: int = 1
) -> tuple[Scene, Scene, EditOp, str]:
    """Source scene, target scene, operation, instruction; `None` draws the kind evenly.

    Neither scene shows a held-out combination or an empty picture; the background stays the same. Of
    `place_draws` boxes for a new or moved object, the one that is most clearly where the words put it is
    taken.
    """
    kind = kind or KINDS[int(rng.integers(len(KINDS)))]
    for _ in range(_TRIES):
        source = sample_scene(world, rng, "mixed")
        op = _sample_op(world, rng, source, kind, place_draws)
        if op is None:
            continue
        target = apply(source, op)
        if may_be_shown(target, world):
            return source, target, op, instruction(op)
    raise ValueError(
        f"the world shows no {kind} edit in {_TRIES} tries: it needs more room, shapes or colours"
    )


def sample_multi_turn(
    world: World, rng: np.random.Generator, steps: int | None = None, place_draws: int = 1
) -> tuple[Scene, Scene, EditOp, str]:
    """Source scene, target scene, operation and instruction of an edit in `steps`; `None`: two or three.

    Every scene on the way is fit to be shown, as in `sample_edit`. A step may go on with what an earlier one
    made, but never undoes it: nothing is placed twice, coloured twice, or removed after it was touched. So
    source and target picture together show every place that the steps name.
    """
    count = steps or int(rng.integers(2, 4))
    for _ in range(_TRIES):
        source = sample_scene(world, rng, "mixed")
        ops = _sample_steps(world, rng, source, count, place_draws)
        if ops:
            op = in_turn(ops)
            return source, apply(source, op), op, instruction(op)
    raise ValueError(
        f"the world shows no edit of {count} steps in {_TRIES} tries: it needs more room, shapes or colours"
    )


def _sample_steps(
    world: World, rng: np.random.Generator, scene: Scene, count: int, place_draws: int
) -> list[EditOp] | None:
    ops: list[EditOp] = []
    changed: dict[str, set[str]] = {}
    for _ in range(count):
        op = _sample_op(world, rng, scene, KINDS[int(rng.integers(len(KINDS)))], place_draws)
        if op is None or not _adds_to(op, changed):
            return None
        scene = apply(scene, op)
        if not may_be_shown(scene, world):
            return None
        ops.append(op)
    return ops


def _adds_to(op: EditOp, changed: dict[str, set[str]]) -> bool:
    """Whether a step undoes nothing of what was `changed` (object to "place", "look"), which it joins."""
    before = changed.pop(op.phrase, set()) if op.kind != "add" else set()
    aspect = "place" if op.kind in ("add", "move") else "look"
    if op.kind == "remove":
        return not before
    changed[f"{op.new_color or op.color} {op.new_shape or op.shape}"] = before | {aspect}
    return aspect not in before


def may_be_shown(scene: Scene, world: World) -> bool:
    """Not empty, nothing held out, and every object can be named by colour and shape."""
    unlike = len({(item.shape, item.color) for item in scene.objects}) == len(scene.objects)
    return bool(scene.objects) and unlike and not is_held_out(scene.objects, world)


def _sample_op(
    world: World, rng: np.random.Generator, source: Scene, kind: str, place_draws: int
) -> EditOp | None:
    item = source.objects[int(rng.integers(len(source.objects)))]
    op = EditOp(kind=kind, color=item.color, shape=item.shape)
    if kind == "add":
        if len(source.objects) >= world.max_objects:
            return None
        color = _pick(rng, world.colors)
        new = EditOp(kind=kind, color=color, shape=_pick(rng, world.shapes), rgb=fill(world, rng, color))
        return _with_place(world, rng, new, source, source.objects, None, place_draws)
    if kind == "move":
        rest = tuple(other for other in source.objects if other is not item)
        return _with_place(world, rng, op, source, rest, item, place_draws)
    if kind == "recolour":
        others = tuple(name for name in world.colors if name != item.color)
        if not others:
            return None
        color = _pick(rng, others)
        return replace(op, new_color=color, rgb=fill(world, rng, color))
    if kind == "replace":
        others = tuple(name for name in world.shapes if name != item.shape)
        if not others:
            return None
        shape = _pick(rng, others)
        color = _pick(rng, world.colors)
        return replace(op, new_shape=shape, new_color=color, rgb=fill(world, rng, color))
    return op


def _with_place(
    world: World,
    rng: np.random.Generator,
    op: EditOp,
    source: Scene,
    others: tuple[SceneObject, ...],
    old: SceneObject | None,
    draws: int,
) -> EditOp | None:
    """The operation with words for a place and a free box there; a move's words were not true before."""
    if others and rng.random() < 0.5:
        anchor = others[int(rng.integers(len(others)))]
        op = replace(op, anchor=(_pick(rng, RELATIONS), anchor.color, anchor.shape))
    else:
        op = replace(op, place=_pick(rng, PLACES))
    if old and fits_words(old.box, op, source):
        return None
    return with_box(world, rng, op, source, others, old, draws)


def with_box(
    world: World,
    rng: np.random.Generator,
    op: EditOp,
    source: Scene,
    others: tuple[SceneObject, ...],
    old: SceneObject | None,
    draws: int,
) -> EditOp | None:
    """An add, or a move of `old`, with a free box among `others` that suits its words, the clearest of
    `draws`; None where none is found."""
    for _ in range(20):
        box = _random_box(world, rng, others, old.x2 - old.x1 if old else None)
        if box and fits_words(box, op, source):
            return replace(op, box=_clearest(world, rng, op, source, others, box, draws))
    return None


def _clearest(
    world: World,
    rng: np.random.Generator,
    op: EditOp,
    source: Scene,
    others: tuple[SceneObject, ...],
    first: PixelBox,
    draws: int,
) -> PixelBox:
    """Of the first box and `draws - 1` more of its size: near to where the words point, clear of objects."""
    side = first[2] - first[0]
    x, y = pointed_at(source, op, side)

    def ambiguity(box: PixelBox) -> float:
        free = next(gap for gap in range(CLEAR, -1, -1) if not collides(box, others, gap))
        return math.hypot(box[0] + side / 2 - x, box[1] + side / 2 - y) + 2 * (CLEAR - free)

    more = (_random_box(world, rng, others, side) for _ in range(draws - 1))
    return min([first, *(box for box in more if box and fits_words(box, op, source))], key=ambiguity)
