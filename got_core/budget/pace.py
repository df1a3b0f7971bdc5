"""How fast this machine is at a recipe's work: a few seconds of the work itself.

Belongs here: real passes of the recipe's model, and real pictures of its corpus, timed. Not here: how much of
it a run has, and what else it does (the graph's estimate); operations counted as shapes (``measure``).
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor

from got_core.budget.config import BudgetConfig
from got_core.budget.measure import KINDS, training_batch, way_of_computing
from got_core.model.build import fresh_pipeline
from got_core.model.config import ModelConfig
from got_core.model.got import GoTModel
from got_core.model.pipeline import GoTPipeline
from got_core.model.tokens import train_tokenizer
from got_core.recipes.recipe import Recipe
from got_core.scenes.corpus import samples_of
from got_core.scenes.reader import read
from got_core.train.mixture import group_kind
from got_core.train.optim import mixed_precision
from got_core.train.prepare import prepare_parts
from got_core.train.stage import Stage

RENDERED, READ = "picture rendered", "picture read"
SAMPLES = 24
"""Pictures, and pairs, of the corpus that are rendered and read."""
PASSES = 2
"""Passes of which the quicker one counts, after one that is not timed."""


def pace(recipe: Recipe) -> dict[str, float]:
    """Processor seconds: of a rendered and of a read picture, and by stage of a step of one worker.

    A step is the passes of a worker's share forward and backward, text to image and edits as the stage mixes
    them, in 32 bits unless the recipe and the processor have fewer. Draws from torch's generator and leaves
    its state as it was.
    """
    found, kinds = pictures_pace(recipe), dict[object, dict[str, float]]()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            for stage in recipe.stages:
                way = way_of_computing(stage)
                if way not in kinds:
                    kinds[way] = _pass_seconds(recipe.model, stage)
                found[stage.asset] = _step_seconds(stage, kinds[way])
    finally:
        torch.set_num_threads(threads)
    return found


def pictures_pace(recipe: Recipe) -> dict[str, float]:
    """Seconds to render and to read a picture of the recipe's corpus, pairs among them as in it."""
    started, files = time.process_time(), list(samples_of(recipe.world, recipe.corpus, SAMPLES))
    rendered = time.process_time() - started
    pictures = [Image.open(io.BytesIO(data)).convert("RGB") for data in files]
    read(pictures[0], strict=False)  # what is made once
    started = time.process_time()
    for picture in pictures:
        read(picture, strict=False)
    count = len(files)
    return {RENDERED: rendered / count, READ: (time.process_time() - started) / count}


def _step_seconds(stage: Stage, seconds: dict[str, float]) -> float:
    config = stage.config
    edits = sum(share for name, share in config.mixture.items() if group_kind(name) != "t2i")
    one = sum(seconds[kind] * (edits if edit else 1 - edits) for kind, edit in KINDS.items())
    return one * config.layout().accumulation


def _pass_seconds(model: ModelConfig, stage: Stage) -> dict[str, float]:
    """Seconds of a pass forward and backward, by kind of sample."""
    pipeline = fresh_pipeline(model, train_tokenizer([], model.image_tokens))
    prepare_parts(pipeline, stage.config)
    trained = GoTModel.of(pipeline, stage.config.loss, stage.objective)
    stage.objective.prepare(trained)
    trained.train()
    found = {}
    for kind, edit in KINDS.items():
        batch = _batch(pipeline, stage, model, edit)
        found[kind] = _quickest(lambda batch=batch: _pass(trained, batch, stage.config.bf16))  # type: ignore[misc]
    return found


def _pass(model: GoTModel, batch: dict[str, Tensor], bf16: bool) -> None:
    with mixed_precision("cpu", bf16):
        losses = model(batch, torch.Generator().manual_seed(0))
    losses["loss"].backward()
    model.zero_grad()


def _quickest(work: Callable[[], None]) -> float:
    work()
    seconds = []
    for _ in range(PASSES):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return min(seconds)


def _batch(pipeline: GoTPipeline, stage: Stage, model: ModelConfig, edit: bool) -> dict[str, Tensor]:
    """A batch of average length with values."""
    shapes = training_batch(pipeline, stage.config, model, BudgetConfig(), edit)
    return {name: torch.randn(one.shape) if one.is_meta else one for name, one in shapes.items()}
