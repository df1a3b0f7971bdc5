"""Reads a scene back from its pixels: shapes, colours, boxes, masks, background tone.

It sees pixels only, never the renderer's truth. Steps: fit the background as a plane in colour, take what
differs from it, split touching objects of unlike colours, then fit every shape's outline to each piece. A
picture that this does not explain is refused with NotASceneError.

Belongs here: background, pieces, and what counts as a scene. Not here: comparing colours (`colours`), fitting
outlines (`outlines`), or captions and prompts of what was read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image
from scipy import ndimage

from got_core.pictures.colours import to_rgb
from got_core.scenes.colours import PALETTE, lab, length, nearest_color, palette, summed
from got_core.scenes.config import DEFAULT_READER, ReaderConfig
from got_core.scenes.outlines import fit_outline
from got_core.scenes.world import TONES, PixelBox

Picture = Image.Image | np.ndarray


class NotASceneError(ValueError):
    """The picture is not a scene of plain shapes on a plain background."""


@dataclass(frozen=True, eq=False)
class FoundObject:
    """One object read from pixels."""

    shape: str
    color: str
    box: PixelBox
    """x1, y1, x2, y2 in pixels of the picture given, exclusive."""
    score: float
    """0..1: how well outline and colour fit the names; near 1 for a clean object."""
    mask: np.ndarray
    """bool (height, width) of the picture."""
    rgb: tuple[int, int, int]
    """Median fill."""


@dataclass(frozen=True, eq=False)
class Reading:
    """A whole scene read from pixels."""

    objects: tuple[FoundObject, ...]
    """Ordered by the box's left edge, then its top edge."""
    background: str
    """white, grey or black."""
    residual: float
    """Mean absolute difference, in levels, between the picture and what was read, fine noise averaged out."""


def read_scene(
    image: Picture, *, strict: bool = True, config: ReaderConfig = DEFAULT_READER
) -> list[FoundObject]:
    """The objects of a picture, left to right. See `read` for arguments and errors."""
    return list(read(image, strict=strict, config=config).objects)


def read(image: Picture, *, strict: bool = True, config: ReaderConfig = DEFAULT_READER) -> Reading:
    """Objects and background of a picture: PIL image of any mode, or uint8 (H, W, 3).

    With `strict` raises NotASceneError, naming the reason, for what is no scene; a blank plain picture is a
    scene without objects. Without `strict` (a detector's use, on drawn pictures) what fits badly is kept
    with a low score, and a picture without a plain background reads as no objects.
    """
    pixels, scale = _pixels(image, config)
    try:
        reading, shortfall = _read_pixels(pixels, config)
    except NotASceneError:
        if strict:
            raise
        return Reading((), "grey", 255.0)
    if strict and shortfall:
        raise NotASceneError(shortfall)
    return reading if scale is None else _rescaled(reading, scale)


def _pixels(image: Picture, config: ReaderConfig) -> tuple[np.ndarray, tuple[int, int] | None]:
    """Float RGB (H, W, 3) at most work_side wide, and the original (width, height) if it was reduced."""
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"need a uint8 array (H, W, 3), got {image.dtype} {image.shape}")
        image = Image.fromarray(image)
    image = to_rgb(image)
    if min(image.size) < 16:
        raise NotASceneError(f"{image.width}x{image.height} px is too small to read")
    if max(image.size) <= config.work_side:
        return np.asarray(image, dtype=np.float32), None
    factor = config.work_side / max(image.size)
    small = image.resize(
        (max(16, round(image.width * factor)), max(16, round(image.height * factor))), Image.Resampling.BOX
    )
    return np.asarray(small, dtype=np.float32), image.size


def _read_pixels(pixels: np.ndarray, config: ReaderConfig) -> tuple[Reading, str | None]:
    background = _fit_background(pixels, config)
    pieces = _pieces(pixels, background, _foreground(pixels, background, config), config)
    canvas = background.copy()
    found, fits = [], [1.0]
    for piece in pieces:
        item, alpha, fit = _identify(pixels, background, piece, pieces, config)
        canvas += alpha[..., None] * (np.asarray(item.rgb, dtype=np.float32) - canvas)
        found.append(item)
        fits.append(fit)
    # smoothed: noise of the grain that scenes have averages out, structure that was not read stays
    residual = float(np.abs(_smoothed(pixels - canvas)).mean())
    found.sort(key=lambda item: (item.box[0], item.box[1]))
    reading = Reading(tuple(found), _tone(background), residual)
    return reading, _shortfall(reading, min(fits), config)


def _foreground(pixels: np.ndarray, background: np.ndarray, config: ReaderConfig) -> np.ndarray:
    """What differs from the background, without the halo that blur lays around objects of strong contrast."""
    step = length(pixels - background)
    found = step > 0.3 * ndimage.maximum_filter(step, 5)
    # colours are compared where it matters: they take most of the time, and a plain background is most of it
    found &= (np.rint(pixels) != np.rint(background)).any(axis=2)
    found[found] = length(lab(pixels[found]) - lab(background[found])) > config.contrast
    return found


