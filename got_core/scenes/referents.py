"""Ways to point at objects of a scene without naming them: the largest, the odd one out, what is below.

Belongs here: which phrases are true of which objects, and of no others. Not here: instructions (`reasoning`).
Every phrase is unambiguous with a margin: WRITING's where it is to be said of a scene, READING's where it was
said of a picture whose boxes are a pixel off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from got_core.scenes.edits import collides
from got_core.scenes.heldout import Placed
from got_core.scenes.world import PLURALS, RELATIONS, PixelBox, Scene, iou, relations


@dataclass(frozen=True, kw_only=True)
class Margins:
    """By how much an object has to be what a phrase says."""

    side: int
    """Pixels by which sides that are compared differ; centres by twice as many."""
    covered: float
    """IoU from which an object is where a mirror shows another one."""
    touched: float
    """IoU above which an object is in the way there."""


WRITING = Margins(side=4, covered=0.5, touched=0.0)
READING = Margins(side=1, covered=0.4, touched=0.1)


@dataclass(frozen=True)
class Seen:
    """Objects of a picture, as far as phrases are about them."""

    objects: tuple[Placed, ...]
    sides: tuple[int, int]
    """Width and height of the picture in pixels."""
    margins: Margins = WRITING

    @staticmethod
    def of(scene: Scene) -> Seen:
        """What there is to be said of a scene."""
        return Seen(scene.objects, (scene.size, scene.size))


@dataclass(frozen=True)
class Referent:
    """A noun phrase, and the numbers of the objects that it is true of."""

    phrase: str
    objects: tuple[int, ...]


Finder = Callable[[Seen], Iterator[Referent]]
"""All phrases of one kind that are true of what is seen."""


def one_each(seen: Seen) -> Iterator[tuple[int, Placed]]:
    """The objects that no other has the shape of."""
    shapes = [one.shape for one in seen.objects]
    return ((k, one) for k, one in enumerate(seen.objects) if shapes.count(one.shape) == 1)


def _pairs(seen: Seen) -> Iterator[tuple[str, list[int]]]:
    """Shapes of exactly two objects, and which."""
    for shape in dict.fromkeys(one.shape for one in seen.objects):
        numbers = [k for k, one in enumerate(seen.objects) if one.shape == shape]
        if len(numbers) == 2:
            yield shape, numbers


def _extreme(numbers: Sequence[int], values: Sequence[float], margin: float) -> int | None:
    """The number whose value is the largest by a margin; None where none is."""
    order = sorted(numbers, key=lambda k: values[k])
    if len(order) < 2 or values[order[-1]] - values[order[-2]] < margin:
        return None
    return order[-1]


# ---------------------------------------------------------------- left and right, size


def far_left_or_right(seen: Seen) -> Iterator[Referent]:
    """`the leftmost shape`."""
    for phrase, sign in (("the leftmost shape", -1), ("the shape farthest to the right", 1)):
        centres = [sign * (one.box[0] + one.box[2]) / 2 for one in seen.objects]
        found = _extreme(range(len(centres)), centres, 2 * seen.margins.side)
        if found is not None:
            yield Referent(phrase, (found,))


def left_or_right_of_two(seen: Seen) -> Iterator[Referent]:
    """`the left one of the two circles`."""
    for shape, numbers in _pairs(seen):
        for side, sign in (("left", -1), ("right", 1)):
            centres = [sign * (one.box[0] + one.box[2]) / 2 for one in seen.objects]
            found = _extreme(numbers, centres, 2 * seen.margins.side)
            if found is not None:
                yield Referent(f"the {side} one of the two {PLURALS[shape]}", (found,))


def largest_or_smallest(seen: Seen) -> Iterator[Referent]:
    """`the largest shape`."""
    for phrase, sign in (("the largest shape", 1), ("the smallest shape", -1)):
        sides = [float(sign * (one.box[2] - one.box[0])) for one in seen.objects]
        found = _extreme(range(len(sides)), sides, seen.margins.side)
        if found is not None:
            yield Referent(phrase, (found,))


def larger_of_two(seen: Seen) -> Iterator[Referent]:
    """`the larger of the two circles`."""
    for shape, numbers in _pairs(seen):
        for word, sign in (("larger", 1), ("smaller", -1)):
            sides = [float(sign * (one.box[2] - one.box[0])) for one in seen.objects]
            found = _extreme(numbers, sides, seen.margins.side)
            if found is not None:
                yield Referent(f"the {word} of the two {PLURALS[shape]}", (found,))


# ---------------------------------------------------------------- mirrors

_MIRRORS = (
    ("a mirror that stands upright in the middle", (0, 2)),
    ("water that begins at the middle", (1, 3)),
)
"""What reflects, and the sides of a box that it turns about."""


def mirrored(seen: Seen) -> Iterator[Referent]:
    """`the shape where a mirror that stands upright in the middle would show the red circle`."""
    looks = [(one.color, one.shape) for one in seen.objects]
    for mirror, sides in _MIRRORS:
        for item, look in zip(seen.objects, looks, strict=True):
            image = mirror_box(item.box, sides, seen.sides[sides[0]])
            overlaps = [iou(image, one.box) for one in seen.objects]
            there = [k for k, overlap in enumerate(overlaps) if overlap > seen.margins.touched]
            if len(there) != 1 or overlaps[there[0]] < seen.margins.covered or looks.count(look) > 1:
                continue
            if seen.objects[there[0]] is not item:
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


# ---------------------------------------------------------------- colours


def not_that_color(seen: Seen) -> Iterator[Referent]:
    """`the only shape that is not red`, of three or more."""
    colors = [one.color for one in seen.objects]
    for color in dict.fromkeys(colors):
        others = tuple(k for k, one in enumerate(colors) if one != color)
        if len(others) == 1 and len(colors) > 2:
            yield Referent(f"the only shape that is not {color}", others)


def of_that_color(seen: Seen) -> Iterator[Referent]:
    """`the red one`, of two or more."""
    colors = [one.color for one in seen.objects]
    for number, color in enumerate(colors):
        if colors.count(color) == 1 and len(colors) > 1:
            yield Referent(f"the {color} one", (number,))


def of_same_color(seen: Seen) -> Iterator[Referent]:
    """`the shape that has the colour of the star`."""
    colors = [one.color for one in seen.objects]
    for number, item in one_each(seen):
        alike = tuple(k for k, one in enumerate(colors) if one == item.color and k != number)
        if len(alike) == 1 and len(colors) > 2:
            yield Referent(f"the other shape that has the colour of the {item.shape}", alike)


# ---------------------------------------------------------------- several objects


def all_of_shape(seen: Seen) -> Iterator[Referent]:
    """`both circles`, `all circles`."""
    for shape in dict.fromkeys(one.shape for one in seen.objects):
        numbers = tuple(k for k, one in enumerate(seen.objects) if one.shape == shape)
        yield from _several(f"{_all(numbers)} {PLURALS[shape]}", numbers, seen)


def all_of_color(seen: Seen) -> Iterator[Referent]:
    """`both red shapes`, `all red shapes`."""
    for color in dict.fromkeys(one.color for one in seen.objects):
        numbers = tuple(k for k, one in enumerate(seen.objects) if one.color == color)
        yield from _several(f"{_all(numbers)} {color} shapes", numbers, seen)


def all_but_one(seen: Seen) -> Iterator[Referent]:
    """`everything except the star`."""
    for number, item in one_each(seen):
        others = tuple(k for k in range(len(seen.objects)) if k != number)
        yield from _several(f"everything except the {item.shape}", others, seen)


def _all(numbers: Sequence[int]) -> str:
    return "both" if len(numbers) == 2 else "all"


def _several(phrase: str, numbers: tuple[int, ...], seen: Seen) -> Iterator[Referent]:
    if 1 < len(numbers) < len(seen.objects):
        yield Referent(phrase, numbers)


# ---------------------------------------------------------------- reasoning


def odd_one_out(seen: Seen) -> Iterator[Referent]:
    """`the odd one out`: alone in its shape among three or more that share theirs, where no colour is odd."""
    shapes, colors = ([getattr(one, name) for one in seen.objects] for name in ("shape", "color"))
    odd = [_odd(names) for names in (shapes, colors)]
    numbers = {number for number in odd if number is not None}
    if len(numbers) == 1 and odd[0] is not None:
        yield Referent("the shape that does not belong with the others", (odd[0],))


def _odd(names: Sequence[str]) -> int | None:
    alone = [k for k, name in enumerate(names) if names.count(name) == 1]
    return alone[0] if len(alone) == 1 and len(set(names)) == 2 and len(names) > 2 else None


def related(seen: Seen) -> Iterator[Referent]:
    """`the shape below the star`: the only one of which the relation is true, and no other relation."""
    for number, anchor in one_each(seen):
        for relation in RELATIONS:
            held = {k: relations(one.box, anchor.box) for k, one in enumerate(seen.objects) if k != number}
            found = [k for k, names in held.items() if relation in names]
            if len(found) == 1 and held[found[0]] == (relation,) and len(seen.objects) > 2:
                where = f"to the {relation}" if relation.endswith(" of") else relation
                yield Referent(f"the shape {where} the {anchor.shape}", (found[0],))


_CORNERS = {"circle": "no corners", "triangle": "three corners", "star": "five points"}


def by_corners(seen: Seen) -> Iterator[Referent]:
    """`the shape with three corners`."""
    for number, item in one_each(seen):
        if item.shape in _CORNERS and len(seen.objects) > 1:
            yield Referent(f"the shape with {_CORNERS[item.shape]}", (number,))


SINGLE: tuple[Finder, ...] = (
    far_left_or_right,
    left_or_right_of_two,
    largest_or_smallest,
    larger_of_two,
    mirrored,
    not_that_color,
    of_that_color,
    of_same_color,
    odd_one_out,
    related,
    by_corners,
)
"""All finders of phrases that are true of one object."""
SEVERAL: tuple[Finder, ...] = (all_of_shape, all_of_color, all_but_one)
"""All finders of phrases that are true of several objects."""
WORDS = (
    " the leftmost shape farthest to right left one of two largest smallest larger smaller",
    *(f" {name}" for name in PLURALS.values()),
    " where would show the only that is not has other with does belong others",
    *(f" {mirror}" for mirror, _ in _MIRRORS),
    *(f" {corners}" for corners in _CORNERS.values()),
    *(f" {relation}" for relation in RELATIONS),
    " have colour",
)
"""Texts with all words of the phrases of SINGLE, but names of colours and shapes."""


def pointed_out(seen: Seen) -> list[Referent]:
    """All phrases that are true of one object each."""
    return [one for finder in SINGLE for one in finder(seen)]
