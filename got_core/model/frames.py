"""The sizes that a pipeline draws in: its square, the caller's, or of an edit the bucket of its source.

Belongs here: which size, how a source becomes one of it, and pictures of several sizes in one call. Not here:
which buckets there are (`buckets`), and the drawing (`pipeline`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from PIL import Image

from got_core.model.buckets import bucket_sizes, nearest_bucket
from got_core.model.finite import NotFiniteError
from got_core.model.options import DrawingOptions
from got_core.pictures.colours import to_rgb

Frame: TypeAlias = tuple[int, int]
"""Height and width in pixels."""
Draw: TypeAlias = Callable[[Frame, list[int], DrawingOptions], Any]
"""Draws the prompts of these numbers in one frame."""


def frames_of(
    config: Any, count: int, sources: Sequence[Image.Image] | None, options: DrawingOptions
) -> list[Frame]:
    """The frame of each of ``count`` prompts, by a pipeline's configuration.

    A source whose model draws in buckets has the one of the nearest aspect, unless a size was asked for.
    """
    if sources is None or options.has_size or config.edit_bucket_multiple is None:
        return [options.size(int(config.resolution))] * count
    return [_frame(config, source) for source in sources]


def _frame(config: Any, source: Image.Image) -> Frame:
    sizes = bucket_sizes(int(config.resolution), int(config.edit_bucket_multiple))
    width, height = sizes[nearest_bucket(source.size, sizes)]
    return height, width


def fitted(source: Image.Image, frame: Frame) -> Image.Image:
    """The whole source in RGB, stretched to a frame, as in training and in the released code."""
    height, width = frame
    return to_rgb(source).resize((width, height), Image.Resampling.BICUBIC)


def shown_to_planner(config: Any, sources: Sequence[Image.Image] | None) -> Sequence[Image.Image] | None:
    """The sources as the planner is given them.

    A model trained in buckets has only ever been shown sources that were resized to them.
    """
    if sources is None or config.edit_bucket_multiple is None:
        return sources
    return [fitted(source, _frame(config, source)) for source in sources]


def check_frames(frames: Sequence[Frame], options: DrawingOptions) -> None:
    """Raise ValueError where pictures of several sizes are wanted as one tensor, or from one."""
    sizes = sorted({f"{width}x{height}" for height, width in frames})
    if len(sizes) > 1 and (options.output_type != "pil" or options.latents is not None):
        what = "`latents`" if options.latents is not None else f"`output_type` {options.output_type!r}"
        raise ValueError(
            f"the sources' aspects call for pictures of {', '.join(sizes)}, and {what} is one tensor: pass "
            "`height` and `width`, or pictures of one aspect a call"
        )


def draw_by_frame(frames: Sequence[Frame], options: DrawingOptions, draw: Draw) -> Any:
    """Draw all prompts, those of one frame together, and return the pictures in the prompts' order.

    One generator for all goes from frame to frame, in the order in which these first appear. Raises
    NotFiniteError, with all other pictures, for those that failed.
    """
    groups: dict[Frame, list[int]] = {}
    for number, frame in enumerate(frames):
        groups.setdefault(frame, []).append(number)
    if len(groups) == 1:
        return draw(frames[0], list(range(len(frames))), options)
    copies = options.num_images_per_prompt
    images: list[Any] = [None] * (len(frames) * copies)
    reasons: dict[int, str] = {}
    for frame, numbers in groups.items():
        places = [number * copies + copy for number in numbers for copy in range(copies)]
        try:
            made = draw(frame, numbers, options.of_pictures(places))
        except NotFiniteError as error:
            made = error.images
            reasons |= {places[number]: reason for number, reason in error.reasons.items()}
        for place, image in zip(places, made, strict=True):
            images[place] = image
    if reasons:
        raise NotFiniteError(reasons, images)
    return images
