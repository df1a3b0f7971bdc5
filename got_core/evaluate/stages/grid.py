"""The same request drawn by the models of all stages, side by side.

Belongs here: one picture. Not here: drawing anything (`scoring`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from PIL import Image

from got_core.evaluate.benchmarks import Benchmark
from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.samples import Drawn, read_samples
from got_core.evaluate.stages.models import StageModel
from got_core.evaluate.stages.scoring import FirstOfEach
from got_core.evaluate.suite import sampler_arguments
from got_core.figures.grids import PAPER, GridItem, picture_grid, png_bytes
from got_core.scenes.world import World
from got_core.storage import Storage


def stage_grid(
    models: Sequence[StageModel],
    benchmarks: Sequence[Benchmark],
    world: World,
    config: EvaluateConfig,
    storage: Storage,
) -> bytes:
    """PNG of the first request of each task, one row each: the source of an edit, or a blank, and what each
    model drew from its own plan, with the plan's boxes. Requests that a model has no picture of are left out;
    empty where all are."""
    items: list[GridItem] = []
    for one in benchmarks:
        items += _items(models, one, FirstOfEach(one.suite(world, config), 1), storage)
    return png_bytes(picture_grid(items, columns=len(models) + 1)) if items else b""


def _items(
    models: Sequence[StageModel], benchmark: Benchmark, suite: Any, storage: Storage
) -> Iterator[GridItem]:
    drawn = [_drawn(model, benchmark, suite, storage) for model in models]
    size = (suite.world.size, suite.world.size)
    for index, request in suite.requests("x").items():
        if all(index in one for one in drawn):
            yield GridItem(request.source or Image.new("RGB", size, PAPER), request.prompt)
            for model, one in zip(models, (found[index] for found in drawn), strict=True):
                yield GridItem(one.image, model.title, one.outlines, suite.judge(index, one)["correct"])


def _drawn(model: StageModel, benchmark: Benchmark, suite: Any, storage: Storage) -> dict[int, Drawn]:
    requests = suite.requests(f"{benchmark.pictures_of}/{model.weights_hash[:12]}")
    sampler = sampler_arguments(suite.config)
    return read_samples(storage, requests, sampler=sampler, weights_hash=model.weights_hash)