def _smoothed(difference: np.ndarray) -> np.ndarray:
    """A Gaussian filter of 1.5 pixels over height and width."""
    down, across = (_smoothing(side) for side in difference.shape[:2])
    return down @ np.moveaxis(difference, 2, 0) @ across.T


@lru_cache(maxsize=16)
def _smoothing(side: int) -> np.ndarray:
    """The same filter along one axis of so many pixels, as a matrix."""
    return ndimage.gaussian_filter1d(np.eye(side, dtype=np.float32), 1.5, axis=0)


def _shortfall(reading: Reading, worst_fit: float, config: ReaderConfig) -> str | None:
    """Why the reading does not explain the picture, or None."""
    if worst_fit < config.min_fit:
        return f"not a scene: a region fits none of the shapes (overlap {worst_fit:.2f})"
    for item in reading.objects:
        distance = float(np.linalg.norm(lab(np.asarray(item.rgb)) - PALETTE[item.color]))
        if distance > config.max_color_distance:
            return f"not a scene: the colour {item.rgb} is none of the named ones (nearest {item.color})"
    if reading.residual > config.max_residual:
        return f"not a scene: plain shapes leave {reading.residual:.1f} levels of the picture unexplained"
    return None


# ---------------------------------------------------------------- background


def _fit_background(pixels: np.ndarray, config: ReaderConfig) -> np.ndarray:
    """A plane in every channel through the border, robust to objects that touch it; float (H, W, 3)."""
    design, ring = _plane_of(*pixels.shape[:2])
    points, values = design[ring], pixels[ring]
    keep = np.abs(values - _median(values)).max(axis=1) < 40
    if keep.mean() < 0.5:
        raise NotASceneError("not a scene: the border is no plain background")
    for _ in range(3):
        plane = np.linalg.lstsq(points[keep], values[keep], rcond=None)[0]
        off = np.abs(values - points @ plane).mean(axis=1)
        before, keep = keep, off < max(12.0, 3 * float(np.median(off)))
        if np.array_equal(before, keep):
            break
    outliers = float((off > 24).mean())
    if outliers > config.max_border_outliers or float(np.median(off)) > 14:
        raise NotASceneError(f"not a scene: {outliers:.0%} of the border is off a plain background")
    background = design @ plane
    chroma = float(np.linalg.norm(lab(background.mean(axis=(0, 1)))[1:]))
    if chroma > config.max_background_chroma:
        raise NotASceneError(f"not a scene: the background is coloured (chroma {chroma:.0f})")
    return background


@lru_cache(maxsize=16)
def _plane_of(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """1, x and y in -0.5..0.5 of every pixel (H, W, 3), and which pixels are the border (bool, (H, W))."""
    yy, xx = np.mgrid[-0.5 : 0.5 : height * 1j, -0.5 : 0.5 : width * 1j]
    design = np.stack([np.ones_like(xx), xx, yy], axis=-1).astype(np.float32)
    ring = np.ones((height, width), dtype=bool)
    ring[2:-2, 2:-2] = False
    return design, ring


def _median(values: np.ndarray) -> np.ndarray:
    """Along the first axis; as np.median, which is slow for few values."""
    ordered, middle = np.sort(values, axis=0), len(values) // 2
    return ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _tone(background: np.ndarray) -> str:
    level = float(background.mean())
    return min(TONES, key=lambda name: abs(TONES[name] - level))


# ---------------------------------------------------------------- pieces


def _pieces(
    pixels: np.ndarray, background: np.ndarray, foreground: np.ndarray, config: ReaderConfig
) -> list[np.ndarray]:
    """Bool masks (H, W), one an object."""
    least = config.min_area * max(1.0, foreground.size / 64**2)
    parts: list[np.ndarray] = []
    for region in _components(foreground, least, config):
        for part in _split_by_color(pixels, region, least, config):
            parts += _split_by_dip(pixels, background, part, least)
    if len(parts) > config.max_objects:
        raise NotASceneError(f"not a scene: {len(parts)} separate regions of colour")
    return parts


def _components(foreground: np.ndarray, least: float, config: ReaderConfig) -> list[np.ndarray]:
    labels, count = ndimage.label(foreground)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    wanted = [k for k in range(1, count + 1) if areas[k] >= least]
    if len(wanted) > config.max_objects:
        raise NotASceneError(f"not a scene: {len(wanted)} separate regions")
    return [labels == k for k in wanted]


def _split_by_color(
    pixels: np.ndarray, piece: np.ndarray, least: float, config: ReaderConfig
) -> list[np.ndarray]:
    """The piece, or its parts of unlike colours where two objects touch."""
    window = _window(piece)
    core = _core(piece[window])
    values = lab(pixels[window][core])
    spread = length(values - _median(values))
    if np.mean(spread > config.split_spread) < 0.08:
        return [piece]
    nearest = np.full(core.shape, -1)
    nearest[core] = length(values[:, None] - palette(config.colors)).argmin(axis=1)
    seeds, number = np.zeros(piece.shape, dtype=int), 0
    for color in np.unique(nearest[core]):
        labels, count = ndimage.label(nearest == color)
        for k in range(1, count + 1):
            part = labels == k
            # a rim of mixed colours is thin: it does not survive an erosion
            if part.sum() >= least / 2 and ndimage.binary_erosion(part).sum() >= 4:
                number += 1
                seeds[window][part] = number
    return _grown(piece, seeds, number)


def _split_by_dip(
    pixels: np.ndarray, background: np.ndarray, piece: np.ndarray, least: float
) -> list[np.ndarray]:
    """The piece, or its parts where blur has filled less than half of the gap between two objects."""
    window = _window(piece)
    inside = piece[window]
    fill = _median(pixels[window][_core(inside)])
    labels, count = ndimage.label(_coverage_of(pixels[window], background[window], fill, inside) > 0.5)
    if count < 2:
        return [piece]
    seeds, number = np.zeros(piece.shape, dtype=int), 0
    for k in range(1, count + 1):
        part = labels == k
        if part.sum() >= least:
            number += 1
            seeds[window][part] = number
    return _grown(piece, seeds, number)


def _grown(piece: np.ndarray, seeds: np.ndarray, number: int) -> list[np.ndarray]:
    """The piece cut into the pixels nearest to each seed 1..number."""
    if number < 2:
        return [piece]
    rows, columns = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    owner = seeds[rows, columns]
    return [piece & (owner == k) for k in range(1, number + 1)]


def _core(piece: np.ndarray) -> np.ndarray:
    """The piece without its mixed edge pixels, or the piece if nothing else is left."""
    inner = np.zeros_like(piece)
    rows = piece[:-2] & piece[1:-1] & piece[2:]
    inner[1:-1, 1:-1] = rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]
    return inner if inner.sum() >= 6 else piece


