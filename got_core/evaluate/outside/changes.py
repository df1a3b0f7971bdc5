"""Two pictures compared outside a region.

    change = outside_change(source, edited, boxes=[(10, 20, 60, 90)])
    change.mean_levels, change.share_changed, change.psnr, change.ssim
    change.heat().save("heat.png")

Belongs here: figures of one pair. Not here: where the region comes from (`regions`, `rows`), or means over
pairs (`rows`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from got_core.chain.grammar import Chain
from got_core.evaluate.emu_edit.metrics import same_size
from got_core.evaluate.outside import likeness, regions
from got_core.evaluate.outside.heat import heat_map
from got_core.evaluate.outside.regions import Box

VERSION = 1
"""Raise when the same pictures and regions give other figures."""


@dataclass(frozen=True, kw_only=True)
class OutsideRules:
    """The numbers behind the figures."""

    margin: float = 1 / 64
    """Of the longer side: how far around its region an edit may change the picture. 8 pixels of 512, which an
    autoencoder has for one of its own."""

    changed_above: int = 25
    """A pixel has changed where a channel differs by more than this many levels of 255."""

    most_pixels: int = 1 << 20
    """Larger pictures are compared at this size."""

    least_outside: float = 0.01
    """Share of the picture that has to lie outside, or there is no figure."""

    def record(self) -> dict[str, Any]:
        """All of it, and how sizes are made equal, as plain JSON."""
        return {
            **asdict(self),
            "size": "the edited picture to the source's, bicubic; both to most_pixels, bicubic, where larger",
            "ssim": {**likeness.RECORD, "border": "windows outside the region only"},
            "psnr": "over the pixels outside",
        }


RULES = OutsideRules()


class NothingOutsideError(ValueError):
    """A region that covers the picture."""


@dataclass(frozen=True, kw_only=True)
class Outside:
    """What changed outside a region."""

    mean_levels: float
    """Mean absolute difference in levels of 255."""

    share_changed: float
    """Of the pixels outside, those that have changed (`OutsideRules.changed_above`)."""

    psnr: float | None
    """In dB; None where nothing has changed."""

    ssim: float | None
    """Mean over the places whose window lies outside as a whole; None without any."""

    area: float
    """Share of the picture that lies outside."""

    inside_levels: float | None
    """The mean difference within the region; None for an empty one."""

    resized: bool
    """Whether the edited picture had another size than its source."""

    source: Image.Image = field(repr=False)
    levels: np.ndarray = field(repr=False)
    """(h, w) float32: the difference at each pixel, mean of the channels."""

    inside: np.ndarray = field(repr=False)
    """(h, w) bool: the region with its margin."""

    @property
    def unchanged(self) -> bool:
        """Whether no pixel outside differs at all."""
        return self.psnr is None

    def heat(self) -> Image.Image:
        """The change as colours over the grey source, the region left grey."""
        return heat_map(self.source, self.levels, self.inside)


def outside_change(
    source: Image.Image,
    edited: Image.Image,
    *,
    boxes: Iterable[Box] | None = None,
    chain: Chain | None = None,
    mask: np.ndarray | None = None,
    margin: int | None = None,
    rules: OutsideRules = RULES,
) -> Outside:
    """Compare RGB pictures outside a region: `boxes` in pixels of the source, a plan's boxes (`chain`), or a
    `mask`, bool of any size, true where the edit belongs. What is given counts together.

    `margin`: in pixels of the source in place of the rules'. Raises NothingOutsideError where less than
    `rules.least_outside` of the picture lies outside, ValueError where no region is given.
    """
    if boxes is None and chain is None and mask is None:
        raise ValueError("outside of what? give boxes, a chain or a mask")
    old, new = _at_one_size(source, edited, rules)
    inside = _region(source.size, old.size, boxes, chain, mask, margin, rules)
    if (area := float((~inside).mean())) < rules.least_outside:
        raise NothingOutsideError(f"all but {area:.1%} of the picture lies inside the region")
    return _compared(old, new, inside, area, source.size != edited.size, rules)


def _at_one_size(
    source: Image.Image, edited: Image.Image, rules: OutsideRules
) -> tuple[Image.Image, Image.Image]:
    width, height = source.size
    if (many := width * height / rules.most_pixels) > 1:
        shrunk = (max(int(width / math.sqrt(many)), 1), max(int(height / math.sqrt(many)), 1))
        source = source.resize(shrunk, Image.Resampling.BICUBIC)
    return source, same_size(edited, source)


def _region(
    full: tuple[int, int],
    size: tuple[int, int],
    boxes: Iterable[Box] | None,
    chain: Chain | None,
    mask: np.ndarray | None,
    margin: int | None,
    rules: OutsideRules,
) -> np.ndarray:
    width, height = size
    scale = width / full[0], height / full[1]
    around = round(rules.margin * max(size)) if margin is None else round(margin * scale[0])
    inside = np.zeros((height, width), bool)
    if boxes is not None:
        scaled = [(x1 * scale[0], y1 * scale[1], x2 * scale[0], y2 * scale[1]) for x1, y1, x2, y2 in boxes]
        inside |= regions.of_boxes(scaled, height, width, around)
    if chain is not None:
        inside |= regions.of_chain(chain, height, width, around)
    if mask is not None:
        inside |= regions.widened(regions.resized(mask, size), around)
    return inside


def _compared(
    old: Image.Image,
    new: Image.Image,
    inside: np.ndarray,
    area: float,
    resized: bool,
    rules: OutsideRules,
) -> Outside:
    left, right, outside = np.asarray(old, np.int16), np.asarray(new, np.int16), ~inside
    difference = np.abs(right - left)
    levels = difference.mean(axis=2, dtype=np.float32)
    error = float(np.square(difference[outside], dtype=np.int32).mean()) / 255**2
    return Outside(
        mean_levels=float(levels[outside].mean(dtype=np.float64)),
        share_changed=float((difference.max(axis=2)[outside] > rules.changed_above).mean()),
        psnr=likeness.psnr(error),
        ssim=_ssim(left, right, inside) if error else _whole(inside),
        area=area,
        inside_levels=float(levels[inside].mean(dtype=np.float64)) if inside.any() else None,
        resized=resized,
        source=old,
        levels=levels,
        inside=inside,
    )


def _places(inside: np.ndarray) -> np.ndarray:
    """Which places of an SSIM map have a window without a pixel of the region."""
    reach = likeness.REACH
    return ~regions.widened(inside, reach)[reach:-reach, reach:-reach]


def _whole(inside: np.ndarray) -> float | None:
    """The SSIM of equal pictures, where there is one."""
    return 1.0 if min(inside.shape) >= likeness.WINDOW and _places(inside).any() else None


def _ssim(left: np.ndarray, right: np.ndarray, inside: np.ndarray) -> float | None:
    found = likeness.ssim_map(left / 255, right / 255)
    places = _places(inside) if found.size else np.zeros(found.shape, bool)
    return float(found[places].mean()) if places.any() else None
