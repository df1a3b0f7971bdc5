"""Pictures that a training draws of itself on the way, for people to look at.

Belongs here: which prompts, and the grid. Not here: when it is drawn (``stages``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from PIL import Image

from got_core.figures.grids import GridItem, picture_grid
from got_core.model.finite import NotFiniteError
from got_core.model.pipeline import GoTPipeline
from got_core.train import parallel
from got_core.train.config import SAMPLE_PICTURES
from got_core.train.data.samples import noise_seed, step_generator
from got_core.train.optim import mixed_precision
from got_core.train.trainer import Trainer


def sample_grid(trainer: Trainer, report: Callable[[str], None]) -> Image.Image | None:
    """A grid of text-to-image samples for fixed prompts of the manifest, planned boxes drawn on.

    Pictures that hold NaN or infinity are marked in it and counted to ``report``. All ranks call it, and get
    None but rank 0. Each rank draws its share where all hold the whole model; of a spread one, rank 0 has the
    only whole copy and draws all: ranks that write plans of different lengths cannot gather layers together.
    They compute as training does, in mixed precision. The noise of a picture follows from its number.
    """
    config, data = trainer.config, trainer.data
    rng = step_generator(config.seed, 9)
    prompts = data.prompts(rng, "t2i", min(SAMPLE_PICTURES, len(data)), trainer.step)
    spread = config.sharding == "fsdp"
    numbers = range(len(prompts)) if spread else range(trainer.rank, len(prompts), trainer.ranks)
    own: list[tuple[int, GridItem]] = []
    with trainer.averaged(everywhere=True) as pipeline:
        if pipeline is not None:
            own = _shares(trainer, pipeline, prompts, list(numbers))
    found = parallel.gathered(own, 1 if spread else trainer.ranks)
    if trainer.rank != 0:
        return None
    items = [item for _, item in sorted((one for some in found for one in some), key=lambda one: one[0])]
    failed = sum(bool(item.note) for item in items)
    if failed:
        report(f"{failed} of {len(items)} sample pictures hold NaN or infinity: the weights or the data do")
    return picture_grid(items)


def _shares(
    trainer: Trainer, pipeline: GoTPipeline, prompts: Sequence[str], numbers: Sequence[int]
) -> list[tuple[int, GridItem]]:
    """The pictures of these numbers, each with its number."""
    config, at_once = trainer.config, trainer.config.samples_at_once
    own: list[tuple[int, GridItem]] = []
    for start in range(0, len(numbers), at_once):
        few = numbers[start : start + at_once]
        noise = [torch.Generator().manual_seed(noise_seed(config.seed, number)) for number in few]
        with mixed_precision(trainer.device.type, config.bf16):
            items = _drawn(pipeline, [prompts[number] for number in few], noise)
        own += zip(few, items, strict=True)
    return own


def _drawn(pipeline: GoTPipeline, prompts: list[str], generator: list[torch.Generator]) -> list[GridItem]:
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
