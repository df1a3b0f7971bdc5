"""Ways to point at objects of a scene without naming them: the largest, the odd one out, what is below.

Belongs here: which phrases are true of which objects of a scene, and of no others. Not here: instructions and
cases (`reasoning`). Every phrase is unambiguous with a margin: sides and centres that decide differ by MARGIN
pixels at least.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from got_core.planning.objects import iou
from got_core.scenes.edits import collides
from got_core.scenes.world import PLURALS, RELATIONS, PixelBox, Scene, SceneObject, relations

MARGIN = 4
"""Pixels by which sides that are compared differ; centres by twice as many."""


@dataclass(frozen=True)
class Referent:
    """A noun phrase, and the numbers of the objects that it is true of."""

    phrase: str
    objects: tuple[int, ...]


Finder = Callable[[Scene], Iterator[Referent]]
"""All phrases of one kind that are true of a scene."""


def _one_each(scene: Scene) -> Iterator[tuple[int, SceneObject]]:
    """The objects that no other has the shape of."""
    shapes = [one.shape for one in scene.objects]
    return ((k, one) for k, one in enumerate(scene.objects) if shapes.count(one.shape) == 1)


def _pairs(scene: Scene) -> Iterator[tuple[str, list[int]]]:
    """Shapes of exactly two objects, and which."""
    for shape in dict.fromkeys(one.shape for one in scene.objects):
        numbers = [k for k, one in enumerate(scene.objects) if one.shape == shape]
        if len(numbers) == 2:
            yield shape, numbers


def _extreme(numbers: Sequence[int], values: Sequence[float], margin: float) -> int | None:
    """The number whose value is the largest by a margin; None where none is."""
    order = sorted(numbers, key=lambda k: values[k])
    if len(order) < 2 or values[order[-1]] - values[order[-2]] < margin:
        return None
    return order[-1]


# ---------------------------------------------------------------- left and right, size


def far_left_or_right(scene: Scene) -> Iterator[Referent]:
    """`the leftmost shape`."""
    for phrase, sign in (("the leftmost shape", -1), ("the shape farthest to the right", 1)):
        centres = [sign * (one.x1 + one.x2) / 2 for one in scene.objects]
        found = _extreme(range(len(centres)), centres, 2 * MARGIN)
        if found is not None:
            yield Referent(phrase, (found,))


def left_or_right_of_two(scene: Scene) -> Iterator[Referent]:
    """`the left one of the two circles`."""
    for shape, numbers in _pairs(scene):
        for side, sign in (("left", -1), ("right", 1)):
            centres = [sign * (one.x1 + one.x2) / 2 for one in scene.objects]
            found = _extreme(numbers, centres, 2 * MARGIN)
            if found is not None:
                yield Referent(f"the {side} one of the two {PLURALS[shape]}", (found,))


def largest_or_smallest(scene: Scene) -> Iterator[Referent]:
    """`the largest shape`."""
    for phrase, sign in (("the largest shape", 1), ("the smallest shape", -1)):
        sides = [float(sign * (one.x2 - one.x1)) for one in scene.objects]
        found = _extreme(range(len(sides)), sides, MARGIN)
        if found is not None:
            yield Referent(phrase, (found,))


def larger_of_two(scene: Scene) -> Iterator[Referent]:
    """`the larger of the two circles`."""
    for shape, numbers in _pairs(scene):
        for word, sign in (("larger", 1), ("smaller", -1)):
            sides = [float(sign * (one.x2 - one.x1)) for one in scene.objects]
            found = _extreme(numbers, sides, MARGIN)
            if found is not None:
                yield Referent(f"the {word} of the two {PLURALS[shape]}", (found,))


# ---------------------------------------------------------------- mirrors

_MIRRORS = (
    ("a mirror that stands upright in the middle", (0, 2)),
    ("water that begins at the middle", (1, 3)),
)
"""What reflects, and the sides of a box that it turns about."""


def mirrored(scene: Scene) -> Iterator[Referent]:
    """`the shape where a mirror that stands upright in the middle would show the red circle`."""
    for mirror, sides in _MIRRORS:
        for item in scene.objects:
            image = mirror_box(item.box, sides, scene.size)
            overlaps = [iou(_floats(image), _floats(one.box)) for one in scene.objects]
            there = [k for k, overlap in enumerate(overlaps) if overlap > 0]
            if len(there) == 1 and overlaps[there[0]] >= 0.5 and scene.objects[there[0]] is not item:
                phrase = f"the shape where {mirror} would show the {item.color} {item.shape}"
                yield Referent(phrase, (there[0],))


def mirror_box(box: PixelBox, sides: tuple[int, int], size: int) -> PixelBox:
    """A box turned about the middle of a picture across (sides 0, 2) or down (1, 3)."""
    first, second = sides
    turned = list(box)
    turned[first], turned[second] = size - box[second], size - box[first]
    return turned[0], turned[1], turned[2], turned[3]


def with_mirror_image(scene: Scene, mirror: int, gap: int) -> Scene | None:
    """The scene with its second object where mirror 0 or 1 would show its first; None where there is no room.
    Both have the first one's size then."""
    if len(scene.objects) < 2:
        return None
    first, second, *rest = scene.objects
    x1, y1, x2, y2 = image = mirror_box(first.box, _MIRRORS[mirror][1], scene.size)
    if collides(image, (first, *rest), gap):
        return None
    return replace(scene, objects=(first, replace(second, x1=x1, y1=y1, x2=x2, y2=y2), *rest))


