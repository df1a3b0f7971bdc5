"""Pictures that a training draws of itself on the way, for people to look at.

Belongs here: which prompts, and the grid. Not here: when it is drawn (``stages``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from PIL import Image

from got_core.figures.grids import GridItem, picture_grid
from got_core.model.finite import NotFiniteError
from got_core.model.pipeline import GoTPipeline
from got_core.train.config import SAMPLE_PICTURES
from got_core.train.data.samples import step_generator
from got_core.train.trainer import Trainer


def sample_grid(trainer: Trainer, report: Callable[[str], None]) -> Image.Image | None:
    """A grid of text-to-image samples for fixed prompts of the manifest, planned boxes drawn on.

    Pictures that hold NaN or infinity are marked in it and counted to ``report``. All ranks call it; rank 0
    draws, the others get None.
    """
    with trainer.averaged() as pipeline:
        if pipeline is None:
            return None
        data = trainer.data
        rng = step_generator(trainer.config.seed, 9)
        prompts = data.prompts(rng, "t2i", min(SAMPLE_PICTURES, len(data)), trainer.step)
        generator = torch.Generator().manual_seed(trainer.config.seed)
        at_once = trainer.config.samples_at_once
        batches = [prompts[start : start + at_once] for start in range(0, len(prompts), at_once)]
        items = [item for batch in batches for item in _drawn(pipeline, batch, generator)]
    failed = sum(bool(item.note) for item in items)
    if failed:
        report(f"{failed} of {len(items)} sample pictures hold NaN or infinity: the weights or the data do")
    return picture_grid(items)


def _drawn(pipeline: GoTPipeline, prompts: list[str], generator: torch.Generator) -> list[GridItem]:
    """A picture of each prompt with its planned boxes; an empty one, marked as wrong, where it failed."""
    chains = pipeline.plan(prompts)
    try:
        images = list(pipeline.draw(chains, prompts, generator=generator))
    except NotFiniteError as error:
        images = error.images
    empty = Image.new("RGB", (pipeline.config.resolution,) * 2)
    items = []
    for prompt, image, chain in zip(prompts, images, chains, strict=True):
        boxes = tuple((placed.box.to_pixels(1, 1), placed.color) for placed in chain.boxes)
        item = GridItem(image or empty, prompt, boxes)
        items.append(item if image else replace(item, correct=False, note="not drawn: NaN or infinity"))
    return items
