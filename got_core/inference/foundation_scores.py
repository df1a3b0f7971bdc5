"""How a foundation does by itself, before GoT training: what it plans, and what its U-Net draws.

Belongs here: which benchmarks it is given at which size, and the figures of its card. Not here: their rules
(``got_core.evaluate``), or training it (``got_core.foundation``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from got_core.digests import digest
from got_core.evaluate.benchmarks import GENEVAL, SCENE_EDITS, Benchmark
from got_core.evaluate.config import EvaluateConfig
from got_core.foundation.guided import PhraseGuidedPipeline
from got_core.model.pipeline import GoTPipeline
from got_core.recipes import Recipe
from got_core.storage import Storage
from got_core.train.run import Reference
from got_core.train.start import starting_pipeline

FOLDER = "foundation_scores"
IMAGES_PER_TASK, EDITS = 25, 84
"""Pictures of each task, and edits, that it is scored by."""

Report = Callable[[str], None]


def score_foundation(
    storage: Storage, reference: Reference, recipe: Recipe, report: Report | None = None
) -> dict[str, float]:
    """Shares of plans and pictures that are right, and the grounding's mean IoU, by name.

    Pictures are drawn by the U-Net guided by the language model's own states, and by the text encoder that it
    was trained with. What is in storage already is not drawn again. Raises as ``runner.run_benchmark``.
    """
    report = report or (lambda line: None)
    config = replace(
        recipe.evaluate,
        images_per_task=min(IMAGES_PER_TASK, recipe.evaluate.images_per_task),
        edit_images=min(EDITS, recipe.evaluate.edit_images),
        sampling_seeds=(0,),
        repair="off",
        keep_outside="off",
    )
    folder = f"{FOLDER}/{reference['weights_hash'][:12]}"
    key = digest([config.measuring(), recipe.world])
    if storage.exists(f"{folder}/{key}.json"):
        return storage.read_json(f"{folder}/{key}.json")
    model = storage.download(reference["folder"])
    torch.set_num_threads(os.cpu_count() or 1)  # nothing else computes meanwhile
    own = starting_pipeline(model, reference["stage"], recipe.model, recipe.foundation.seed)
    guided = PhraseGuidedPipeline.around(own)
    figures: dict[str, float] = {}
    for benchmark in (GENEVAL, SCENE_EDITS):
        for pipeline, by in ((own, "itself"), (guided, "text encoder")):
            scores = _scores(benchmark, pipeline, by, recipe, config, storage, reference, folder, report)
            figures |= dict(_figures(benchmark.name, by, scores))
    storage.write_json(f"{folder}/{key}.json", figures)
    return figures


def _scores(
    benchmark: Benchmark,
    pipeline: GoTPipeline,
    by: str,
    recipe: Recipe,
    config: EvaluateConfig,
    storage: Storage,
    reference: Reference,
    folder: str,
    report: Report,
) -> Mapping[str, Any]:
    from got_core.evaluate.runner import run_benchmark

    started, title = time.monotonic(), f"{benchmark.name}, guided by {by}"

    def progress(done: int, total: int) -> None:
        if done:
            left = (time.monotonic() - started) * (total - done) / done
            report(f"{title}: {done} of {total} pictures, {left / 60:.0f} minutes left")

    suite = benchmark.suite(recipe.world, config)
    place = f"{folder}/{benchmark.folder}-{by.replace(' ', '-')}"
    hashed = digest([reference["weights_hash"], by])
    return run_benchmark(suite, pipeline, storage, place, progress, weights_hash=hashed).scores


def _figures(name: str, by: str, scores: Mapping[str, Any]) -> list[tuple[str, float]]:
    found = [(f"{name}: right, guided by {by}", scores["overall"])]
    if by == "itself":  # both write the same plans
        found.append((f"{name}: plans right", scores["plan_overall"]))
        if grounding := scores.get("grounding"):
            found.append((f"{name}: grounding IoU", grounding["mean"]))
    return [(label, float(value)) for label, value in found if value is not None]
