"""How far an edited picture is from the true one: traces of what was there, everything else, and edges.

    places = shown_places(found, planned, expected, EditRules(), size)
    traces = traces_of(case.source, case.target, expected, places, after, TraceRules())
    traces.trace, traces.rest, traces.edges  # mean absolute differences in levels of 255

Belongs here: the true picture of an edit, and what differs from it. Not here: which objects a picture shows
(`edit_rules`), verdicts and scores (`edits`, `trace_scores`).

The true picture is the target, rendered. Words leave some of it free, and of that it takes what the picture
shows as far as that is right: the box of an object that words have placed, and the shade of a colour that is
new. Everything else is known to the pixel.

The trace is measured on the pixels that an object of the source touched and that no object of the true
picture comes near. Its box holds others besides, nearly half of them for a cross, which are background before
and after and would only thin the trace; they count as the rest.

Noise is left out of the true picture. Behind an object nobody has seen the grain: any is as right as another,
and so is none, which is what autoencoders make of it. On a noisy background the difference is therefore
averaged over the pixels around (within its region, so an even trace keeps its size) before its absolute
value is taken. What is left of the grain of a perfect picture is about a sixth; elsewhere nothing is
averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image
from scipy import ndimage

from got_core.evaluate.edit_rules import EditRules, Expected, found_places, place_fault
from got_core.evaluate.outside.heat import heat_map
from got_core.planning.geneval import XYXY, Detection
from got_core.scenes.render import render
from got_core.scenes.shapes import coverage
from got_core.scenes.world import RGB, Scene, SceneObject

FIGURES = ("trace", "rest", "edges")
"""Names of the figures, as columns of samples."""


@dataclass(frozen=True, kw_only=True)
class TraceRules:
    """The numbers behind the figures."""

    halo: int = 2
    """Pixels around true objects that are none an object has left: an object's edge is soft."""

    edge: int = 1
    """Pixels on either side of an object's outline that are its edge."""

    most: float = 10.0
    """Largest trace of an edit that counts as right. Ten levels over the place of an object are seen at a
    glance; the patch autoencoder alone leaves at most 8 where another shape has taken an object's place,
    1 where one was removed."""

    least: int = 16
    """Pixels that an object has left, below which there is no trace to measure."""

    grain: float = 1.5
    """Standard deviation, in pixels, of the average on noisy backgrounds."""

    shade: int = 8
    """Levels by which each channel may differ from a colour name's own value."""


@dataclass(frozen=True, kw_only=True)
class Traces:
    """Mean absolute differences from the true picture, in levels of 255."""

    trace: float | None
    """Where an object has left; None where none has: of an edit that only adds or recolours."""

    rest: float
    """Everywhere else."""

    edges: float | None
    """Of that, along the outlines of objects; None for an empty picture."""

    truth: Image.Image = field(repr=False)
    """The true picture."""

    levels: np.ndarray = field(repr=False)
    """(h, w) float32: the difference at each pixel, mean of the channels."""

    left: np.ndarray = field(repr=False)
    """(h, w) bool: where an object has left."""

    def picture(self) -> Image.Image:
        """The difference as colours over the true picture; what an object has left is framed."""
        return heat_map(self.truth, self.levels, np.zeros_like(self.left), framed=self.left)


def traces_of(
    source: Scene,
    target: Scene,
    expected: Sequence[Expected],
    places: Mapping[int, XYXY],
    after: Image.Image,
    rules: TraceRules,
) -> Traces:
    """Compare an edited RGB picture of the scene's size with the true one.

    `expected`: as `edit_rules.expected_objects` gives it for this source; `places`: boxes in pixels of those
    that words have placed, by their number, where they are known.
    """
    pixels = np.asarray(after.convert("RGB"), np.float32)
    true = true_scene(source, target, expected, places, pixels, rules)
    truth = render(true)
    difference = pixels - np.asarray(truth, np.float32)
    shown = touched(true.objects, true.size)
    left = touched(source.objects, source.size) & ~_widened(shown, rules.halo)
    edges = _widened(shown, rules.edge) & _widened(~shown, rules.edge)
    grain = rules.grain if source.background.noise else 0.0
    everywhere = np.ones_like(left)
    return Traces(
        trace=_mean(difference, left, grain) if left.sum() >= rules.least else None,
        rest=_mean(difference, everywhere & ~left, grain),
        edges=_mean(difference, edges, grain) if edges.any() else None,
        truth=truth,
        levels=_levels(difference, everywhere, grain),
        left=left,
    )


