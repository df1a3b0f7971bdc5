"""A model by its name on benchmarks by theirs.

Belongs here: from names to scores. Not here: the benchmarks (`got_core.evaluate`), scores that a registered
version carries (`got_core.registry`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from got_core.evaluate.benchmarks import Benchmark, benchmarks_named, open_pipeline
from got_core.model.formats.weights import weights_hash
from got_core.recipes import Recipe
from got_core.registry.reference import model_folder
from got_core.storage import Storage


@dataclass(frozen=True, kw_only=True)
class ModelScores:
    """Scores of a model, by benchmark."""

    model: str
    """Its full name, as `model_folder` gives it."""

    weights_hash: str
    scores: dict[str, dict[str, Any]]
    folders: dict[str, str]
    """URL of the pictures and samples of each benchmark."""


def score_model(
    reference: str,
    names: Sequence[str],
    recipe: Recipe,
    storage: Storage,
    tracking_uri: str,
    progress: Callable[[str], None] = lambda line: None,
) -> ModelScores:
    """Score a model on the named benchmarks, or on those that score one by default; world, sizes and seeds
    are the recipe's.

    Pictures of these weights that are in the storage already are not drawn again. `progress` is given a line
    after each batch. Raises ValueError for an unknown benchmark, before anything is loaded; else as
    `model_folder` and the benchmarks.
    """
    chosen = benchmarks_named(names)
    with model_folder(reference, tracking_uri) as (folder, name):
        weights = weights_hash(folder)
        pipeline = open_pipeline(folder)
        scores = {
            one.name: one.score(
                pipeline, recipe.world, recipe.evaluate, storage, weights, _counting(one, progress)
            ).scores
            for one in chosen
        }
    folders = {one.name: storage.url_of(one.prefix(weights)) for one in chosen}
    return ModelScores(model=name, weights_hash=weights, scores=scores, folders=folders)


def _counting(benchmark: Benchmark, progress: Callable[[str], None]) -> Callable[[int, int], None]:
    return lambda done, total: progress(f"{benchmark.name}: {done} of {total} {benchmark.unit}")