def _floats(box: PixelBox) -> tuple[float, float, float, float]:
    return float(box[0]), float(box[1]), float(box[2]), float(box[3])


# ---------------------------------------------------------------- colours


def not_that_color(scene: Scene) -> Iterator[Referent]:
    """`the only shape that is not red`, of three or more."""
    colors = [one.color for one in scene.objects]
    for color in dict.fromkeys(colors):
        others = tuple(k for k, one in enumerate(colors) if one != color)
        if len(others) == 1 and len(colors) > 2:
            yield Referent(f"the only shape that is not {color}", others)


def of_that_color(scene: Scene) -> Iterator[Referent]:
    """`the red one`, of two or more."""
    colors = [one.color for one in scene.objects]
    for number, color in enumerate(colors):
        if colors.count(color) == 1 and len(colors) > 1:
            yield Referent(f"the {color} one", (number,))


def of_same_color(scene: Scene) -> Iterator[Referent]:
    """`the shape that has the colour of the star`."""
    colors = [one.color for one in scene.objects]
    for number, item in _one_each(scene):
        alike = tuple(k for k, one in enumerate(colors) if one == item.color and k != number)
        if len(alike) == 1 and len(colors) > 2:
            yield Referent(f"the other shape that has the colour of the {item.shape}", alike)


# ---------------------------------------------------------------- several objects


def all_of_shape(scene: Scene) -> Iterator[Referent]:
    """`both circles`, `all circles`."""
    for shape in dict.fromkeys(one.shape for one in scene.objects):
        numbers = tuple(k for k, one in enumerate(scene.objects) if one.shape == shape)
        yield from _several(f"{_all(numbers)} {PLURALS[shape]}", numbers, scene)


def all_of_color(scene: Scene) -> Iterator[Referent]:
    """`both red shapes`, `all red shapes`."""
    for color in dict.fromkeys(one.color for one in scene.objects):
        numbers = tuple(k for k, one in enumerate(scene.objects) if one.color == color)
        yield from _several(f"{_all(numbers)} {color} shapes", numbers, scene)


def all_but_one(scene: Scene) -> Iterator[Referent]:
    """`everything except the star`."""
    for number, item in _one_each(scene):
        others = tuple(k for k in range(len(scene.objects)) if k != number)
        yield from _several(f"everything except the {item.shape}", others, scene)


def _all(numbers: Sequence[int]) -> str:
    return "both" if len(numbers) == 2 else "all"


def _several(phrase: str, numbers: tuple[int, ...], scene: Scene) -> Iterator[Referent]:
    if 1 < len(numbers) < len(scene.objects):
        yield Referent(phrase, numbers)


# ---------------------------------------------------------------- reasoning


def odd_one_out(scene: Scene) -> Iterator[Referent]:
    """`the odd one out`: alone in its shape among three or more that share theirs, where no colour is odd."""
    shapes, colors = ([getattr(one, name) for one in scene.objects] for name in ("shape", "color"))
    odd = [_odd(names) for names in (shapes, colors)]
    numbers = {number for number in odd if number is not None}
    if len(numbers) == 1 and odd[0] is not None:
        yield Referent("the shape that does not belong with the others", (odd[0],))


def _odd(names: Sequence[str]) -> int | None:
    alone = [k for k, name in enumerate(names) if names.count(name) == 1]
    return alone[0] if len(alone) == 1 and len(set(names)) == 2 and len(names) > 2 else None


def related(scene: Scene) -> Iterator[Referent]:
    """`the shape below the star`: the only one of which the relation is true, and no other relation."""
    for number, anchor in _one_each(scene):
        for relation in RELATIONS:
            held = {k: relations(one.box, anchor.box) for k, one in enumerate(scene.objects) if k != number}
            found = [k for k, names in held.items() if relation in names]
            if len(found) == 1 and held[found[0]] == (relation,) and len(scene.objects) > 2:
                where = f"to the {relation}" if relation.endswith(" of") else relation
                yield Referent(f"the shape {where} the {anchor.shape}", (found[0],))


_CORNERS = {"circle": "no corners", "triangle": "three corners", "star": "five points"}


def by_corners(scene: Scene) -> Iterator[Referent]:
    """`the shape with three corners`."""
    for number, item in _one_each(scene):
        if item.shape in _CORNERS and len(scene.objects) > 1:
            yield Referent(f"the shape with {_CORNERS[item.shape]}", (number,))