def shown_places(
    found: Sequence[Detection],
    planned: Sequence[Detection],
    expected: Sequence[Expected],
    rules: EditRules,
    size: int,
) -> dict[int, XYXY]:
    """Boxes of the objects that words have placed, by number: as found, else as planned, where that is what
    the words say. Others are left out: an object that did not move has still its old place to leave."""
    seen = found_places(found, expected, rules)
    meant = {(one.color, one.cls): one.box for one in planned}
    places = {}
    for number, one in enumerate(expected):
        if one.op is None or one.gone:
            continue
        tries = [box for box in (seen[number], meant.get(one.look)) if box]
        right = [box for box in tries if place_fault(box, one, seen, rules, size) is None]
        if right:
            places[number] = right[0]
    return places


def true_scene(
    source: Scene,
    target: Scene,
    expected: Sequence[Expected],
    places: Mapping[int, XYXY],
    pixels: np.ndarray,
    rules: TraceRules,
) -> Scene:
    """The target, without noise, with what words leave free as the picture (h, w, 3) shows it."""
    there = [number for number, one in enumerate(expected) if not one.gone]
    objects = []
    for number, item in zip(there, target.objects, strict=True):
        if expected[number].op is not None and number in places:
            item = _placed(item, places[number], target.size)
        if number >= len(source.objects) or item.rgb != source.objects[number].rgb:
            item = replace(item, rgb=_shade(item, pixels, rules.shade))
        objects.append(item)
    return replace(target, objects=tuple(objects), background=replace(target.background, noise=0.0))


def _placed(item: SceneObject, box: XYXY, size: int) -> SceneObject:
    """The object in a box, of which at least a pixel is inside the picture."""
    x1, y1 = (min(max(round(value), 0), size - 1) for value in box[:2])
    x2, y2 = (min(max(round(value), 0), size) for value in box[2:])
    return replace(item, x1=x1, y1=y1, x2=max(x2, x1 + 1), y2=max(y2, y1 + 1))


def _shade(item: SceneObject, pixels: np.ndarray, most: int) -> tuple[int, int, int]:
    """The fill nearest to what the picture shows there that is still a shade of the colour's name."""
    whole = coverage(item.shape, item.x2 - item.x1, item.y2 - item.y1) == 1
    name = np.asarray(RGB[item.color])
    seen = pixels[item.y1 : item.y2, item.x1 : item.x2][whole]
    fill = np.median(seen, axis=0) if len(seen) else name
    red, green, blue = np.clip(np.rint(np.clip(fill, name - most, name + most)), 0, 255).astype(int).tolist()
    return red, green, blue


def touched(objects: Sequence[SceneObject], size: int) -> np.ndarray:
    """(size, size) bool: the pixels that objects cover, if only in part."""
    found = np.zeros((size, size), bool)
    for one in objects:
        found[one.y1 : one.y2, one.x1 : one.x2] |= coverage(one.shape, one.x2 - one.x1, one.y2 - one.y1) > 0
    return found


def _widened(region: np.ndarray, pixels: int) -> np.ndarray:
    return ndimage.maximum_filter(region, size=2 * pixels + 1, mode="constant")  # type: ignore[no-any-return]


def _mean(difference: np.ndarray, region: np.ndarray, grain: float) -> float:
    return float(_levels(difference, region, grain)[region].mean(dtype=np.float64))


def _levels(difference: np.ndarray, region: np.ndarray, grain: float) -> np.ndarray:
    """(h, w): absolute difference, mean of the channels; with a `grain` averaged over the region first."""
    if grain:
        weight = region.astype(np.float32)[..., None]
        blur = (grain, grain, 0)
        near = ndimage.gaussian_filter(weight, blur, mode="constant")
        summed = ndimage.gaussian_filter(difference * weight, blur, mode="constant")
        difference = summed / np.maximum(near, 1e-6)
    return np.abs(difference).mean(axis=2)  # type: ignore[no-any-return]
