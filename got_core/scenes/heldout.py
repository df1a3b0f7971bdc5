"""Which combinations the corpus never shows, so that the benchmark can ask for them.

Fixed by hash: combinations are ranked by the SHA-256 of their name and the first sixth of each kind is held
out. Positions and colour pairs are ranked among the shape pairs that are not held out themselves, so that
each task asks for one new thing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, permutations
from typing import Protocol

from got_core.scenes.world import OPPOSITE, World, relations

SHARE = 1 / 6

ShapePair = tuple[str, str]
Position = tuple[str, str, str]
ColorPair = tuple[tuple[str, str], tuple[str, str]]


class Placed(Protocol):
    """What the rules need of an object: both scene objects and found objects have it."""

    @property
    def shape(self) -> str: ...
    @property
    def color(self) -> str: ...
    @property
    def box(self) -> tuple[int, int, int, int]: ...


@dataclass(frozen=True)
class HeldOut:
    """The three sets, in canonical form."""

    shape_pairs: frozenset[ShapePair]
    """Two shape names in alphabetical order."""
    positions: frozenset[Position]
    """Shape, `left of` or `above`, shape."""
    color_pairs: frozenset[ColorPair]
    """Two (colour, shape) of unlike shape and colour, ordered by shape."""


@lru_cache(maxsize=64)
def held_out(world: World) -> HeldOut:
    """The held-out combinations of a world."""
    pairs = list(combinations(sorted(world.shapes), 2))
    hidden = _first_share(pairs)
    kept = [pair for pair in pairs if pair not in hidden]
    positions = [
        (a, relation, b) for pair in kept for a, b in permutations(pair) for relation in ("left of", "above")
    ]
    colors = [
        ((color_a, a), (color_b, b))
        for a, b in kept
        for color_a, color_b in permutations(sorted(world.colors), 2)
    ]
    return HeldOut(hidden, _first_share(positions), _first_share(colors))


def _first_share(items: list) -> frozenset:
    ranked = sorted(items, key=lambda item: hashlib.sha256(repr(item).encode()).hexdigest())
    return frozenset(ranked[: round(len(ranked) * SHARE)])


def canonical_position(a: str, relation: str, b: str) -> Position:
    """The same fact in terms of `left of` or `above`."""
    return (a, relation, b) if relation in ("left of", "above") else (b, OPPOSITE[relation], a)


def canonical_colors(a: tuple[str, str], b: tuple[str, str]) -> ColorPair:
    """Two (colour, shape) ordered by shape."""
    return (a, b) if a[1] <= b[1] else (b, a)


def is_held_out(objects: Sequence[Placed], world: World) -> bool:
    """True if any two of the objects show a combination that the corpus must not contain."""
    hidden = held_out(world)
    return any(_pair_held_out(a, b, hidden) for a, b in combinations(objects, 2))


def _pair_held_out(a: Placed, b: Placed, hidden: HeldOut) -> bool:
    if a.shape == b.shape:
        return False
    first, second = sorted((a.shape, b.shape))
    if (first, second) in hidden.shape_pairs:
        return True
    if canonical_colors((a.color, a.shape), (b.color, b.shape)) in hidden.color_pairs:
        return True
    return any(
        canonical_position(a.shape, relation, b.shape) in hidden.positions
        for relation in relations(a.box, b.box)
    )