def _dilated(piece: np.ndarray) -> np.ndarray:
    """The piece and the pixels beside, above and below it."""
    wider = piece.copy()
    wider[1:] |= piece[:-1]
    wider[:-1] |= piece[1:]
    wider[:, 1:] |= piece[:, :-1]
    wider[:, :-1] |= piece[:, 1:]
    return wider


def _window(piece: np.ndarray, margin: int = 0) -> tuple[slice, slice]:
    """Rows and columns of a piece, and so many around: work on a small part of the picture is quick."""
    rows, columns = np.flatnonzero(piece.any(axis=1)), np.flatnonzero(piece.any(axis=0))
    return (
        slice(max(rows[0] - margin, 0), rows[-1] + 1 + margin),
        slice(max(columns[0] - margin, 0), columns[-1] + 1 + margin),
    )


# ---------------------------------------------------------------- what a piece is


def _identify(
    pixels: np.ndarray,
    background: np.ndarray,
    piece: np.ndarray,
    pieces: list[np.ndarray],
    config: ReaderConfig,
) -> tuple[FoundObject, np.ndarray, float]:
    """The object, its coverage (H, W) and the overlap 0..1 with its outline."""
    window = _window(piece, margin=2)
    near = pixels[window]
    fill = _median(near[_core(piece[window])])
    reach = _dilated(_dilated(piece[window]))
    for other in pieces:
        if other is not piece:
            reach &= ~other[window]
    alpha = np.zeros(piece.shape, dtype=np.float32)
    alpha[window] = _coverage_of(near, background[window], fill, reach)
    shape, box, fit = fit_outline(alpha, config.shapes)
    color, certainty = nearest_color(lab(fill), config.colors)
    # .95: what a small object keeps after blur and noise
    score = float(np.clip((fit - 0.6) / 0.35, 0, 1) * np.sqrt(certainty))
    rgb = tuple(round(float(v)) for v in fill)
    return FoundObject(shape, color, box, score, alpha > 0.5, rgb), alpha, fit  # type: ignore[arg-type]


def _coverage_of(
    pixels: np.ndarray, background: np.ndarray, fill: np.ndarray, reach: np.ndarray
) -> np.ndarray:
    """How far every pixel is on the way from background to fill, 0..1."""
    toward = fill - background
    share = summed((pixels - background) * toward) / np.maximum(summed(toward**2), 1.0)
    return np.where(reach, np.clip(share, 0, 1), 0).astype(np.float32)


def _rescaled(reading: Reading, size: tuple[int, int]) -> Reading:
    """The reading in pixels of the original picture of (width, height)."""
    objects = []
    for item in reading.objects:
        mask = np.asarray(Image.fromarray(item.mask).resize(size, Image.Resampling.NEAREST))
        fx, fy = size[0] / item.mask.shape[1], size[1] / item.mask.shape[0]
        x1, y1, x2, y2 = item.box
        objects.append(
            replace(item, box=(round(x1 * fx), round(y1 * fy), round(x2 * fx), round(y2 * fy)), mask=mask)
        )
    return replace(reading, objects=tuple(objects))
